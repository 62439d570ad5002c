//! What gantryd and gantry-netd say to each other: published ports, firewall rules, names, sockets to keep.
//!
//! One control frame a request, one a reply, in order, on a unix stream; descriptors travel beside their frame. The
//! caller says `Hello` first. netd is the only writer of the firewall table, so that what it watches is what it wrote.
//!
//! A container's ports go through these states:
//!
//! ```text
//!            Hold (+ sockets)             Lead (targets, elements)
//!   nothing ────────────────► reserved ───────────────────────────► leading
//!      ▲                        │   ▲                                  │
//!      └──────── Release ───────┘   └────────────── Rest ──────────────┘
//! ```
//!
//! A container's resolver has two sockets in the container's namespace, made by gantryd (which keeps copies for the next
//! netd) and served by netd from the first `Resolve` to `Unresolve`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

mod element;
mod names;

pub use element::{Element, Field};
pub use names::{NetworkNames, Resolver, Upstream};

/// Version of this protocol; grows when an older peer would misunderstand.
pub const VERSION: u32 = 1;
/// Sockets that one `Hold` or `Sockets` carries at most.
pub const SOCKETS_PER_MESSAGE: usize = crate::fd::MAX_FDS;
/// Name of netd's socket in its folder.
pub const SOCKET: &str = "netd.sock";

/// A protocol by its number in the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IpProtocol(pub u8);

impl IpProtocol {
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const SCTP: Self = Self(132);
}

/// One published port of one address family; its socket is bound already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    pub protocol: IpProtocol,
    pub host_ip: IpAddr,
    pub host_port: u16,
    pub container_port: u16,
}

/// Where a container's published ports lead to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Targets {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

impl Targets {
    /// Those that differ from the others'.
    pub fn without(self, others: Self) -> Self {
        Self { v4: self.v4.filter(|_| self.v4 != others.v4), v6: self.v6.filter(|_| self.v6 != others.v6) }
    }

    /// The container's address for a client that came to `host_ip`: of the same family, else of the other one.
    pub fn reached_from(&self, host_ip: IpAddr) -> Option<IpAddr> {
        let (v4, v6) = (self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6));
        if host_ip.is_ipv4() { v4.or(v6) } else { v6.or(v4) }
    }
}

/// What gantryd asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    Hello {
        version: u32,
    },
    /// The `inet` table's static part in nft's language, applied at once and atomically together with all elements,
    /// and replayed when somebody removes it. An empty text removes the table. `elements` are those of the text that
    /// come and go with networks, and `frame` is the text without them: as long as it stays the same, the elements
    /// that came or went are all that is written. An older netd does not know of either and writes the text.
    Rules {
        table: String,
        text: String,
        #[serde(default)]
        frame: String,
        #[serde(default)]
        elements: Vec<Element>,
    },
    /// Reserved ports; their sockets come in the same order. Adds to what is held.
    Hold {
        container: String,
        ports: Vec<Port>,
    },
    /// The container runs: relay what comes to its ports, and put these elements into the table's sets and maps.
    Lead {
        container: String,
        targets: Targets,
        elements: Vec<Element>,
    },
    /// The container stopped: connections end, elements go, sockets stay.
    Rest {
        container: String,
    },
    /// Gives the container's ports back.
    Release {
        container: String,
    },
    /// All containers with held ports.
    Held,
    /// The sockets of a container's ports, from the given position.
    Sockets {
        container: String,
        from: usize,
    },
    /// Keeps one socket under a name; replaces an earlier one.
    Keep {
        name: String,
    },
    /// The kept socket of that name, duplicated; netd goes on holding it.
    Kept {
        name: String,
    },
    Forget {
        name: String,
    },
    /// Chains of other tables that drop forwarded packets by policy.
    ForeignDrops,
    /// Answers the container's look-ups, and makes its names known to the others of its networks; replaces what was
    /// said before. Beside the first one come its datagram and its listening socket, and as a third, where port 53 is
    /// not translated to them yet, a netfilter socket of the container's namespace.
    Resolve {
        container: String,
        resolver: Resolver,
    },
    /// Look-ups wait from now on, until `Answer` or until nobody is connected: a netd that has been told of half the
    /// containers would deny that the others exist.
    Hush,
    Answer,
    /// Closes the container's resolver; its names are known no more.
    Unresolve {
        container: String,
    },
    /// All containers with a resolver.
    Resolvers,
    /// What was said of one, with its two sockets.
    Resolver {
        container: String,
    },
    /// From a newer peer.
    #[serde(other)]
    Unknown,
}

/// What netd answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    Hello {
        version: u32,
    },
    Done,
    Failed {
        message: String,
    },
    Held {
        containers: BTreeMap<String, Vec<Port>>,
    },
    /// With as many sockets.
    Sockets {
        ports: Vec<Port>,
    },
    /// With the socket where there is one.
    Kept {
        found: bool,
    },
    ForeignDrops {
        chains: Vec<String>,
    },
    Resolvers {
        containers: Vec<String>,
    },
    /// With the datagram and the listening socket.
    Resolver {
        resolver: Resolver,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_of_a_newer_version_is_known_as_unknown() {
        let request: Request = serde_json::from_str(r#"{"type":"foretell","name":"web"}"#).unwrap();
        assert_eq!(request, Request::Unknown);
    }

    #[test]
    fn a_v6_client_reaches_a_container_that_has_only_v4() {
        let targets = Targets { v4: Some([172, 17, 0, 2].into()), v6: None };
        let reached = targets.reached_from(Ipv6Addr::LOCALHOST.into());
        assert_eq!(reached, Some(IpAddr::from([172, 17, 0, 2])));
    }
}
