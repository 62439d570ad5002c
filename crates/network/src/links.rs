//! The links of our networks on the host, found by the mark that they bear.

use std::{collections::BTreeSet, io};

use gantry_domain::NetworkId;
use netlink_packet_route::{RouteNetlinkMessage, link::LinkMessage};

use crate::{
    driver::bridge::{self, gone_is_fine},
    link,
    netlink::Route,
    settings::NetworkSettings,
};

/// Takes a network's links away: those of the `known` names at once, else all that bear its id.
pub fn remove(id: &NetworkId, known: &[String], settings: &NetworkSettings) -> io::Result<()> {
    let host = Route::open()?;
    let is_its =
        |link: &LinkMessage| bridge::network_of(link, settings).is_some_and(|of| of.is_empty() || of == id.as_str());
    if known.is_empty() {
        for link in all(&host)?.iter().filter(|link| bridge::network_of(link, settings) == Some(id.as_str())) {
            gone_is_fine(host.execute(vec![link::delete_index(link.header.index)]))?;
        }
        return Ok(());
    }
    for name in known {
        // Not there, or the administrator's own.
        if let Some(link) = bridge::find(&host, name)?.filter(is_its) {
            gone_is_fine(host.execute(vec![link::delete_index(link.header.index)]))?;
        }
    }
    Ok(())
}

/// The networks that links on the host belong to.
pub fn networks(settings: &NetworkSettings) -> io::Result<BTreeSet<NetworkId>> {
    let links = all(&Route::open()?)?;
    Ok(links.iter().filter_map(|link| NetworkId::parse(bridge::network_of(link, settings)?).ok()).collect())
}

fn all(host: &Route) -> io::Result<Vec<LinkMessage>> {
    let messages = host.dump(link::all_links())?.into_iter();
    Ok(messages
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .collect())
}
