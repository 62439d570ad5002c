//! What the resolver of one container knows.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

/// One container's resolver: where it looks, and under which names others find the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    /// In the order of look-up.
    pub networks: Vec<NetworkNames>,
    /// In the order in which they are asked.
    pub upstream: Vec<Upstream>,
    /// Whether anything may be asked of them: never from internal networks alone.
    pub forward: bool,
    /// Names without a dot are not asked upstream: the administrator set `ndots`, so the client completes them itself.
    pub dotless_stay: bool,
}

/// A container's place in one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkNames {
    pub id: String,
    /// A container is found as `web` and as `web.<name of the network>`.
    pub name: String,
    /// The container's own names there; the first one answers for its addresses.
    pub names: Vec<String>,
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    /// Links: names that only this container sees, with the name in this network that each stands for.
    pub aliases: BTreeMap<String, String>,
}

/// A name server to which what is not ours is forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Upstream {
    pub address: IpAddr,
    /// The interface of a link-local address.
    #[serde(default)]
    pub zone: Option<String>,
    /// Asked from the host's network namespace: a stub on the host's loopback.
    #[serde(default)]
    pub host: bool,
}
