//! The networks that the host itself has or reaches, to keep new pools away from them.

use std::{collections::BTreeSet, io, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
};

use crate::{driver::bridge, link, netlink::Route, settings::NetworkSettings};

/// Destinations of the main table without default routes, and without those of our own bridges.
pub fn of_host(settings: &NetworkSettings) -> io::Result<Vec<IpNet>> {
    let host = Route::open()?;
    let own = own_links(&host, settings)?;
    let mut found = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for message in host.dump(link::all_routes(family))? {
            if let RouteNetlinkMessage::NewRoute(route) = message
                && is_main(&route)
                && !outgoing(&route).is_some_and(|index| own.contains(&index))
            {
                found.extend(destination(&route));
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn own_links(host: &Route, settings: &NetworkSettings) -> io::Result<BTreeSet<u32>> {
    let links = host.dump(link::all_links())?.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => bridge::is_ours(&link, settings).then_some(link.header.index),
        _ => None,
    });
    Ok(links.collect())
}

fn is_main(route: &RouteMessage) -> bool {
    route.header.table == RouteHeader::RT_TABLE_MAIN && route.header.kind == RouteType::Unicast
}

fn outgoing(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    let ip = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    IpNet::new(ip, route.header.destination_prefix_length).ok().filter(|net| net.prefix_len() > 0)
}
