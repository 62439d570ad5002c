//! Plugins of addresses that remember nothing (`RequiresRequestReplay`): after a start they are told what is in use.

use std::{collections::BTreeSet, net::IpAddr};

use gantry_domain::{
    Result,
    network::{NetworkRecord, lent::LentPool},
    ports::{AddressRequest, Gift, PoolRequest},
};

use super::network::gateway_options;
use crate::parts::Parts;

/// As well as can be: a plugin that is away is not waited for, as under dockerd.
pub(super) async fn replay(parts: &Parts) {
    let networks: Vec<NetworkRecord> = parts.claims.lock().networks.values().cloned().collect();
    let mut away = BTreeSet::new();
    for network in networks {
        let Some(ipam) = network.ipam_plugin().filter(|ipam| !away.contains(*ipam)) else { continue };
        let told = match parts.ports.plugins.ipam(ipam).await {
            Ok(traits) if traits.needs_replay => replay_network(parts, ipam, &network).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::warn!(network = network.name, ipam, %error, "the plugin could not be told what is in use");
            away.insert(ipam.to_owned());
        }
    }
}

async fn replay_network(parts: &Parts, ipam: &str, network: &NetworkRecord) -> Result<()> {
    let Some(lent) = &network.lent else { return Ok(()) };
    for pool in &lent.pools {
        let config = network.ipam.config.iter().flatten().find(|config| config.net() == Some(pool.net));
        let request = PoolRequest {
            space: lent.space.clone(),
            pool: pool.net.to_string(),
            range: config.map(|config| config.ip_range.clone()).unwrap_or_default(),
            options: network.ipam.options.clone().unwrap_or_default(),
            v6: pool.net.addr().is_ipv6(),
        };
        let given = parts.ports.plugins.request_pool(ipam, &request).await?;
        note(parts, ipam, &given.id, None).await;
        if given.id != pool.id {
            tracing::warn!(
                network = network.name,
                pool = pool.id,
                now = given.id,
                "the plugin has another name for a pool"
            );
        }
        let gateway = pool.gateway.map(|net| net.addr());
        for address in pool.addresses.iter().copied().chain(in_use(parts, network, pool)) {
            let options = if Some(address) == gateway { gateway_options() } else { Default::default() };
            let request = AddressRequest { pool: pool.id.clone(), address: Some(address), options };
            match parts.ports.plugins.request_address(ipam, &request).await {
                Ok(given) => note(parts, ipam, &pool.id, Some(given.addr())).await,
                Err(error) => {
                    tracing::warn!(network = network.name, %address, %error, "an address in use could not be told");
                }
            }
        }
    }
    Ok(())
}

/// It is on record.
async fn note(parts: &Parts, ipam: &str, pool: &str, address: Option<IpAddr>) {
    parts.ports.plugins.noted(&Gift { ipam: ipam.to_owned(), pool: pool.to_owned(), address }).await;
}

/// Addresses of containers, by the marks of their endpoints.
fn in_use(parts: &Parts, network: &NetworkRecord, pool: &LentPool) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for snapshot in parts.snapshots() {
        let endpoints = snapshot.record.run.iter().flat_map(|run| run.endpoints.values());
        let here = endpoints.filter(|endpoint| endpoint.network_id.as_ref() == Some(&network.id));
        let lent = here.filter_map(|endpoint| endpoint.lent.as_deref()).flat_map(|lent| &lent.addresses);
        found.extend(lent.filter(|given| given.pool == pool.id).map(|given| given.address));
    }
    found
}
