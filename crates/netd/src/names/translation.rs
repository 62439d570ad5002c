//! Port 53 of 127.0.0.11 in a container's namespace leads to the resolver's own ports, so that the container may have a
//! name server of its own there. A table of ours, written whole in one transaction; no process.
//!
//! ```text
//! table ip gantry-names {
//!   chain output { type nat hook output priority dstnat;
//!     ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:<port>
//!     ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:<port>
//!   }
//! }
//! ```

use std::{
    io,
    net::SocketAddrV4,
    os::fd::{AsFd as _, OwnedFd},
};

use gantry_wire::net::IpProtocol;
use rustix::net::{getsockname, netlink::SocketAddrNetlink};

use crate::netlink::{NFNL_SUBSYS_NFTABLES, NLM_F_ACK, NLM_F_CREATE, Request, Socket};

const TABLE: &str = "gantry-names";
const CHAIN: &str = "output";
const DNS: u16 = 53;

const NFPROTO_IPV4: u8 = 2;
const NF_INET_LOCAL_OUT: u32 = 3;
const PRIORITY_DSTNAT: i32 = -100;
const NLM_F_APPEND: u16 = 0x800;

const NEW_TABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const DELETE_TABLE: u16 = NEW_TABLE | 2;
const NEW_CHAIN: u16 = NEW_TABLE | 3;
const NEW_RULE: u16 = NEW_TABLE | 6;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
/// The register, in `payload`, `meta`, `cmp` and `immediate`.
const NFTA_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;

const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const NAT_DNAT: u32 = 1;

/// Writes the table through a netfilter socket of the container's namespace, in place of an earlier one.
pub fn install(netfilter: OwnedFd, udp: SocketAddrV4, tcp: SocketAddrV4) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&netfilter, true)?;
    let portid = SocketAddrNetlink::try_from(getsockname(netfilter.as_fd())?)?.pid();
    let socket = Socket { fd: netfilter, portid };
    let mut request = Request::default();
    request.batch_begin();
    // Made, so that there is one to take away.
    table(&mut request, NEW_TABLE, NLM_F_CREATE);
    table(&mut request, DELETE_TABLE, 0);
    table(&mut request, NEW_TABLE, NLM_F_CREATE);
    chain(&mut request);
    rule(&mut request, IpProtocol::UDP, udp);
    rule(&mut request, IpProtocol::TCP, tcp);
    request.batch_end();
    Ok(socket.request(request)?)
}

fn table(request: &mut Request, kind: u16, flags: u16) {
    request.message(kind, flags | NLM_F_ACK, NFPROTO_IPV4, 0);
    request.text(NFTA_TABLE_NAME, TABLE);
}

fn chain(request: &mut Request) {
    request.message(NEW_CHAIN, NLM_F_CREATE | NLM_F_ACK, NFPROTO_IPV4, 0);
    request.text(NFTA_CHAIN_TABLE, TABLE);
    request.text(NFTA_CHAIN_NAME, CHAIN);
    request.nest(NFTA_CHAIN_HOOK, |hook| {
        hook.attribute(NFTA_HOOK_HOOKNUM, &NF_INET_LOCAL_OUT.to_be_bytes());
        hook.attribute(NFTA_HOOK_PRIORITY, &PRIORITY_DSTNAT.to_be_bytes());
    });
    request.text(NFTA_CHAIN_TYPE, "nat");
}

fn rule(request: &mut Request, protocol: IpProtocol, to: SocketAddrV4) {
    request.message(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, NFPROTO_IPV4, 0);
    request.text(NFTA_RULE_TABLE, TABLE);
    request.text(NFTA_RULE_CHAIN, CHAIN);
    request.nest(NFTA_RULE_EXPRESSIONS, |list| {
        let address = to.ip().octets();
        expression(list, "payload", |load| payload(load, NETWORK_HEADER, 16, 4));
        expression(list, "cmp", |cmp| equals(cmp, &address));
        expression(list, "meta", |meta| {
            meta.attribute(NFTA_META_KEY, &META_L4PROTO.to_be_bytes());
            meta.attribute(NFTA_DREG, &REGISTER_1.to_be_bytes());
        });
        expression(list, "cmp", |cmp| equals(cmp, &[protocol.0]));
        expression(list, "payload", |load| payload(load, TRANSPORT_HEADER, 2, 2));
        expression(list, "cmp", |cmp| equals(cmp, &DNS.to_be_bytes()));
        expression(list, "immediate", |value| immediate(value, REGISTER_1, &address));
        expression(list, "immediate", |value| immediate(value, REGISTER_2, &to.port().to_be_bytes()));
        expression(list, "nat", |nat| {
            nat.attribute(NFTA_NAT_TYPE, &NAT_DNAT.to_be_bytes());
            nat.attribute(NFTA_NAT_FAMILY, &u32::from(NFPROTO_IPV4).to_be_bytes());
            nat.attribute(NFTA_NAT_REG_ADDR_MIN, &REGISTER_1.to_be_bytes());
            nat.attribute(NFTA_NAT_REG_PROTO_MIN, &REGISTER_2.to_be_bytes());
        });
    });
}

fn expression(list: &mut Request, name: &str, data: impl FnOnce(&mut Request)) {
    list.nest(NFTA_LIST_ELEM, |element| {
        element.text(NFTA_EXPR_NAME, name);
        element.nest(NFTA_EXPR_DATA, data);
    });
}

fn payload(data: &mut Request, base: u32, offset: u32, length: u32) {
    data.attribute(NFTA_DREG, &REGISTER_1.to_be_bytes());
    data.attribute(NFTA_PAYLOAD_BASE, &base.to_be_bytes());
    data.attribute(NFTA_PAYLOAD_OFFSET, &offset.to_be_bytes());
    data.attribute(NFTA_PAYLOAD_LEN, &length.to_be_bytes());
}

fn equals(data: &mut Request, value: &[u8]) {
    data.attribute(NFTA_DREG, &REGISTER_1.to_be_bytes());
    // NFT_CMP_EQ
    data.attribute(NFTA_CMP_OP, &0u32.to_be_bytes());
    data.nest(NFTA_CMP_DATA, |inner| inner.attribute(NFTA_DATA_VALUE, value));
}

fn immediate(data: &mut Request, register: u32, value: &[u8]) {
    data.attribute(NFTA_DREG, &register.to_be_bytes());
    data.nest(NFTA_IMMEDIATE_DATA, |inner| inner.attribute(NFTA_DATA_VALUE, value));
}
