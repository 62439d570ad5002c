//! Endpoints of a run: one for each network, with addresses from the network's pools.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use gantry_domain::{
    ContainerId, Error, Result,
    container::{ContainerRecord, EndpointSettings, record::Endpoint},
    id::random_hex,
    network::{
        NetworkRecord,
        endpoint::{self, OPTION_NAME},
        options::GatewayMode,
    },
};
use ipnet::IpNet;

use crate::claims::Claims;

/// With it no interface of a container has IPv6.
const NO_IPV6: &str = "net.ipv6.conf.all.disable_ipv6";

/// The network that a container's entry means: the one it was in before, else the one of that name.
pub(crate) fn network_of<'a>(claims: &'a Claims, name: &str, asked: &EndpointSettings) -> Result<&'a NetworkRecord> {
    if !asked.network_id.is_empty() {
        let known = claims.networks.get(asked.network_id.as_str());
        // The predefined ones go by their names: they may have been made anew.
        if known.is_some() || claims.network(name).is_ok_and(|network| !network.predefined) {
            return known.ok_or_else(|| Error::not_found(format!("network {} not found", asked.network_id)));
        }
    }
    claims.network(name)
}

/// The networks a container is in, by the name it was asked under.
pub(crate) fn networks_of(record: &ContainerRecord, claims: &Claims) -> Result<Vec<(String, NetworkRecord)>> {
    let networks = record.networks.iter();
    networks.map(|(name, asked)| Ok((name.clone(), network_of(claims, name, asked)?.clone()))).collect()
}

/// Puts each network's name in place of what was typed, and its id beside it.
pub(crate) fn normalize(record: &mut ContainerRecord, claims: &Claims) -> Result<()> {
    let found = networks_of(record, claims)?;
    for (typed, network) in found {
        if let Some(mut asked) = record.networks.remove(&typed) {
            asked.network_id = network.id.to_string();
            record.networks.insert(network.name, asked);
        }
    }
    Ok(())
}

/// Takes a place in each network, with addresses where they are ours to give. `record.run` is the run before: its
/// addresses are taken again where they are free. All or nothing.
pub(crate) fn reserve(claims: &mut Claims, record: &ContainerRecord) -> Result<Vec<(NetworkRecord, Endpoint)>> {
    let mut made = Vec::new();
    for (_, network) in networks_of(record, claims)? {
        match join(claims, record, &network) {
            Ok(endpoint) => made.push((network, endpoint)),
            Err(error) => {
                claims.leave_networks(&record.id);
                return Err(error);
            }
        };
    }
    Ok(made)
}

/// Numbers and names of interfaces, by which endpoint leads outside.
pub(crate) fn arrange(
    record: &ContainerRecord,
    mut made: Vec<(NetworkRecord, Endpoint)>,
) -> BTreeMap<String, Endpoint> {
    endpoint::sort(&mut made);
    let mut endpoints = BTreeMap::new();
    for (network, mut endpoint) in made {
        place(&mut endpoint, &network, &record.networks[&network.name], &endpoints);
        endpoints.insert(network.name, endpoint);
    }
    endpoints
}

/// Takes a place in one network more, for a container that runs.
pub(crate) fn reserve_one(claims: &mut Claims, record: &ContainerRecord, network: &NetworkRecord) -> Result<Endpoint> {
    let joined = join(claims, record, network);
    if joined.is_err() {
        claims.leave_network(&network.id, &record.id);
    }
    joined
}

fn join(claims: &mut Claims, record: &ContainerRecord, network: &NetworkRecord) -> Result<Endpoint> {
    if network.config_only {
        return Err(Error::forbidden("cannot create endpoint on configuration-only network"));
    }
    let asked = &record.networks[&network.name];
    let mut endpoint = Endpoint {
        network_id: Some(network.id.clone()),
        endpoint_id: random_hex(),
        gw_priority: asked.gw_priority,
        ..Endpoint::default()
    };
    if network.resolves_names() {
        endpoint.dns_names = endpoint::dns_names(record, asked.aliases.as_deref());
    }
    claims.join_network(&network.id, &record.id, &endpoint.endpoint_id);
    if network.ipam_plugin().is_none() {
        if let Some(IpNet::V4(net)) = address(claims, record, network, false)? {
            endpoint.ipv4 = Some(net);
        }
        if !is_without_ipv6(record)
            && let Some(IpNet::V6(net)) = address(claims, record, network, true)?
        {
            endpoint.ipv6 = Some(net);
        }
    }
    add_gateways(&mut endpoint, network)?;
    let link_local = asked.ipam_config.iter().filter_map(|ipam| ipam.link_local_ips.as_ref()).flatten();
    endpoint.link_local = link_local.filter_map(|text| text.parse().ok()).collect();
    endpoint.mac = asked_mac(record, network, asked);
    add_mac(&mut endpoint, network);
    Ok(endpoint)
}

pub(crate) fn is_without_ipv6(record: &ContainerRecord) -> bool {
    record.host_config.sysctls.get(NO_IPV6).is_some_and(|value| value == "1")
}

/// Of a plugin's network the plugin says them, at the join.
pub(crate) fn add_gateways(endpoint: &mut Endpoint, network: &NetworkRecord) -> Result<()> {
    if network.driver_plugin().is_some() {
        return Ok(());
    }
    if let Some(net) = endpoint.ipv4
        && let Some(IpAddr::V4(gateway)) = gateway(network, net.into())?
    {
        endpoint.ipv4_gateway = Some(gateway);
    }
    if let Some(net) = endpoint.ipv6
        && let Some(IpAddr::V6(gateway)) = gateway(network, net.into())?
    {
        endpoint.ipv6_gateway = Some(gateway);
    }
    Ok(())
}

/// An address of one family: the one asked for, the one of the run before, or the next; none where the network has no
/// pool of that family.
fn address(claims: &mut Claims, record: &ContainerRecord, network: &NetworkRecord, v6: bool) -> Result<Option<IpNet>> {
    let pools: Vec<IpNet> = network.pools(v6).filter_map(|pool| pool.net()).collect();
    if pools.is_empty() {
        return Ok(None);
    }
    let prefixed = |address: IpAddr| {
        let pool = pools.iter().find(|pool| pool.contains(&address));
        pool.and_then(|pool| IpNet::new(address, pool.prefix_len()).ok())
    };
    let ipam = record.networks[&network.name].ipam_config.as_ref();
    let typed = ipam.map(|ipam| if v6 { &ipam.ipv6_address } else { &ipam.ipv4_address });
    if let Some(typed) = typed.filter(|typed| !typed.is_empty()) {
        let family = if v6 { "IPv6" } else { "IPv4" };
        let address = typed.parse().map_err(|_| Error::invalid(format!("invalid {family} address: {typed}")))?;
        claims.take_address(network, address, &record.id)?;
        return Ok(prefixed(address));
    }
    let before = record.run.as_ref().and_then(|run| run.endpoints.get(&network.name));
    let before = before.filter(|endpoint| endpoint.network_id.as_ref() == Some(&network.id)).and_then(|endpoint| {
        if v6 { endpoint.ipv6.map(|net| net.addr().into()) } else { endpoint.ipv4.map(|net| net.addr().into()) }
    });
    if let Some(before) = before
        && claims.take_address(network, before, &record.id).is_ok()
    {
        return Ok(prefixed(before));
    }
    claims.next_address(network, v6, &record.id).map(Some)
}

/// Where a container's packets leave the network; nowhere from an internal one.
fn gateway(network: &NetworkRecord, address: IpNet) -> Result<Option<IpAddr>> {
    let v6 = address.addr().is_ipv6();
    let without =
        network.internal || network.gateway_mode(v6)? == GatewayMode::Isolated || network.is_routed_by_parent();
    if without {
        return Ok(None);
    }
    let pool = network.pools(v6).find(|pool| pool.net().is_some_and(|net| net.contains(&address.addr())));
    Ok(pool.and_then(gantry_domain::network::IpamConfig::gateway_address))
}

/// Empty where none was asked for.
pub(crate) fn asked_mac(record: &ContainerRecord, network: &NetworkRecord, asked: &EndpointSettings) -> String {
    let mode = &record.host_config.network_mode;
    let is_main = *mode == network.name || *mode == network.id.as_str() || record.networks.len() == 1;
    match (asked.mac_address.as_str(), record.config.mac_address.as_str()) {
        // All share the parent's.
        _ if network.driver == "ipvlan" => String::new(),
        ("", general) if is_main => general.to_owned(),
        (typed, _) => typed.to_owned(),
    }
}

/// The one that follows from the address. A plugin chooses one itself, and addresses of a plugin are not there yet.
pub(crate) fn add_mac(endpoint: &mut Endpoint, network: &NetworkRecord) {
    let later = network.ipam_plugin().is_some() && endpoint.lent.is_none();
    if !endpoint.mac.is_empty() || network.driver == "ipvlan" || network.driver_plugin().is_some() || later {
        return;
    }
    endpoint.mac = match (endpoint.ipv4, endpoint.ipv6) {
        (Some(v4), _) => mac_of(v4.addr()),
        (None, Some(v6)) => {
            let [.., a, b, c, d] = v6.addr().octets();
            mac_of(Ipv4Addr::new(a, b, c, d))
        }
        (None, None) => random_mac(),
    };
}

pub(crate) fn random_mac() -> String {
    mac_of(Ipv4Addr::from(rand::random::<u32>()))
}

/// dockerd's rule for a MAC without a wish: locally administered, the address in its last four bytes.
fn mac_of(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Number and interface of an endpoint among those that are there; a plugin names its interface at the join.
pub(crate) fn place(
    endpoint: &mut Endpoint,
    network: &NetworkRecord,
    asked: &EndpointSettings,
    present: &BTreeMap<String, Endpoint>,
) {
    let slots: BTreeSet<u8> = present.values().map(|other| other.slot).collect();
    endpoint.slot = (0..=u8::MAX).find(|slot| !slots.contains(slot)).unwrap_or(u8::MAX);
    if network.driver == "null" || network.driver == "host" || network.driver_plugin().is_some() {
        return;
    }
    let named = asked.driver_opts.as_ref().and_then(|options| options.get(OPTION_NAME));
    endpoint.interface = named.cloned().unwrap_or_else(|| next_interface(network.interface_prefix(), present));
    endpoint.sysctls = endpoint::sysctls(asked, &endpoint.interface);
}

/// The first name with this beginning that no interface of the container has.
pub(crate) fn next_interface(prefix: &str, present: &BTreeMap<String, Endpoint>) -> String {
    let taken = |name: &String| present.values().any(|other| other.interface == *name);
    (0..=u8::MAX).map(|at| format!("{prefix}{at}")).find(|name| !taken(name)).unwrap_or_default()
}

/// Takes the places of a run that is on, after a restart of the engine.
pub(crate) fn retake(claims: &mut Claims, id: &ContainerId, endpoints: &BTreeMap<String, Endpoint>) {
    for endpoint in endpoints.values() {
        let Some(network) = &endpoint.network_id else { continue };
        claims.join_network(network, id, &endpoint.endpoint_id);
        let addresses = [endpoint.ipv4.map(|net| net.addr().into()), endpoint.ipv6.map(|net| net.addr().into())];
        for address in addresses.into_iter().flatten() {
            claims.retake_address(network, address, id);
        }
    }
}
