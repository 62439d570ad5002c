//! The links of our networks on the host, found by the mark that they bear.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use gantry_domain::NetworkId;
use netlink_packet_route::{RouteNetlinkMessage, link::LinkMessage};

use crate::{
    driver::bridge::{self, gone_is_fine},
    link,
    netlink::Route,
    settings::NetworkSettings,
};

/// Engines on one host, at most.
const MANY: usize = 100;

/// Takes a network's links away: those of the `known` names, else all that bear its id. Returns the indexes of those
/// that are only put aside: down, their names free, still marked. To wait for the kernel while it removes a bridge costs
/// more than all else.
pub fn remove(id: &NetworkId, known: &[String], settings: &NetworkSettings) -> io::Result<Vec<u32>> {
    let host = Route::open()?;
    let is_its =
        |link: &LinkMessage| bridge::network_of(link, settings).is_some_and(|of| of.is_empty() || of == id.as_str());
    if known.is_empty() {
        for link in all(&host)?.iter().filter(|link| bridge::network_of(link, settings) == Some(id.as_str())) {
            gone_is_fine(host.execute(vec![link::delete_index(link.header.index)]))?;
        }
        return Ok(Vec::new());
    }
    let mut aside = Vec::new();
    for name in known {
        // Not there, or the administrator's own.
        if let Some(link) = bridge::find(&host, name)?.filter(is_its) {
            let index = link.header.index;
            match host.execute(vec![link::set_down(index), link::rename(index, &format!("gone-{index}"))]) {
                Ok(()) => aside.push(index),
                Err(_) => gone_is_fine(host.execute(vec![link::delete_index(index)]))?,
            }
        }
    }
    Ok(aside)
}

/// Marks those links of a network as another's that the other one needs: `heirs`, by the link's name.
pub fn pass_on(from: &NetworkId, heirs: &BTreeMap<String, NetworkId>, settings: &NetworkSettings) -> io::Result<()> {
    if heirs.is_empty() {
        return Ok(());
    }
    let host = Route::open()?;
    for link in all(&host)?.iter().filter(|link| bridge::network_of(link, settings) == Some(from.as_str())) {
        if let Some(heir) = bridge::name_of(link).and_then(|name| heirs.get(name)) {
            let alias = bridge::alias_for(settings, heir);
            gone_is_fine(host.execute(vec![link::set_alias_at(link.header.index, &alias)]))?;
        }
    }
    Ok(())
}

/// `docker0`, unless somebody else's link has that name; then the first of `gantry0`, `gantry1` that nobody else has.
pub fn default_bridge(settings: &NetworkSettings) -> io::Result<String> {
    let host = Route::open()?;
    let names = std::iter::once("docker0".to_owned()).chain((0..MANY).map(|n| format!("gantry{n}")));
    for name in names {
        if bridge::find(&host, &name)?.is_none_or(|link| bridge::is_ours(&link, settings)) {
            return Ok(name);
        }
    }
    Err(io::Error::other("docker0 and all names for another default bridge belong to others"))
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
