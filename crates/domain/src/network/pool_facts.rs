//! What a network driver is told of the pools of its network.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::{IpamConfig, NetworkRecord};

/// One pool as a network driver is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFacts {
    pub space: String,
    pub net: IpNet,
    pub gateway: Option<IpNet>,
    pub aux: BTreeMap<String, IpNet>,
}

impl NetworkRecord {
    /// Of one family.
    pub fn pool_facts(&self, v6: bool) -> Vec<PoolFacts> {
        let space = match (&self.lent, self.ipam.driver.as_str()) {
            (Some(lent), _) if !lent.ipam.is_empty() => lent.space.clone(),
            (_, "null") => return self.no_pool(v6),
            _ => "LocalDefault".to_owned(),
        };
        self.pools(v6).filter_map(|pool| Some(self.facts_of(pool, pool.net()?, &space))).collect()
    }

    /// The pool of all addresses, from which none is given.
    fn no_pool(&self, v6: bool) -> Vec<PoolFacts> {
        let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let enabled = if v6 { self.enable_ipv6 } else { self.enable_ipv4 };
        let net = IpNet::new(all[usize::from(v6)], 0).ok().filter(|_| enabled);
        net.map(|net| PoolFacts { space: "null".into(), net, gateway: None, aux: BTreeMap::new() })
            .into_iter()
            .collect()
    }

    fn facts_of(&self, pool: &IpamConfig, net: IpNet, space: &str) -> PoolFacts {
        let within = |address: IpAddr| IpNet::new(address, net.prefix_len()).ok();
        let given = self.lent.iter().flat_map(|lent| &lent.pools).find(|lent| lent.net == net);
        let gateway = given.and_then(|lent| lent.gateway).or_else(|| within(pool.gateway_address()?));
        let aux = pool.aux_address.iter();
        let aux = aux.filter_map(|(name, text)| Some((name.clone(), within(text.parse().ok()?)?))).collect();
        PoolFacts { space: space.to_owned(), net, gateway, aux }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::network::lent::{LentNetwork, LentPool};

    #[test]
    fn a_driver_is_told_of_pools_with_their_gateways_and_of_none_where_nobody_gives_addresses() {
        let mut network = NetworkRecord::named("x");
        let mut pool = IpamConfig { subnet: "10.0.0.0/24".into(), gateway: "10.0.0.1".into(), ..Default::default() };
        pool.aux_address.insert("dns".into(), "10.0.0.9".into());
        network.ipam.config = Some(vec![pool]);
        let facts = &network.pool_facts(false)[0];
        assert_eq!(facts.gateway.unwrap().to_string(), "10.0.0.1/24");
        assert_eq!((facts.space.as_str(), facts.aux["dns"].to_string().as_str()), ("LocalDefault", "10.0.0.9/24"));
        assert!(network.pool_facts(true).is_empty());
        network.ipam = crate::network::Ipam { driver: "null".into(), ..Default::default() };
        assert_eq!(network.pool_facts(false)[0].net.to_string(), "0.0.0.0/0");
    }

    #[test]
    fn the_prefix_of_a_gateway_is_the_plugins() {
        let mut network = NetworkRecord::named("x");
        network.ipam.driver = "far".into();
        let pool = IpamConfig { subnet: "10.0.0.0/24".into(), gateway: "10.0.0.1".into(), ..Default::default() };
        network.ipam.config = Some(vec![pool]);
        let lent = LentPool {
            id: "p".into(),
            net: "10.0.0.0/24".parse().unwrap(),
            gateway: Some("10.0.0.1/32".parse().unwrap()),
            addresses: vec![],
        };
        network.lent =
            Some(LentNetwork { ipam: "far".into(), space: "s".into(), pools: vec![lent], ..LentNetwork::default() });
        let facts = &network.pool_facts(false)[0];
        assert_eq!((facts.gateway.unwrap().prefix_len(), facts.space.as_str()), (32, "s"));
        assert_eq!(network.lent_pool("10.0.0.7".parse().unwrap()).unwrap().id, "p");
    }
}
