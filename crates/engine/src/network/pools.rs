//! The pools of a network that is to be made: those that were asked for, and for the rest the next free ones.

use gantry_domain::{
    Error, Result,
    network::{Families, IpamConfig, NetworkRecord, ipam},
};
use ipnet::IpNet;

use crate::{claims::Claims, parts::Parts};

/// Fills `network.ipam` in from our own addresses. `host` are the subnets that the host itself reaches.
///
/// `null` gives no addresses (a network whose containers ask a server of their own).
pub(super) fn fill(
    parts: &Parts,
    claims: &Claims,
    network: &mut NetworkRecord,
    host: &[IpNet],
    without_gateway: Families,
) -> Result<()> {
    if network.ipam.driver == "null" {
        return Ok(());
    }
    let (v4, v6) = (network.enable_ipv4, network.enable_ipv6);
    let asked: Vec<IpamConfig> = network.ipam.config.take().unwrap_or_default();
    let wanted = |pool: &IpamConfig| pool.net().is_some_and(|net| if net.addr().is_ipv6() { v6 } else { v4 });
    let mut pools: Vec<IpamConfig> = asked.into_iter().filter(wanted).collect();
    network.own_pools = Families { v4: has(&pools, false), v6: has(&pools, true) };
    let mut taken = claims.subnets();
    taken.extend_from_slice(host);
    if v4 && !network.own_pools.v4 {
        pools.push(pool(ipam::next_pool(&parts.pools, &taken)?));
    }
    if v6 && !network.own_pools.v6 {
        pools.push(pool(ipam::next_pool_v6(&parts.pools, &parts.id.0, &taken)?));
    }
    let v6_of = |pool: &IpamConfig| pool.net().is_some_and(|net| net.addr().is_ipv6());
    for pool in pools.iter_mut().filter(|pool| !(if v6_of(pool) { without_gateway.v6 } else { without_gateway.v4 })) {
        // An isolated bridge has no address; libnetwork keeps one aside all the same.
        fill_gateway(pool)?;
    }
    network.ipam.config = Some(pools);
    Ok(())
}

fn has(pools: &[IpamConfig], v6: bool) -> bool {
    pools.iter().any(|pool| pool.net().is_some_and(|net| net.addr().is_ipv6() == v6))
}

fn pool(subnet: IpNet) -> IpamConfig {
    IpamConfig { subnet: subnet.to_string(), ..IpamConfig::default() }
}

fn fill_gateway(pool: &mut IpamConfig) -> Result<()> {
    let Some(subnet) = pool.net().filter(|_| pool.gateway.is_empty()) else { return Ok(()) };
    let range = pool.ip_range.parse().ok();
    let aux: Vec<_> = pool.aux_address.values().filter_map(|text| text.parse().ok()).collect();
    let gateway = ipam::gateway(subnet, range, &aux)
        .ok_or_else(|| Error::invalid(format!("failed to allocate gateway (): no available address in {subnet}")))?;
    pool.gateway = gateway.to_string();
    Ok(())
}
