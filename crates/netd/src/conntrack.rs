//! Forgets tracked UDP flows to an address that a container has no more: a client that goes on sending would be led there.

use std::net::IpAddr;

use gantry_wire::net::{IpProtocol, Port, Targets};
use rustix::io::Errno;

use crate::netlink::{
    Attributes, Message, NFNL_SUBSYS_CTNETLINK, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, Request, Socket,
};

const IPCTNL_MSG_CT_GET: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 1;
const IPCTNL_MSG_CT_DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Deletes the flows that were led to the UDP ports of `targets`. Does nothing where no UDP port is published.
pub fn forget_flows(ports: &[Port], targets: Targets) -> Result<(), Errno> {
    let udp: Vec<u16> = ports.iter().filter(|p| p.protocol == IpProtocol::UDP).map(|p| p.container_port).collect();
    if udp.is_empty() {
        return Ok(());
    }
    let socket = Socket::new(0)?;
    let families = [(AF_INET, targets.v4.map(IpAddr::V4)), (AF_INET6, targets.v6.map(IpAddr::V6))];
    for (family, target) in families.into_iter().filter_map(|(family, target)| Some((family, target?))) {
        for tuple in flows_of(&socket, family, target, &udp)? {
            let mut request = Request::default();
            request.message(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family, 0);
            request.attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, &tuple);
            // It may have ended by itself.
            let _ = socket.request(request);
        }
    }
    Ok(())
}

/// The original tuples of the flows whose replies come from `target` at one of `ports`.
fn flows_of(socket: &Socket, family: u8, target: IpAddr, ports: &[u16]) -> Result<Vec<Vec<u8>>, Errno> {
    let mut request = Request::default();
    request.message(IPCTNL_MSG_CT_GET, NLM_F_DUMP, family, 0);
    let mut tuples = Vec::new();
    socket.dump(request, |message| tuples.extend(led_to(message, target, ports)))?;
    Ok(tuples)
}

fn led_to(message: Message<'_>, target: IpAddr, ports: &[u16]) -> Option<Vec<u8>> {
    let attributes = message.attributes();
    let reply = attributes.nested(CTA_TUPLE_REPLY)?;
    let protocol = reply.nested(CTA_TUPLE_PROTO)?;
    let is_udp = protocol.find(CTA_PROTO_NUM)?.first() == Some(&IpProtocol::UDP.0);
    let from_target = source(reply.nested(CTA_TUPLE_IP)?)? == target;
    let from_port = ports.contains(&protocol.be16(CTA_PROTO_SRC_PORT)?);
    (is_udp && from_target && from_port).then(|| attributes.find(CTA_TUPLE_ORIG).map(<[u8]>::to_vec))?
}

fn source(addresses: Attributes<'_>) -> Option<IpAddr> {
    match addresses.find(CTA_IP_V4_SRC) {
        Some(v4) => v4.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        None => addresses.find(CTA_IP_V6_SRC)?.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
    }
}
