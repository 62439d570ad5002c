//! Drivers: how the networks of one kind are made, and how a container's end gets into one.

use std::{io, net::IpAddr, os::fd::BorrowedFd};

use gantry_domain::{Result, container::record::Endpoint, network::NetworkRecord};

use crate::{link, netlink::Route, rules::BridgeRules, settings::NetworkSettings, sysctl};

pub mod bridge;
pub mod lent;
mod parented;

/// One kind of network.
pub trait Driver: Send + Sync {
    /// What the firewall must know of it, checked before anything is made.
    fn rules(&self, network: &NetworkRecord, settings: &NetworkSettings) -> Result<Option<BridgeRules>>;
    /// The host's interface that the network hangs on, and may share with others of its kind.
    fn parent(&self, _: &NetworkRecord) -> Option<String> {
        None
    }
    /// Whether what is on the host already can be this network's. Nothing is changed.
    fn check(&self, _: &NetworkRecord) -> Result<()> {
        Ok(())
    }
    /// Makes or repairs the network's own links.
    fn create(&self, network: &NetworkRecord, settings: &NetworkSettings) -> Result<()>;
    /// Makes the container's interface, without addresses.
    fn join(&self, join: &Join<'_>) -> io::Result<()>;
    /// Whether the interface that is there already, with this end on the host (by the index it belongs to), is the one
    /// that `join` would make.
    fn is_joined(&self, join: &Join<'_>, host_end_at: Option<u32>) -> io::Result<bool>;
}

/// One endpoint to be made. The calling thread is in the container's namespace.
pub struct Join<'a> {
    pub network: &'a NetworkRecord,
    pub endpoint: &'a Endpoint,
    pub settings: &'a NetworkSettings,
    /// On the host.
    pub host: &'a Route,
    /// In the container.
    pub inside: &'a Route,
    pub namespace: BorrowedFd<'a>,
    /// Name of the end that stays on the host.
    pub host_interface: &'a str,
    /// Name of the end in the container.
    pub interface: &'a str,
}

/// Joins, then addresses and settings of the container's end. The thread is in the container's namespace.
pub fn join(driver: &dyn Driver, join: &Join<'_>) -> io::Result<()> {
    driver.join(join)?;
    let endpoint = join.endpoint;
    let index = join.inside.index_of(join.interface)?;
    // With the setting, nothing of IPv6 comes up by itself: no link-local address, no router's advertisement.
    let v6 = endpoint.ipv6.is_some();
    sysctl::set_where_present(&format!("net/ipv6/conf/{}/disable_ipv6", join.interface), if v6 { "0" } else { "1" })?;
    sysctl::set_where_present(&format!("net/ipv6/conf/{}/accept_ra", join.interface), "0")?;
    let mut steps = Vec::new();
    steps.extend(endpoint.ipv4.map(|net| link::add_address(index, net.into())));
    steps.extend(endpoint.ipv6.map(|net| link::add_address(index, net.into())));
    steps.extend(endpoint.link_local.iter().map(|ip| link::add_address(index, link_local(*ip))));
    steps.push(link::set_up(index));
    if join.network.is_routed_by_parent() && !join.network.internal {
        steps.extend(endpoint.ipv4.map(|_| link::add_device_route(index, false)));
        steps.extend(endpoint.ipv6.map(|_| link::add_device_route(index, true)));
    }
    steps.extend(endpoint.lent.iter().flat_map(|lent| lent::routes(lent, index)));
    join.inside.execute(steps)?;
    for (key, value) in &endpoint.sysctls {
        sysctl::set(key, value)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot set sysctl {key}: {error}")))?;
    }
    Ok(())
}

/// With the prefix of its kind.
fn link_local(ip: IpAddr) -> ipnet::IpNet {
    let prefix = if ip.is_ipv4() { 16 } else { 64 };
    ipnet::IpNet::new(ip, prefix).unwrap_or_else(|_| ip.into())
}

/// The driver of that name. What is not built in is a plugin, and was found before it came here.
pub fn named(name: &str) -> &'static dyn Driver {
    match name {
        "bridge" => &bridge::Bridge,
        "host" | "null" | "none" => &Nothing,
        "macvlan" => &parented::MACVLAN,
        "ipvlan" => &parented::IPVLAN,
        _ => &lent::Lent,
    }
}

/// `host` and `null`: the host's namespace as it is, or a namespace with nothing but loopback.
struct Nothing;

impl Driver for Nothing {
    fn rules(&self, _: &NetworkRecord, _: &NetworkSettings) -> Result<Option<BridgeRules>> {
        Ok(None)
    }
    fn create(&self, _: &NetworkRecord, _: &NetworkSettings) -> Result<()> {
        Ok(())
    }
    fn join(&self, _: &Join<'_>) -> io::Result<()> {
        Ok(())
    }
    fn is_joined(&self, _: &Join<'_>, _: Option<u32>) -> io::Result<bool> {
        Ok(true)
    }
}
