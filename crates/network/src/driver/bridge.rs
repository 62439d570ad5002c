//! The bridge driver: a bridge of the kernel's on the host, a veth pair for each container.

use std::{io, net::IpAddr};

use gantry_domain::{
    Error, Result,
    network::{IpamConfig, NetworkRecord},
};
use ipnet::IpNet;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressAttribute,
    link::{LinkAttribute, LinkMessage},
};

use super::{Driver, Join};
use rand::RngExt as _;

use crate::{
    link::{self, Mac, Veth},
    netlink::Route,
    rules::BridgeRules,
    settings::NetworkSettings,
    sysctl,
};

const OPTION_MTU: &str = "com.docker.network.driver.mtu";
const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// Longest name of an interface.
const NAME_MAX: usize = 15;

pub struct Bridge;

impl Driver for Bridge {
    fn rules(&self, network: &NetworkRecord, settings: &NetworkSettings) -> Result<Option<BridgeRules>> {
        check_name(&network.bridge)?;
        mtu(network, settings)?;
        let (icc, masquerade) =
            if network.predefined { (settings.icc, settings.ip_masq) } else { (true, settings.ip_masq) };
        Ok(Some(BridgeRules {
            network: network.id.to_string(),
            subnets: gateways(network)?,
            internal: network.internal,
            icc: flag(network, OPTION_ICC, icc)?,
            masquerade: flag(network, OPTION_MASQUERADE, masquerade)?,
        }))
    }

    fn create(&self, network: &NetworkRecord, settings: &NetworkSettings) -> Result<()> {
        let wanted = gateways(network)?;
        ensure(network, settings, &wanted, mtu(network, settings)?)
            .map_err(|error| Error::from(error).context(format!("cannot make bridge {}", network.bridge)))
    }

    fn remove(&self, network: &NetworkRecord, settings: &NetworkSettings) -> Result<()> {
        let host = Route::open()?;
        match find(&host, &network.bridge)? {
            Some(link) if alias_of(&link) == Some(&alias(settings)) => {
                Ok(gone_is_fine(host.execute(vec![link::delete(&network.bridge)]))?)
            }
            // Not there, or the administrator's own.
            _ => Ok(()),
        }
    }

    fn join(&self, join: &Join<'_>) -> io::Result<()> {
        let endpoint = join.endpoint;
        let mac = link::parse_mac(&endpoint.mac)
            .or_else(|| link::mac_of(endpoint.ipv4.map(|net| net.addr()), endpoint.ipv6.map(|net| net.addr())))
            .unwrap_or_else(random_mac);
        let veth = Veth {
            name: join.host_interface,
            bridge: join.host.index_of(&join.network.bridge)?,
            peer_name: join.interface,
            peer_mac: mac,
            peer_namespace: join.namespace,
            mtu: mtu(join.network, join.settings).map_err(io::Error::other)?,
        };
        join.host.execute(link::create_veth(&veth, !may_talk(join.network, join.settings)))?;
        address(join)
    }

    fn leave(&self, host: &Route, host_interface: &str) -> io::Result<()> {
        gone_is_fine(host.execute(vec![link::delete(host_interface)]))
    }
}

/// Whether containers of this network reach each other.
fn may_talk(network: &NetworkRecord, settings: &NetworkSettings) -> bool {
    let default = if network.predefined { settings.icc } else { true };
    flag(network, OPTION_ICC, default).unwrap_or(default)
}

/// Addresses and routes of the container's end, in one send.
fn address(join: &Join<'_>) -> io::Result<()> {
    let endpoint = join.endpoint;
    let index = join.inside.index_of(join.interface)?;
    // With the setting, nothing of IPv6 comes up by itself: no link-local address, no router's advertisement.
    let v6 = endpoint.ipv6.is_some();
    sysctl::set_where_present(&format!("net/ipv6/conf/{}/disable_ipv6", join.interface), if v6 { "0" } else { "1" })?;
    sysctl::set_where_present(&format!("net/ipv6/conf/{}/accept_ra", join.interface), "0")?;
    let mut steps = Vec::new();
    steps.extend(endpoint.ipv4.map(|net| link::add_address(index, net.into())));
    steps.extend(endpoint.ipv6.map(|net| link::add_address(index, net.into())));
    steps.push(link::set_up(index));
    if join.default_route && !join.network.internal {
        let gateways = [endpoint.ipv4_gateway.map(Into::into), endpoint.ipv6_gateway.map(Into::into)];
        steps.extend(gateways.into_iter().flatten().map(link::add_default_route));
    }
    join.inside.execute(steps)
}

fn ensure(network: &NetworkRecord, settings: &NetworkSettings, wanted: &[IpNet], mtu: u32) -> io::Result<()> {
    let host = Route::open()?;
    let name = &network.bridge;
    if find(&host, name)?.is_none() {
        host.execute(vec![link::create_bridge(name, random_mac(), mtu)])?;
        host.execute(vec![link::set_alias(host.index_of(name)?, &alias(settings))])?;
    }
    let v6 = wanted.iter().any(|net| net.addr().is_ipv6());
    sysctl::set_where_present(&format!("net/ipv6/conf/{name}/disable_ipv6"), if v6 { "0" } else { "1" })?;
    sysctl::set_where_present(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
    let index = host.index_of(name)?;
    let present = addresses(&host, index)?;
    let stale = present.iter().filter(|net| !wanted.contains(net) && !is_link_local(net));
    let mut steps: Vec<_> = stale.map(|net| link::delete_address(index, *net)).collect();
    steps.extend(wanted.iter().filter(|net| !present.contains(net)).map(|net| link::add_address(index, *net)));
    steps.push(link::set_up(index));
    host.execute(steps)
}

/// The gateway's address of each pool, with the pool's prefix.
pub fn gateways(network: &NetworkRecord) -> Result<Vec<IpNet>> {
    network.ipam.config.iter().flatten().filter(|pool| !pool.subnet.is_empty()).map(gateway).collect()
}

fn gateway(pool: &IpamConfig) -> Result<IpNet> {
    let bad = |text: &str| Error::invalid(format!("invalid CIDR address: {text}"));
    let subnet: IpNet = pool.subnet.parse().map_err(|_| bad(&pool.subnet))?;
    let address = match pool.gateway.split('/').next().unwrap_or_default() {
        "" => first_host(subnet),
        text => text.parse().map_err(|_| bad(text))?,
    };
    IpNet::new(address, subnet.prefix_len()).map_err(|_| bad(&pool.subnet))
}

/// The one behind the network's own, which ipnet counts among the hosts of an IPv6 network.
fn first_host(subnet: IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(network) => IpAddr::V4(u32::from(network).saturating_add(1).into()),
        IpAddr::V6(network) => IpAddr::V6(u128::from(network).saturating_add(1).into()),
    }
}

fn mtu(network: &NetworkRecord, settings: &NetworkSettings) -> Result<u32> {
    match network.options.get(OPTION_MTU) {
        Some(text) => text.parse().map_err(|_| Error::invalid(format!("failed to parse {OPTION_MTU} value: {text}"))),
        None if network.predefined => Ok(settings.mtu),
        None => Ok(0),
    }
}

fn flag(network: &NetworkRecord, option: &str, default: bool) -> Result<bool> {
    match network.options.get(option).map(String::as_str) {
        None => Ok(default),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(Error::invalid(format!("failed to parse {option} value: {other}"))),
    }
}

/// The name becomes part of the firewall's text and of paths.
fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.@".contains(c);
    if name.is_empty() || name.len() > NAME_MAX || name == "." || name == ".." || !name.chars().all(allowed) {
        return Err(Error::invalid(format!("invalid bridge name: {name}")));
    }
    Ok(())
}

/// The mark on links of ours.
pub fn alias(settings: &NetworkSettings) -> String {
    format!("gantry:{}", settings.engine)
}

pub fn alias_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => Some(alias.as_str()),
        _ => None,
    })
}

fn find(host: &Route, name: &str) -> io::Result<Option<LinkMessage>> {
    match host.get(link::get(name)) {
        Ok(RouteNetlinkMessage::NewLink(link)) => Ok(Some(link)),
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn addresses(host: &Route, index: u32) -> io::Result<Vec<IpNet>> {
    let all = host.dump(link::all_addresses())?;
    Ok(all.into_iter().filter_map(|message| address_on(message, index)).collect())
}

fn address_on(message: RouteNetlinkMessage, index: u32) -> Option<IpNet> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let ip = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    })?;
    (message.header.index == index).then(|| IpNet::new(ip, message.header.prefix_len).ok())?
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local())
}

fn random_mac() -> Mac {
    let tail: [u8; 4] = rand::rng().random();
    [0x02, 0x42, tail[0], tail[1], tail[2], tail[3]]
}

pub fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}
