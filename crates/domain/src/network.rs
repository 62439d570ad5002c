//! A network: a driver, its address pools and options; and the ports that containers publish through it.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NetworkId;

pub mod check;
pub mod endpoint;
pub mod hosts;
pub mod ipam;
pub mod lent;
pub mod links;
pub mod names;
pub mod options;
pub mod pool_facts;
pub mod resolv;

/// What the store keeps of a network. The predefined three (`bridge`, `host`, `none`) are made at the first start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkRecord {
    pub schema: u32,
    pub generation: u64,
    pub id: NetworkId,
    pub name: String,
    pub created: Timestamp,
    /// `bridge`, `host`, `null`, `macvlan`, `ipvlan`, or a plugin's name.
    pub driver: String,
    pub enable_ipv4: bool,
    pub enable_ipv6: bool,
    pub internal: bool,
    pub attachable: bool,
    pub ipam: Ipam,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// The host's interface for a bridge network.
    #[serde(default)]
    pub bridge: String,
    /// One of the predefined networks.
    #[serde(default)]
    pub predefined: bool,
    /// Only a template for networks to come (`--config-only`).
    #[serde(default)]
    pub config_only: bool,
    /// Name of the template that this one was made from.
    #[serde(default)]
    pub config_from: String,
    /// The pools of these families were asked for: static addresses may be taken from them.
    #[serde(default)]
    pub own_pools: Families,
    /// Its driver's networks are the same on every host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub global: bool,
    /// What plugins have lent for it, and must be given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lent: Option<lent::LentNetwork>,
}

/// The two families of addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Families {
    pub v4: bool,
    pub v6: bool,
}

impl NetworkRecord {
    /// A bridge network of that name with a new id, IPv4, and nothing else.
    pub fn named(name: &str) -> Self {
        Self {
            schema: crate::container::record::SCHEMA,
            generation: 0,
            id: NetworkId::random(),
            name: name.to_owned(),
            created: Timestamp::UNIX_EPOCH,
            driver: "bridge".to_owned(),
            enable_ipv4: true,
            enable_ipv6: false,
            internal: false,
            attachable: false,
            ipam: Ipam { driver: "default".to_owned(), options: None, config: None },
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            bridge: String::new(),
            predefined: false,
            config_only: false,
            config_from: String::new(),
            own_pools: Families::default(),
            global: false,
            lent: None,
        }
    }

    /// Whether its containers' ports are published on the host.
    pub fn publishes(&self) -> bool {
        self.driver == "bridge" && !self.internal
    }

    /// Whether names are resolved on it: on every network but the predefined ones.
    pub fn resolves_names(&self) -> bool {
        !self.predefined
    }

    /// The pools of one family.
    pub fn pools(&self, v6: bool) -> impl Iterator<Item = &IpamConfig> {
        let all = self.ipam.config.iter().flatten();
        all.filter(move |pool| pool.net().is_some_and(|net| net.addr().is_ipv6() == v6))
    }

    pub fn subnets(&self) -> impl Iterator<Item = ipnet::IpNet> {
        self.ipam.config.iter().flatten().filter_map(IpamConfig::net)
    }
}

/// Docker's `network.IPAM`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ipam {
    pub driver: String,
    pub options: Option<BTreeMap<String, String>>,
    pub config: Option<Vec<IpamConfig>>,
}

/// One pool, in text as Docker stores it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "BTreeMap::is_empty")]
    pub aux_address: BTreeMap<String, String>,
}

impl IpamConfig {
    /// The subnet, where it is one.
    pub fn net(&self) -> Option<ipnet::IpNet> {
        self.subnet.parse().ok()
    }

    /// The gateway without a prefix.
    pub fn gateway_address(&self) -> Option<IpAddr> {
        self.gateway.split('/').next()?.parse().ok()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port as asked: where the range of host ports is empty the engine chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    pub container_port: u16,
    pub protocol: Protocol,
    /// `None`: the unspecified address of both families.
    pub host_ip: Option<IpAddr>,
    /// Inclusive; `None` lets the engine choose from the ephemeral range.
    pub host_ports: Option<(u16, u16)>,
    /// Where it leads, of IPv4 and IPv6: for what is said of a failure.
    pub container_ips: [Option<IpAddr>; 2],
}

/// A port as it came to be; one entry for each address family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    pub container_port: u16,
    pub protocol: Protocol,
    pub host_ip: IpAddr,
    pub host_port: u16,
}
