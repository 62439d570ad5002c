//! Addresses of a network: who has which, and which is next.

use std::{collections::HashMap, net::IpAddr};

use gantry_domain::{
    ContainerId, Error, Result,
    network::{
        IpamConfig, NetworkRecord,
        ipam::{self, Usage},
    },
};
use ipnet::IpNet;

use super::Claims;

/// What is given out of one network's pools.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    used: HashMap<IpAddr, ContainerId>,
    /// The last one of each family, so that an address is not used again at once.
    last: [Option<IpAddr>; 2],
}

impl Addresses {
    pub fn free(&mut self, container: &ContainerId) {
        self.used.retain(|_, owner| owner != container);
    }
}

/// Addresses of a pool that containers do not get: the gateway's and those that were set aside.
fn is_kept(pool: &IpamConfig, address: IpAddr) -> bool {
    pool.gateway_address() == Some(address)
        || pool.aux_address.values().any(|text| text.parse::<IpAddr>().is_ok_and(|aux| aux == address))
}

fn range(pool: &IpamConfig, subnet: IpNet) -> IpNet {
    pool.ip_range.parse().unwrap_or(subnet)
}

impl Claims {
    /// Takes an address that is known: of a run before, or one that the user asked for. `Forbidden` where it is not
    /// free.
    pub fn take_address(&mut self, network: &NetworkRecord, address: IpAddr, id: &ContainerId) -> Result<()> {
        let in_use = || Error::forbidden("Address already in use");
        let pool = network.pools(address.is_ipv6()).find(|pool| pool.net().is_some_and(|net| net.contains(&address)));
        let Some((pool, subnet)) = pool.and_then(|pool| Some((pool, pool.net()?))) else {
            return Err(Error::invalid(format!(
                "invalid address {address}: It does not belong to any of this network's subnets"
            )));
        };
        if is_kept(pool, address) || ipam::is_reserved(subnet, address) {
            return Err(in_use());
        }
        let addresses = self.addresses.entry(network.id.clone()).or_default();
        match addresses.used.get(&address) {
            Some(owner) if owner != id => Err(in_use()),
            _ => {
                addresses.used.insert(address, id.clone());
                Ok(())
            }
        }
    }

    /// Takes an address that is in use for certain: a running container's, after a restart of the engine.
    pub fn retake_address(&mut self, network: &gantry_domain::NetworkId, address: IpAddr, id: &ContainerId) {
        // Two living containers cannot have one address; if records say so, the first keeps the claim.
        self.addresses.entry(network.clone()).or_default().used.entry(address).or_insert_with(|| id.clone());
    }

    /// Takes the next free address of a family from the network's pools, in their order; with the pool's prefix.
    pub fn next_address(&mut self, network: &NetworkRecord, v6: bool, id: &ContainerId) -> Result<IpNet> {
        let addresses = self.addresses.entry(network.id.clone()).or_default();
        for pool in network.pools(v6) {
            let Some(subnet) = pool.net() else { continue };
            let taken = |address: IpAddr| addresses.used.contains_key(&address) || is_kept(pool, address);
            let last = addresses.last[usize::from(v6)];
            let Some(address) = ipam::next_address(subnet, range(pool, subnet), &taken, last) else { continue };
            addresses.used.insert(address, id.clone());
            addresses.last[usize::from(v6)] = Some(address);
            if let Ok(net) = IpNet::new(address, subnet.prefix_len()) {
                return Ok(net);
            }
        }
        let family = if v6 { 6 } else { 4 };
        Err(Error::invalid(format!(
            "no available IPv{family} addresses on this network's address pools: {} ({})",
            network.name, network.id
        )))
    }

    /// How much of each pool is given out, by its subnet.
    pub fn usage(&self, network: &NetworkRecord) -> Vec<(IpNet, Usage)> {
        let used = self.addresses.get(&network.id);
        let pools = network.ipam.config.iter().flatten();
        pools.filter_map(|pool| Some((pool.net()?, pool_usage(pool, pool.net()?, used)))).collect()
    }
}

fn pool_usage(pool: &IpamConfig, subnet: IpNet, used: Option<&Addresses>) -> Usage {
    let range = range(pool, subnet);
    let given = used.into_iter().flat_map(|addresses| addresses.used.keys().copied());
    let aux = pool.aux_address.values().filter_map(|text| text.parse().ok());
    let own = [subnet.network(), subnet.broadcast()].into_iter().filter(|address| ipam::is_reserved(subnet, *address));
    let mut all: Vec<IpAddr> = given.chain(aux).chain(pool.gateway_address()).chain(own).collect();
    all.sort_unstable();
    all.dedup();
    let count = |net: IpNet| all.iter().filter(|address| net.contains(*address)).count() as u64;
    let bits = u32::from(range.max_prefix_len() - range.prefix_len());
    let size = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
    Usage { in_use: count(subnet), left: size.saturating_sub(count(range)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use gantry_domain::network::Ipam;

    use super::*;

    fn network(pools: &[(&str, &str)]) -> NetworkRecord {
        let pool = |(subnet, gateway): &(&str, &str)| IpamConfig {
            subnet: (*subnet).into(),
            gateway: (*gateway).into(),
            ..IpamConfig::default()
        };
        let config = Some(pools.iter().map(pool).collect());
        NetworkRecord { ipam: Ipam { config, ..Ipam::default() }, ..NetworkRecord::named("x") }
    }

    #[test]
    fn the_second_pool_gives_when_the_first_is_used_up() {
        let mut claims = Claims::default();
        let network = network(&[("10.0.0.0/30", "10.0.0.1"), ("10.0.1.0/30", "10.0.1.1"), ("fd00::/64", "fd00::1")]);
        let next = |claims: &mut Claims, v6| claims.next_address(&network, v6, &ContainerId::random());
        assert_eq!(next(&mut claims, false).unwrap().to_string(), "10.0.0.2/30");
        assert_eq!(next(&mut claims, false).unwrap().to_string(), "10.0.1.2/30");
        assert_eq!(next(&mut claims, true).unwrap().to_string(), "fd00::2/64");
        let error = next(&mut claims, false).unwrap_err();
        assert!(error.message().starts_with("no available IPv4 addresses on this network's address pools: x ("));
        let usage = claims.usage(&network);
        assert_eq!(usage[0].1, Usage { in_use: 4, left: 0 });
    }

    #[test]
    fn gateway_aux_network_and_broadcast_are_not_given_out() {
        let mut claims = Claims::default();
        let mut network = network(&[("10.0.0.0/24", "10.0.0.1")]);
        network.ipam.config.as_mut().unwrap()[0].aux_address.insert("a".into(), "10.0.0.9".into());
        let id = ContainerId::random();
        for address in ["10.0.0.0", "10.0.0.1", "10.0.0.9", "10.0.0.255"] {
            let error = claims.take_address(&network, address.parse().unwrap(), &id).unwrap_err();
            assert_eq!(error.message(), "Address already in use", "{address}");
        }
        claims.take_address(&network, "10.0.0.8".parse().unwrap(), &id).unwrap();
        assert!(claims.take_address(&network, "10.0.0.8".parse().unwrap(), &ContainerId::random()).is_err());
        assert!(claims.take_address(&network, "10.0.1.8".parse().unwrap(), &id).is_err());
    }
}
