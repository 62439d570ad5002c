//! The driver options of a network, read and checked.

use std::net::IpAddr;

use super::NetworkRecord;
use crate::{Error, Result};

pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub const MTU: &str = "com.docker.network.driver.mtu";
pub const ICC: &str = "com.docker.network.bridge.enable_icc";
pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub const GATEWAY_MODE_V4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
pub const GATEWAY_MODE_V6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
pub const INHIBIT_V4: &str = "com.docker.network.bridge.inhibit_ipv4";
pub const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
pub const HOST_V4: &str = "com.docker.network.host_ipv4";
pub const HOST_V6: &str = "com.docker.network.host_ipv6";
pub const CONTAINER_PREFIX: &str = "com.docker.network.container_iface_prefix";
pub const ENABLE_V4: &str = "com.docker.network.enable_ipv4";
pub const ENABLE_V6: &str = "com.docker.network.enable_ipv6";
pub const PARENT: &str = "parent";
pub const MACVLAN_MODE: &str = "macvlan_mode";
pub const IPVLAN_MODE: &str = "ipvlan_mode";
pub const IPVLAN_FLAG: &str = "ipvlan_flag";

/// How what is outside of a bridge reaches its containers, for each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Masquerade, published ports only.
    #[default]
    Nat,
    /// Masquerade, and every port of a container can be reached from where there is a route.
    NatUnprotected,
    /// No translation: published ports are opened at the container's own address.
    Routed,
    /// The bridge has no address; only for internal networks.
    Isolated,
}

impl NetworkRecord {
    /// A flag; `InvalidParameter` for what is none.
    pub fn flag(&self, option: &str, default: bool) -> Result<bool> {
        match self.options.get(option) {
            None => Ok(default),
            Some(text) => {
                bool_of(text).ok_or_else(|| Error::invalid(format!("failed to parse {option} value: {text}")))
            }
        }
    }

    pub fn mtu(&self) -> Result<Option<u32>> {
        match self.options.get(MTU) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(mtu) => Ok(Some(mtu)),
                Err(_) => Err(Error::invalid(format!("failed to parse {MTU} value: {text}"))),
            },
        }
    }

    pub fn gateway_mode(&self, v6: bool) -> Result<GatewayMode> {
        let option = if v6 { GATEWAY_MODE_V6 } else { GATEWAY_MODE_V4 };
        match self.options.get(option).map(String::as_str) {
            None | Some("" | "nat") => Ok(GatewayMode::Nat),
            Some("nat-unprotected") => Ok(GatewayMode::NatUnprotected),
            Some("routed") => Ok(GatewayMode::Routed),
            Some("isolated") if self.internal => Ok(GatewayMode::Isolated),
            Some("isolated") => Err(Error::invalid("gateway mode 'isolated' can only be used for an internal network")),
            Some(other) => Err(Error::invalid(format!("unknown gateway mode {other}"))),
        }
    }

    /// The host's address that ports are published on where none is asked for.
    pub fn host_binding(&self) -> Result<Option<IpAddr>> {
        match self.options.get(HOST_BINDING).map(String::as_str) {
            None | Some("" | "0.0.0.0") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Error::invalid(format!("failed to parse {HOST_BINDING} value: {text}"))),
        }
    }

    /// The host's address under which its containers go out; none for that of the interface they leave by.
    pub fn host_address(&self, v6: bool) -> Result<Option<IpAddr>> {
        let option = if v6 { HOST_V6 } else { HOST_V4 };
        let Some(text) = self.options.get(option).filter(|text| !text.is_empty()) else { return Ok(None) };
        let address = text.parse().ok().filter(|address: &IpAddr| address.is_ipv6() == v6);
        match address {
            Some(address) => Ok(Some(address)),
            None => Err(Error::invalid(format!("failed to parse {option} value: {text}"))),
        }
    }

    /// Interfaces of the host from which everything in the network can be reached.
    pub fn trusted_interfaces(&self) -> Result<Vec<&str>> {
        let text = self.options.get(TRUSTED).map(String::as_str).unwrap_or_default();
        let names: Vec<&str> = text.split(':').filter(|name| !name.is_empty()).collect();
        match names.iter().find(|name| !super::endpoint::is_interface_name(name)) {
            Some(bad) => Err(Error::invalid(format!("invalid interface name: {bad}"))),
            None => Ok(names),
        }
    }

    /// The parent interface of `macvlan` and `ipvlan`; none where a link without an outside is to be made.
    pub fn parent(&self) -> Option<&str> {
        self.options.get(PARENT).map(String::as_str).filter(|name| !name.is_empty() && !self.internal)
    }

    /// `l2`, `l3` or `l3s` for `ipvlan`; `bridge`, `private`, `vepa` or `passthru` for `macvlan`.
    pub fn parent_mode(&self) -> Result<&str> {
        let (option, modes): (_, &[&str]) = match self.driver.as_str() {
            "ipvlan" => (IPVLAN_MODE, &["l2", "l3", "l3s"]),
            _ => (MACVLAN_MODE, &["bridge", "private", "vepa", "passthru"]),
        };
        match self.options.get(option).map(String::as_str) {
            None | Some("") => Ok(modes[0]),
            Some(mode) if modes.contains(&mode) => Ok(mode),
            Some(mode) => Err(Error::invalid(format!(
                "requested {0} mode '{mode}' is not valid, '{1}' mode is the {0} driver default",
                self.driver, modes[0]
            ))),
        }
    }

    /// `bridge`, `private` or `vepa`.
    pub fn ipvlan_flag(&self) -> Result<&str> {
        match self.options.get(IPVLAN_FLAG).map(String::as_str) {
            None | Some("") => Ok("bridge"),
            Some(flag @ ("bridge" | "private" | "vepa")) => Ok(flag),
            Some(flag) => Err(Error::invalid(format!(
                "requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default"
            ))),
        }
    }

    /// ipvlan's l3 modes: no neighbours are asked, everything goes to the parent.
    pub fn is_routed_by_parent(&self) -> bool {
        self.driver == "ipvlan" && self.parent_mode().is_ok_and(|mode| mode != "l2")
    }

    /// The first letters of interfaces in its containers.
    pub fn interface_prefix(&self) -> &str {
        match self.options.get(CONTAINER_PREFIX).map(String::as_str) {
            None | Some("") => "eth",
            Some(prefix) => prefix,
        }
    }
}

/// A truth value as Go reads it.
pub fn bool_of(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_to_go_out_under_is_of_its_family() {
        let mut network = NetworkRecord::named("x");
        assert_eq!(network.host_address(false).unwrap(), None);
        network.options.insert(HOST_V4.into(), "192.0.2.9".into());
        network.options.insert(HOST_V6.into(), "192.0.2.9".into());
        assert_eq!(network.host_address(false).unwrap(), Some([192, 0, 2, 9].into()));
        assert!(network.host_address(true).is_err());
    }

    #[test]
    fn an_ipvlan_flag_is_one_of_three() {
        let mut network = NetworkRecord::named("x");
        assert_eq!(network.ipvlan_flag().unwrap(), "bridge");
        network.options.insert(IPVLAN_FLAG.into(), "shared".into());
        let error = network.ipvlan_flag().unwrap_err();
        assert_eq!(
            error.message(),
            "requested ipvlan flag 'shared' is not valid, 'bridge' is the ipvlan driver default"
        );
    }

    #[test]
    fn only_an_internal_network_can_be_isolated_from_the_host() {
        let mut network = NetworkRecord::named("x");
        network.options.insert(GATEWAY_MODE_V4.into(), "isolated".into());
        assert!(network.gateway_mode(false).is_err());
        network.internal = true;
        assert_eq!(network.gateway_mode(false).unwrap(), GatewayMode::Isolated);
        assert_eq!(network.gateway_mode(true).unwrap(), GatewayMode::Nat);
    }
}
