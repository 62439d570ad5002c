//! Addresses of a run: one endpoint for each network, taken from the network's pool.

use std::{collections::BTreeMap, net::Ipv4Addr};

use gantry_domain::{
    ContainerId, Error, Result,
    container::{ContainerRecord, record::Endpoint},
    id::random_hex,
    network::NetworkRecord,
};

use crate::claims::{AddressRange, Claims};

/// The networks a container is in, by the name it was asked under.
pub(crate) fn networks_of(record: &ContainerRecord, claims: &Claims) -> Result<Vec<(String, NetworkRecord)>> {
    record.networks.keys().map(|name| Ok((name.clone(), claims.network(name)?.clone()))).collect()
}

/// Takes an address in each network that gives addresses. `previous` is the run before: its address is taken again
/// where it is free. All or nothing.
pub(crate) fn reserve(claims: &mut Claims, record: &ContainerRecord) -> Result<BTreeMap<String, Endpoint>> {
    let networks = networks_of(record, claims)?;
    let mut endpoints = BTreeMap::new();
    for (index, (name, network)) in networks.iter().enumerate() {
        match endpoint(claims, record, name, network, index) {
            Ok(endpoint) => endpoints.insert(name.clone(), endpoint),
            Err(error) => {
                claims.free_addresses(&record.id);
                return Err(error);
            }
        };
    }
    Ok(endpoints)
}

fn endpoint(
    claims: &mut Claims,
    record: &ContainerRecord,
    name: &str,
    network: &NetworkRecord,
    index: usize,
) -> Result<Endpoint> {
    let mut endpoint =
        Endpoint { network_id: Some(network.id.clone()), endpoint_id: random_hex(), ..Endpoint::default() };
    let Some(range) = AddressRange::of(network) else { return Ok(endpoint) };
    let wanted = &record.networks[name];
    let address = address(claims, record, name, network, &range)?;
    let gateway = network.ipam.config.as_deref().unwrap_or_default().iter().find_map(|pool| pool.gateway.parse().ok());
    endpoint.ipv4 = ipnet::Ipv4Net::new(address, range.subnet.prefix_len()).ok();
    endpoint.ipv4_gateway = gateway.filter(|_| !network.internal);
    endpoint.interface = format!("eth{index}");
    endpoint.mac = match wanted.mac_address.as_str() {
        "" if !record.config.mac_address.is_empty() => record.config.mac_address.clone(),
        "" => mac_of(address),
        typed => typed.to_owned(),
    };
    Ok(endpoint)
}

fn address(
    claims: &mut Claims,
    record: &ContainerRecord,
    name: &str,
    network: &NetworkRecord,
    range: &AddressRange,
) -> Result<Ipv4Addr> {
    let typed = record.networks[name].ipam_config.as_ref().map(|ipam| ipam.ipv4_address.as_str()).unwrap_or_default();
    if !typed.is_empty() {
        let address = typed.parse().map_err(|_| Error::invalid(format!("invalid IPv4 address: {typed}")))?;
        claims.take_address(&network.id, address, &record.id)?;
        return Ok(address);
    }
    let previous = record.run.as_ref().and_then(|run| run.endpoints.get(name)).and_then(|endpoint| endpoint.ipv4);
    if let Some(previous) = previous.map(|net| net.addr())
        && range.subnet.contains(&previous)
        && claims.take_address(&network.id, previous, &record.id).is_ok()
    {
        return Ok(previous);
    }
    claims.next_address(&network.id, &record.id, range)
}

/// dockerd's rule for a MAC without a wish: locally administered, the address in its last four bytes.
fn mac_of(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Takes the addresses of a run that is on, after a restart of the engine.
pub(crate) fn retake(claims: &mut Claims, id: &ContainerId, endpoints: &BTreeMap<String, Endpoint>) {
    for endpoint in endpoints.values() {
        if let (Some(network), Some(net)) = (&endpoint.network_id, endpoint.ipv4) {
            // Two living containers cannot have one address; if records say so, the first keeps the claim.
            let _ = claims.take_address(network, net.addr(), id);
        }
    }
}
