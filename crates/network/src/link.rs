//! The netlink messages that make and change links, addresses and routes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
        InfoVeth, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    },
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use crate::netlink::Step;

/// Six octets.
pub type Mac = [u8; 6];

/// The loopback interface's index in every namespace.
pub const LOOPBACK: u32 = 1;

/// IPV6_MIN_MTU.
const MIN_MTU_V6: u32 = 1280;

/// One pair of interfaces, one end of it in another namespace.
pub struct Veth<'a> {
    pub name: &'a str,
    /// Index of the bridge that the end called `name` joins.
    pub bridge: u32,
    pub peer_name: &'a str,
    pub peer_mac: Mac,
    pub peer_namespace: BorrowedFd<'a>,
    /// 0 leaves it to the kernel.
    pub mtu: u32,
}

/// Makes both ends at once, the far one in its namespace, and takes the near one up at its bridge: without an IPv6
/// address of its own, and able to reach the bridge only where `isolated`.
pub fn create_veth(veth: &Veth<'_>, isolated: bool) -> Vec<Step> {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(veth.peer_name.into()),
        LinkAttribute::Address(veth.peer_mac.to_vec()),
        LinkAttribute::NetNsFd(veth.peer_namespace.as_raw_fd()),
    ];
    let mut near = LinkMessage::default();
    near.attributes = vec![LinkAttribute::IfName(veth.name.into()), LinkAttribute::Controller(veth.bridge)];
    if veth.mtu > 0 {
        near.attributes.push(LinkAttribute::Mtu(veth.mtu));
        peer.attributes.push(LinkAttribute::Mtu(veth.mtu));
    }
    near.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let mut up = by_name(veth.name);
    set_flag(&mut up, LinkFlags::Up);
    vec![
        (RouteNetlinkMessage::NewLink(near), NLM_F_CREATE | NLM_F_EXCL),
        (RouteNetlinkMessage::NewLink(port_settings(veth, isolated)), 0),
        (RouteNetlinkMessage::SetLink(up), 0),
    ]
}

/// Ports that are isolated reach the bridge, and each other not.
fn port_settings(veth: &Veth<'_>, isolated: bool) -> LinkMessage {
    let mut link = by_name(veth.name);
    // With a smaller MTU the kernel has no IPv6 on a link, and nothing to set.
    if veth.mtu == 0 || veth.mtu >= MIN_MTU_V6 {
        let v6 = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        link.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![v6])]));
    }
    if isolated {
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(true)])),
        ]));
    }
    link
}

/// Makes a bridge. With an address of its own it keeps that when ports come and go.
pub fn create_bridge(name: &str, mac: Mac, mtu: u32) -> Step {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.into()), LinkAttribute::Address(mac.to_vec())];
    if mtu > 0 {
        link.attributes.push(LinkAttribute::Mtu(mtu));
    }
    link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    (RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
}

/// Makes a link that does nothing but be a parent.
pub fn create_dummy(name: &str) -> Step {
    let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]);
    create(vec![LinkAttribute::IfName(name.into()), info])
}

/// Makes a veth pair with both ends here.
pub fn create_pair(name: &str, peer_name: &str) -> Step {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName(peer_name.into())];
    let info = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))];
    create(vec![LinkAttribute::IfName(name.into()), LinkAttribute::LinkInfo(info)])
}

/// Makes the part of a link that carries one VLAN.
pub fn create_vlan(name: &str, parent: u32, id: u16) -> Step {
    let info = vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(id)]))];
    create(vec![LinkAttribute::IfName(name.into()), LinkAttribute::Link(parent), LinkAttribute::LinkInfo(info)])
}

/// Makes a link on top of another one, at once in the namespace it is for.
pub fn create_child(
    name: &str,
    parent: u32,
    mac: Option<Mac>,
    mtu: u32,
    info: Vec<LinkInfo>,
    namespace: Option<BorrowedFd<'_>>,
) -> Step {
    let mut attributes = vec![LinkAttribute::IfName(name.into()), LinkAttribute::Link(parent)];
    attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    attributes.extend(namespace.map(|namespace| LinkAttribute::NetNsFd(namespace.as_raw_fd())));
    if mtu > 0 {
        attributes.push(LinkAttribute::Mtu(mtu));
    }
    attributes.push(LinkAttribute::LinkInfo(info));
    create(attributes)
}

fn create(attributes: Vec<LinkAttribute>) -> Step {
    let mut link = LinkMessage::default();
    link.attributes = attributes;
    (RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
}

/// An empty one takes it away.
pub fn set_alias(name: &str, alias: &str) -> Step {
    let mut link = by_name(name);
    link.attributes.push(LinkAttribute::IfAlias(alias.into()));
    (RouteNetlinkMessage::SetLink(link), 0)
}

pub fn set_up(index: u32) -> Step {
    let mut link = LinkMessage::default();
    link.header.index = index;
    set_flag(&mut link, LinkFlags::Up);
    (RouteNetlinkMessage::SetLink(link), 0)
}

pub fn set_down(index: u32) -> Step {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.change_mask |= LinkFlags::Up;
    (RouteNetlinkMessage::SetLink(link), 0)
}

/// Only of a link that is down.
pub fn rename(index: u32, name: &str) -> Step {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::IfName(name.into()));
    (RouteNetlinkMessage::SetLink(link), 0)
}

/// The same as `set_alias`, by index.
pub fn set_alias_at(index: u32, alias: &str) -> Step {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::IfAlias(alias.into()));
    (RouteNetlinkMessage::SetLink(link), 0)
}

/// Into another namespace, down, under a name that it has from then on.
pub fn move_to(index: u32, namespace: BorrowedFd<'_>, name: &str) -> Step {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.change_mask |= LinkFlags::Up;
    link.attributes = vec![LinkAttribute::NetNsFd(namespace.as_raw_fd()), LinkAttribute::IfName(name.into())];
    (RouteNetlinkMessage::SetLink(link), 0)
}

pub fn set_mac(index: u32, mac: Mac) -> Step {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::Address(mac.to_vec()));
    (RouteNetlinkMessage::SetLink(link), 0)
}

pub fn delete_index(index: u32) -> Step {
    let mut link = LinkMessage::default();
    link.header.index = index;
    (RouteNetlinkMessage::DelLink(link), 0)
}

pub fn get(name: &str) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(by_name(name))
}

/// The dump of all links, addresses or routes.
pub fn all_links() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(LinkMessage::default())
}

pub fn all_addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

pub fn all_routes(family: AddressFamily) -> RouteNetlinkMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family;
    RouteNetlinkMessage::GetRoute(route)
}

/// Gives an interface an address; that it has it already is no error.
pub fn add_address(index: u32, address: IpNet) -> Step {
    let mut message = AddressMessage::default();
    message.header.family = family_of(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
    match address {
        IpNet::V4(v4) => message.attributes.push(AddressAttribute::Broadcast(v4.broadcast())),
        // No other host can have it: it need not be tried before it is used.
        IpNet::V6(_) => message.header.flags = netlink_packet_route::address::AddressHeaderFlags::Nodad,
    }
    (RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
}

pub fn delete_address(index: u32, address: IpNet) -> Step {
    let (message, _) = add_address(index, address);
    match message {
        RouteNetlinkMessage::NewAddress(message) => (RouteNetlinkMessage::DelAddress(message), 0),
        other => (other, 0),
    }
}

/// Puts the default route of the gateway's family in, in place of the one that is there.
pub fn set_default_route(gateway: IpAddr) -> Step {
    let (message, _) = add_default_route(gateway);
    (message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// Name, hardware address and the interface that a link belongs to.
pub struct Described {
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    pub controller: Option<u32>,
    /// `veth`, `macvlan`, …
    pub kind: Option<InfoKind>,
}

pub fn describe(link: &LinkMessage) -> Described {
    let mut found =
        Described { index: link.header.index, name: String::new(), mac: None, controller: None, kind: None };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Address(octets) => found.mac = octets.as_slice().try_into().ok(),
            LinkAttribute::Controller(index) => found.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                found.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.clone()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    found
}

/// A default route that needs no gateway (ipvlan's l3 modes).
pub fn add_device_route(index: u32, v6: bool) -> Step {
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    (RouteNetlinkMessage::NewRoute(on_the_link(index, family)), NLM_F_CREATE | NLM_F_REPLACE)
}

/// A route to a net, by a next hop or on the link.
pub fn add_route(index: u32, to: IpNet, next_hop: Option<IpAddr>) -> Step {
    let mut route = on_the_link(index, family_of(to.addr()));
    route.header.destination_prefix_length = to.prefix_len();
    route.attributes.push(RouteAttribute::Destination(RouteAddress::from(to.trunc().addr())));
    if let Some(next_hop) = next_hop {
        route.header.scope = RouteScope::Universe;
        route.attributes.push(RouteAttribute::Gateway(RouteAddress::from(next_hop)));
    }
    (RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
}

fn on_the_link(index: u32, family: AddressFamily) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family;
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Boot;
    route.header.scope = RouteScope::Link;
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![RouteAttribute::Oif(index)];
    route
}

pub fn add_default_route(gateway: IpAddr) -> Step {
    let mut route = RouteMessage::default();
    route.header.address_family = family_of(gateway);
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Boot;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![RouteAttribute::Gateway(RouteAddress::from(gateway))];
    (RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL)
}

/// `02:42` and the IPv4 address, or the last four octets of the IPv6 one: the same address always has the same one, so
/// that nobody's neighbour table is wrong when an address is used again.
pub fn mac_of(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Option<Mac> {
    let tail = match (v4, v6) {
        (Some(v4), _) => v4.octets(),
        (None, Some(v6)) => *v6.octets().last_chunk()?,
        (None, None) => return None,
    };
    Some([0x02, 0x42, tail[0], tail[1], tail[2], tail[3]])
}

fn by_name(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.into())];
    link
}

fn set_flag(link: &mut LinkMessage, flag: LinkFlags) {
    link.header.flags |= flag;
    link.header.change_mask |= flag;
}

fn family_of(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_always_has_the_same_mac() {
        let v4 = Some(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac_of(v4, None), Some([2, 0x42, 172, 17, 0, 2]));
        assert_eq!(mac_of(v4, None), mac_of(v4, Some(Ipv6Addr::LOCALHOST)));
    }
}
