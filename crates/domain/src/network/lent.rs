//! What plugins of networks and addresses lend, and the debts that follow from it.
//!
//! ```text
//!   debt durable ─► plugin gives ─► record that has it durable, debt gone        (one write)
//!   record without it durable, debt durable (one write) ─► plugin has it back ─► debt gone
//! ```
//!
//! So what was taken is at every moment in a record that uses it, or in a debt that is worked off.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::NetworkRecord;
use crate::{
    ContainerId, NetworkId,
    container::record::{Endpoint, SCHEMA},
    id::random_hex,
    ports::Gift,
};

/// Drivers of networks that need no plugin.
pub const BUILT_IN: [&str; 5] = ["bridge", "host", "ipvlan", "macvlan", "null"];
/// Address management that needs no plugin. `null` gives no addresses.
const IPAM: [&str; 2] = ["default", "null"];

/// The mark of an endpoint of which something must be given back. An empty name stands for no plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lent {
    /// Plugin that makes the endpoint.
    pub driver: String,
    /// Plugin that gives the addresses.
    pub ipam: String,
    pub addresses: Vec<LentAddress>,
    /// The driver was asked to join it, and said what there is to join.
    pub joined: bool,
    /// Name on the host of the interface that the driver lends; empty before the join, or where it lends none.
    pub source: String,
    /// The driver was told to make the endpoint reachable from outside.
    pub published: bool,
    pub routes: Vec<StaticRoute>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LentAddress {
    /// The plugin's name for its pool.
    pub pool: String,
    pub address: IpAddr,
}

/// A route that a driver wants in the container; without a next hop what it leads to is on the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoute {
    pub destination: IpNet,
    pub next_hop: Option<IpAddr>,
}

/// The same for a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LentNetwork {
    pub driver: String,
    pub ipam: String,
    /// The address space that its pools are of.
    pub space: String,
    pub pools: Vec<LentPool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LentPool {
    /// The plugin's name for it.
    pub id: String,
    pub net: IpNet,
    /// With the prefix that the plugin gave it.
    pub gateway: Option<IpNet>,
    /// That were asked of it one by one: the gateway, and those set aside.
    pub addresses: Vec<IpAddr>,
}

/// What is to be given back to plugins, and belongs to no record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    pub schema: u32,
    pub generation: u64,
    /// The endpoint's id, or the network's.
    pub id: String,
    pub network: NetworkId,
    pub what: Owed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owed {
    Endpoint {
        container: ContainerId,
        /// The lent interface's name in the container.
        interface: String,
        lent: Lent,
    },
    Network(LentNetwork),
}

impl Debt {
    /// Of an endpoint with the mark; `None` for one without.
    pub fn of_endpoint(container: &ContainerId, endpoint: &Endpoint) -> Option<Self> {
        let lent = endpoint.lent.as_deref()?.clone();
        let what = Owed::Endpoint { container: container.clone(), interface: endpoint.interface.clone(), lent };
        Some(Self {
            schema: SCHEMA,
            generation: 1,
            id: endpoint.endpoint_id.clone(),
            network: endpoint.network_id.clone()?,
            what,
        })
    }

    pub fn of_network(network: &NetworkRecord) -> Option<Self> {
        let what = Owed::Network(network.lent.clone()?);
        Some(Self { schema: SCHEMA, generation: 1, id: network.id.to_string(), network: network.id.clone(), what })
    }

    /// Of what belongs to no endpoint and no network that anybody knows.
    pub fn of_gift(gift: &Gift) -> Self {
        let (ipam, pool) = (gift.ipam.clone(), gift.pool.clone());
        let what = match gift.address {
            Some(address) => {
                let addresses = vec![LentAddress { pool, address }];
                // Nobody's: no container has this id.
                let container = ContainerId::random();
                let lent = Lent { ipam, addresses, ..Lent::default() };
                Owed::Endpoint { container, interface: String::new(), lent }
            }
            None => {
                let net = Ipv4Net::default().into();
                let pools = vec![LentPool { id: pool, net, gateway: None, addresses: Vec::new() }];
                Owed::Network(LentNetwork { ipam, pools, ..LentNetwork::default() })
            }
        };
        Self { schema: SCHEMA, generation: 1, id: random_hex(), network: NetworkId::random(), what }
    }

    /// Whether a gift is part of it.
    pub fn has(&self, gift: &Gift) -> bool {
        match &self.what {
            Owed::Endpoint { lent, .. } => lent.has(gift),
            Owed::Network(lent) => lent.has(gift),
        }
    }

    /// Whose endpoint it was.
    pub fn container(&self) -> Option<&ContainerId> {
        match &self.what {
            Owed::Endpoint { container, .. } => Some(container),
            Owed::Network(_) => None,
        }
    }

    /// Whether it is of an interface that was called so in the container.
    pub fn names_interface(&self, name: &str) -> bool {
        matches!(&self.what, Owed::Endpoint { interface, .. } if interface == name)
    }

    /// Plugins that it is owed to.
    pub fn plugins(&self) -> [&str; 2] {
        match &self.what {
            Owed::Endpoint { lent, .. } => [&lent.driver, &lent.ipam],
            Owed::Network(lent) => [&lent.driver, &lent.ipam],
        }
    }

    /// The plugin has given it anew, for it was free: it is not this debt's any more. Whether it was.
    pub fn forgive(&mut self, gift: &Gift) -> bool {
        let forgiven = self.has(gift);
        if forgiven {
            self.generation += 1;
            match &mut self.what {
                Owed::Endpoint { lent, .. } => lent.addresses.retain(|given| !given.is(gift)),
                Owed::Network(lent) => lent.forgive(gift),
            }
        }
        forgiven
    }

    /// Only what is left in `rest` too is owed still.
    pub fn reduce_to(&mut self, rest: &Self) {
        self.generation += 1;
        match (&mut self.what, &rest.what) {
            (Owed::Endpoint { lent, .. }, Owed::Endpoint { lent: rest, .. }) => {
                lent.driver.clone_from(&rest.driver);
                lent.addresses.retain(|given| rest.addresses.contains(given));
            }
            (Owed::Network(lent), Owed::Network(rest)) => {
                lent.driver.clone_from(&rest.driver);
                lent.pools.retain(|pool| rest.pools.iter().any(|left| left.id == pool.id));
                for pool in &mut lent.pools {
                    let left = rest.pools.iter().filter(|left| left.id == pool.id);
                    let left: Vec<IpAddr> = left.flat_map(|left| left.addresses.iter().copied()).collect();
                    pool.addresses.retain(|address| left.contains(address));
                }
            }
            _ => {}
        }
    }
}

impl Lent {
    pub fn has(&self, gift: &Gift) -> bool {
        self.ipam == gift.ipam && self.addresses.iter().any(|given| given.is(gift))
    }
}

impl LentAddress {
    fn is(&self, gift: &Gift) -> bool {
        self.pool == gift.pool && Some(self.address) == gift.address
    }
}

impl LentNetwork {
    pub fn has(&self, gift: &Gift) -> bool {
        let given = |pool: &LentPool| {
            pool.id == gift.pool && gift.address.is_none_or(|address| pool.addresses.contains(&address))
        };
        self.ipam == gift.ipam && self.pools.iter().any(given)
    }

    fn forgive(&mut self, gift: &Gift) {
        match gift.address {
            None => self.pools.retain(|pool| pool.id != gift.pool),
            Some(address) => {
                let of_pool = self.pools.iter_mut().filter(|pool| pool.id == gift.pool);
                of_pool.for_each(|pool| pool.addresses.retain(|given| *given != address));
            }
        }
    }
}

impl NetworkRecord {
    /// The plugin that is its driver.
    pub fn driver_plugin(&self) -> Option<&str> {
        Some(self.driver.as_str()).filter(|name| !BUILT_IN.contains(name))
    }

    /// The plugin that gives its addresses.
    pub fn ipam_plugin(&self) -> Option<&str> {
        Some(self.ipam.driver.as_str()).filter(|name| !name.is_empty() && !IPAM.contains(name))
    }

    pub fn scope(&self) -> &'static str {
        if self.global { "global" } else { "local" }
    }

    /// The pool of a plugin that an address is of.
    pub fn lent_pool(&self, address: IpAddr) -> Option<&LentPool> {
        self.lent.iter().flat_map(|lent| &lent.pools).find(|pool| pool.net.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> LentAddress {
        LentAddress { pool: "p".into(), address: text.parse().unwrap() }
    }

    fn endpoint() -> Endpoint {
        let lent = Lent { ipam: "far".into(), addresses: vec![address("10.0.0.2")], ..Lent::default() };
        Endpoint {
            network_id: Some(NetworkId::random()),
            endpoint_id: "e".into(),
            lent: Some(Box::new(lent)),
            ..Endpoint::default()
        }
    }

    #[test]
    fn an_endpoint_without_the_mark_owes_nothing() {
        let container = ContainerId::random();
        assert!(Debt::of_endpoint(&container, &Endpoint { lent: None, ..endpoint() }).is_none());
        let debt = Debt::of_endpoint(&container, &endpoint()).unwrap();
        assert_eq!((debt.container(), debt.plugins()), (Some(&container), ["", "far"]));
    }

    #[test]
    fn an_address_that_was_given_again_is_owed_no_more() {
        let mut debt = Debt::of_endpoint(&ContainerId::random(), &endpoint()).unwrap();
        let gift =
            |ipam: &str, address: &str| Gift { ipam: ipam.into(), pool: "p".into(), address: address.parse().ok() };
        assert!(!debt.forgive(&gift("near", "10.0.0.2")) && !debt.forgive(&gift("far", "10.0.0.3")));
        assert!(debt.forgive(&gift("far", "10.0.0.2")));
        let Owed::Endpoint { lent, .. } = &debt.what else { panic!() };
        assert_eq!((lent.addresses.len(), debt.generation), (0, 2), "and the newer one wins in the store");
    }

    #[test]
    fn what_was_paid_of_a_debt_is_owed_no_more_and_nothing_comes_back_into_it() {
        let pool = |id: &str| LentPool {
            id: id.into(),
            net: "10.0.0.0/24".parse().unwrap(),
            gateway: None,
            addresses: vec!["10.0.0.1".parse().unwrap()],
        };
        let lent = |driver: &str, pools| LentNetwork {
            driver: driver.into(),
            ipam: "far".into(),
            pools,
            ..LentNetwork::default()
        };
        let owed = |lent| Debt {
            what: Owed::Network(lent),
            ..Debt::of_gift(&Gift { ipam: "far".into(), pool: "a".into(), address: None })
        };
        let mut debt = owed(lent("d", vec![pool("a"), pool("b")]));
        debt.reduce_to(&owed(lent("", vec![LentPool { addresses: vec![], ..pool("b") }, pool("c")])));
        let Owed::Network(left) = &debt.what else { panic!() };
        assert_eq!((left.driver.as_str(), left.pools.len(), left.pools[0].id.as_str()), ("", 1, "b"));
        assert!(left.pools[0].addresses.is_empty() && debt.generation == 2);
    }

    #[test]
    fn a_gift_is_found_in_what_was_made_of_it_and_nowhere_else() {
        let gift = |pool: &str, address: Option<&str>| Gift {
            ipam: "far".into(),
            pool: pool.into(),
            address: address.map(|text| text.parse().unwrap()),
        };
        let (address, pool) = (gift("p", Some("10.0.0.2")), gift("p", None));
        let owed = Debt::of_endpoint(&ContainerId::random(), &endpoint()).unwrap();
        assert!(owed.has(&address) && !owed.has(&gift("q", Some("10.0.0.2"))) && !owed.has(&pool));
        assert!(Debt::of_gift(&address).has(&address) && Debt::of_gift(&pool).has(&pool));
        assert!(!Debt::of_gift(&pool).has(&address), "a pool is not its addresses");
    }

    #[test]
    fn only_what_is_not_built_in_is_a_plugins() {
        let mut network = NetworkRecord::named("x");
        assert_eq!((network.driver_plugin(), network.ipam_plugin()), (None, None));
        network.driver = "weave".into();
        network.ipam.driver = "far".into();
        assert_eq!((network.driver_plugin(), network.ipam_plugin()), (Some("weave"), Some("far")));
    }
}
