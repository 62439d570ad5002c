//! The bridge driver: a bridge of the kernel's on the host, a veth pair for each container.

use std::{io, net::IpAddr};

use gantry_domain::{
    Error, NetworkId, Result,
    network::{
        IpamConfig, NetworkRecord,
        options::{self, GatewayMode},
    },
};
use ipnet::IpNet;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressAttribute,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
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
            icc: network.flag(options::ICC, icc)?,
            masquerade: network.flag(options::MASQUERADE, masquerade)?,
            v4: network.gateway_mode(false)?,
            v6: network.gateway_mode(true)?,
            sources: [network.host_address(false)?, network.host_address(true)?].into_iter().flatten().collect(),
            trusted: network.trusted_interfaces()?.into_iter().map(str::to_owned).collect(),
        }))
    }

    fn check(&self, network: &NetworkRecord) -> Result<()> {
        let name = &network.bridge;
        match find(&Route::open()?, name)? {
            Some(link) if !is_bridge(&link) => {
                Err(Error::system(format!("cannot make bridge {name}: existing interface {name} is not a bridge")))
            }
            _ => Ok(()),
        }
    }

    fn create(&self, network: &NetworkRecord, settings: &NetworkSettings) -> Result<()> {
        let mut wanted = gateways(network)?;
        let inhibited = network.flag(options::INHIBIT_V4, false)?;
        let (v4, v6) = (network.gateway_mode(false)?, network.gateway_mode(true)?);
        wanted.retain(|net| match net {
            IpNet::V4(_) => !inhibited && v4 != GatewayMode::Isolated,
            IpNet::V6(_) => v6 != GatewayMode::Isolated,
        });
        ensure(network, settings, &wanted, mtu(network, settings)?)
            .map_err(|error| Error::from(error).context(format!("cannot make bridge {}", network.bridge)))
    }

    fn join(&self, join: &Join<'_>) -> io::Result<()> {
        let endpoint = join.endpoint;
        let mac = gantry_domain::network::endpoint::mac(&endpoint.mac)
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
        join.host.execute(link::create_veth(&veth, !may_talk(join.network, join.settings)))
    }

    fn is_joined(&self, join: &Join<'_>, host_end_at: Option<u32>) -> io::Result<bool> {
        Ok(host_end_at == Some(join.host.index_of(&join.network.bridge)?))
    }
}

/// Whether containers of this network reach each other.
fn may_talk(network: &NetworkRecord, settings: &NetworkSettings) -> bool {
    let default = if network.predefined { settings.icc } else { true };
    network.flag(options::ICC, default).unwrap_or(default)
}

fn ensure(network: &NetworkRecord, settings: &NetworkSettings, wanted: &[IpNet], mtu: u32) -> io::Result<()> {
    let host = Route::open()?;
    let name = &network.bridge;
    let found = find(&host, name)?;
    // The administrator's own bridge keeps what it has.
    let foreign = found.as_ref().is_some_and(|link| !is_ours(link, settings));
    let alias = alias(settings, network);
    match &found {
        None => create_marked(&host, name, mtu, &alias)?,
        Some(link) if !is_bridge(link) => {
            return Err(io::Error::other(format!("existing interface {name} is not a bridge")));
        }
        Some(link) if !foreign && alias_of(link) != Some(&alias) => {
            host.execute(vec![link::set_alias(name, &alias)])?;
        }
        Some(_) => {}
    }
    let v6 = wanted.iter().any(|net| net.addr().is_ipv6());
    if v6 || !foreign {
        sysctl::set_where_present(&format!("net/ipv6/conf/{name}/disable_ipv6"), if v6 { "0" } else { "1" })?;
    }
    if !foreign {
        sysctl::set_where_present(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
    }
    let index = host.index_of(name)?;
    let present = addresses(&host, index)?;
    let stale = present.iter().filter(|net| !foreign && !wanted.contains(net) && !is_link_local(net));
    let mut steps: Vec<_> = stale.map(|net| link::delete_address(index, *net)).collect();
    steps.extend(wanted.iter().filter(|net| !present.contains(net)).map(|net| link::add_address(index, *net)));
    steps.push(link::set_up(index));
    host.execute(steps)
}

/// Makes the bridge and marks it in one send, so that a gantryd that is killed leaves no link that is nobody's.
fn create_marked(host: &Route, name: &str, mtu: u32, alias: &str) -> io::Result<()> {
    let steps = vec![link::create_bridge(name, random_mac(), mtu), link::set_alias(name, alias)];
    let made = host.execute(steps);
    if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
        // Somebody made one of this name since it was looked for, and the mark went to that one.
        host.execute(vec![link::set_alias(name, "")])?;
    }
    made
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
    Ok(network.mtu()?.unwrap_or(if network.predefined { settings.mtu } else { 0 }))
}

/// The name becomes part of the firewall's text and of paths.
fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.@".contains(c);
    if name.is_empty() || name.len() > NAME_MAX || name == "." || name == ".." || !name.chars().all(allowed) {
        return Err(Error::invalid(format!("invalid bridge name: {name}")));
    }
    Ok(())
}

/// The mark on links of ours: `gantry:`, the engine, and the network they belong to.
pub fn alias(settings: &NetworkSettings, network: &NetworkRecord) -> String {
    alias_for(settings, &network.id)
}

pub fn alias_for(settings: &NetworkSettings, network: &NetworkId) -> String {
    format!("gantry:{}:{network}", settings.engine)
}

/// What follows the engine in a link's mark: the network's id, or nothing on a link that an older gantryd made. `None`
/// for a link that is not ours.
pub fn network_of<'a>(link: &'a LinkMessage, settings: &NetworkSettings) -> Option<&'a str> {
    let rest = alias_of(link)?.strip_prefix("gantry:")?.strip_prefix(settings.engine.0.as_str())?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix(':') }
}

pub fn is_ours(link: &LinkMessage, settings: &NetworkSettings) -> bool {
    network_of(link, settings).is_some()
}

fn is_bridge(link: &LinkMessage) -> bool {
    let is = |info: &LinkInfo| *info == LinkInfo::Kind(InfoKind::Bridge);
    link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.iter().any(is)))
}

pub fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn alias_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => Some(alias.as_str()),
        _ => None,
    })
}

pub fn find(host: &Route, name: &str) -> io::Result<Option<LinkMessage>> {
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
