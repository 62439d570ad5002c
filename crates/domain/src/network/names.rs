//! Under which names containers find each other, and what one container's resolver is told.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    NetworkId,
    container::{ContainerRecord, validate::modes::parse_link},
    network::NetworkRecord,
};

/// Where the resolver answers, in each container of a network that has names.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// What the resolver of one container knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolverSetup {
    /// In the order of look-up.
    pub networks: Vec<NetworkNames>,
    /// In the order in which they are asked.
    pub servers: Vec<NameServer>,
    /// Whether they may be asked at all: not for a container that is in internal networks alone.
    pub forward: bool,
    /// Names without a dot are not asked of them: `ndots` is set, and the client completes such names itself.
    pub dotless_stay: bool,
}

/// A container's place in one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkNames {
    pub id: NetworkId,
    pub network: String,
    /// The first one answers for the addresses.
    pub names: Vec<String>,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// Links: what only this container sees, with the name that it stands for.
    pub aliases: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameServer {
    pub address: IpAddr,
    /// The interface of a link-local address.
    pub zone: Option<String>,
    /// Asked from the host's network: the host's own servers, which may be stubs on its loopback.
    pub host: bool,
}

/// Whether containers of this network find each other by name: in all but the predefined ones.
pub fn has_names(network: &NetworkRecord) -> bool {
    !network.predefined
}

/// The resolver's part of one network: `None` where the container has no address there or the network no names.
pub fn place(record: &ContainerRecord, asked_as: &str, network: &NetworkRecord) -> Option<NetworkNames> {
    let endpoint = record.run.as_ref()?.endpoints.get(asked_as)?;
    if !has_names(network) || (endpoint.ipv4.is_none() && endpoint.ipv6.is_none()) {
        return None;
    }
    let wanted = record.networks.get(asked_as);
    let links = wanted.and_then(|wanted| wanted.links.as_deref()).unwrap_or_default();
    let links = links.iter().filter_map(|link| parse_link(link).ok());
    Some(NetworkNames {
        id: network.id.clone(),
        network: network.name.clone(),
        names: endpoint.dns_names.clone(),
        ipv4: endpoint.ipv4.map(|net| net.addr()),
        ipv6: endpoint.ipv6.map(|net| net.addr()),
        aliases: links
            .map(|(target, alias)| (alias.to_ascii_lowercase(), target.trim_start_matches('/').to_owned()))
            .collect(),
    })
}
