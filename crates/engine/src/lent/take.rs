//! Taking an endpoint of plugins: addresses of one, the endpoint itself of the other.
//!
//! It goes on where its caller is cut off, so that an answer which comes late is not lost; then it is given back.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use gantry_domain::{
    ContainerId, Error, Result,
    container::record::Endpoint,
    network::{
        NetworkRecord,
        lent::{Debt, Lent, LentAddress, LentPool, Owed},
    },
    ports::{AddressRequest, EndpointOptions, Gift},
};
use ipnet::IpNet;

use super::{Holding, shown};
use crate::{
    container::random_mac,
    parts::{Parts, detached},
};

const MAC_OPTION: &str = "com.docker.network.endpoint.macaddress";

/// An endpoint that has its place, and no addresses of a plugin yet.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub container: ContainerId,
    /// Its name, for what is said of it.
    pub name: String,
    pub network: NetworkRecord,
    pub endpoint: Endpoint,
    /// Addresses that were asked for, of each family.
    pub asked: [Option<IpAddr>; 2],
    /// It has no IPv6.
    pub without_ipv6: bool,
    pub options: EndpointOptions,
}

/// The endpoint with the mark, and what holds it until its record is durable.
pub(crate) async fn take(parts: &Arc<Parts>, mut wanted: Wanted) -> Result<(Endpoint, Holding)> {
    let name = |plugin: Option<&str>| plugin.unwrap_or_default().to_owned();
    let (driver, ipam) = (name(wanted.network.driver_plugin()), name(wanted.network.ipam_plugin()));
    wanted.endpoint.lent = Some(Box::new(Lent { driver, ipam, ..Lent::default() }));
    let debt = Debt::of_endpoint(&wanted.container, &wanted.endpoint);
    let debt = debt.ok_or_else(|| Error::system("an endpoint without a network"))?;
    let parts = parts.clone();
    detached(async move {
        let mut holding = Holding::begin(&parts, debt).await?;
        if wanted.network.ipam_plugin().is_some() {
            take_addresses(&parts, &mut wanted, &mut holding).await.map_err(shown)?;
        }
        if wanted.network.driver_plugin().is_some() {
            make(&parts, &mut wanted).await.map_err(shown)?;
        }
        Ok((wanted.endpoint, holding))
    })
    .await
}

async fn take_addresses(parts: &Parts, wanted: &mut Wanted, holding: &mut Holding) -> Result<()> {
    let ipam = wanted.network.ipam.driver.clone();
    let mut options = BTreeMap::new();
    if parts.ports.plugins.ipam(&ipam).await?.needs_mac {
        if wanted.endpoint.mac.is_empty() {
            wanted.endpoint.mac = random_mac();
        }
        options.insert(MAC_OPTION.to_owned(), wanted.endpoint.mac.clone());
    }
    for v6 in [false, true] {
        let all = wanted.network.lent.iter().flat_map(|lent| &lent.pools);
        let family: Vec<&LentPool> = all.filter(|pool| pool.net.addr().is_ipv6() == v6).collect();
        if family.is_empty() || (v6 && wanted.without_ipv6) {
            continue;
        }
        let address = wanted.asked[usize::from(v6)];
        let pool = family.iter().find(|pool| address.is_none_or(|address| pool.net.contains(&address)));
        let Some(pool) = pool else {
            let address = address.map(|address| address.to_string()).unwrap_or_default();
            return Err(Error::invalid(format!(
                "invalid address {address}: It does not belong to any of this network's subnets"
            )));
        };
        let request = AddressRequest { pool: pool.id.clone(), address, options: options.clone() };
        let net = parts.ports.plugins.request_address(&ipam, &request).await?;
        let given = LentAddress { pool: request.pool, address: net.addr() };
        if let (Some(lent), Owed::Endpoint { lent: owed, .. }) = (wanted.endpoint.lent.as_mut(), &mut holding.debt.what)
        {
            lent.addresses.push(given.clone());
            owed.addresses.push(given.clone());
        }
        holding.keep(&Gift { ipam: ipam.clone(), pool: given.pool, address: Some(given.address) }, true).await?;
        has_address(wanted, net, v6)?;
        parts.claims.lock().retake_address(&wanted.network.id, net.addr(), &wanted.container);
    }
    Ok(())
}

fn has_address(wanted: &mut Wanted, net: IpNet, v6: bool) -> Result<()> {
    match net {
        IpNet::V4(net) if !v6 => wanted.endpoint.ipv4 = Some(net),
        IpNet::V6(net) if v6 => wanted.endpoint.ipv6 = Some(net),
        _ => return Err(Error::system(format!("the ipam driver gave {net}, which is of the other family"))),
    }
    Ok(())
}

async fn make(parts: &Parts, wanted: &mut Wanted) -> Result<()> {
    let (network, endpoint) = (&wanted.network, &mut wanted.endpoint);
    let made = parts.ports.plugins.create_endpoint(network, endpoint, &wanted.options).await.map_err(|error| {
        error.context(format!("failed to create endpoint {} on network {}", wanted.name, network.name))
    })?;
    endpoint.ipv4 = endpoint.ipv4.or(made.ipv4);
    endpoint.ipv6 = endpoint.ipv6.or(made.ipv6);
    if endpoint.mac.is_empty() {
        endpoint.mac = made.mac;
    }
    let addresses = [endpoint.ipv4.map(|net| net.addr().into()), endpoint.ipv6.map(|net| net.addr().into())];
    let mut claims = parts.claims.lock();
    for address in addresses.into_iter().flatten() {
        claims.retake_address(&network.id, address, &wanted.container);
    }
    Ok(())
}
