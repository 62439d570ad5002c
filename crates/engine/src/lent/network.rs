//! Taking a network of plugins: its pools with their gateways, and the network itself.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use gantry_domain::{
    Error, Result,
    network::{
        Families, IpamConfig, NetworkRecord,
        ipam::overlaps,
        lent::{Debt, LentNetwork, LentPool, Owed},
    },
    ports::{AddressRequest, Gift, GivenPool, PoolRequest},
};
use ipnet::IpNet;

use super::{Holding, shown};
use crate::parts::Parts;

/// Pools that a plugin chose and that the host has already: libnetwork asks on, and so do we, but not for ever.
const CHOICES: usize = 64;

/// Finds the plugins that the network needs and notes them in its record.
pub(crate) async fn find(parts: &Parts, network: &mut NetworkRecord) -> Result<()> {
    let mut lent = LentNetwork::default();
    if let Some(driver) = network.driver_plugin() {
        let traits = parts.ports.plugins.driver(driver).await.map_err(shown)?;
        lent.driver = driver.to_owned();
        network.global = traits.global;
    }
    if let Some(ipam) = network.ipam_plugin() {
        let traits = parts.ports.plugins.ipam(ipam).await.map_err(shown)?;
        lent.ipam = ipam.to_owned();
        lent.space = if network.global { traits.global_space } else { traits.local_space };
    }
    network.lent = (lent != LentNetwork::default()).then_some(lent);
    Ok(())
}

/// Families in which its driver wants no gateway's address.
pub(crate) async fn without_gateway(parts: &Parts, network: &NetworkRecord) -> Result<Families> {
    match network.driver_plugin() {
        Some(_) => parts.ports.plugins.without_gateway(network).await.map_err(shown),
        None => Ok(Families::default()),
    }
}

/// Makes the debt durable, takes the pools and makes the network. `host` is what the host itself reaches.
pub(crate) async fn take(
    parts: &Arc<Parts>,
    network: &mut NetworkRecord,
    host: &[IpNet],
    skip: Families,
) -> Result<Holding> {
    let debt = Debt::of_network(network).ok_or_else(|| Error::system("a network of no plugin"))?;
    let mut holding = Holding::begin(parts, debt).await?;
    if network.ipam_plugin().is_some() {
        take_pools(parts, network, &mut holding, host, skip).await.map_err(shown)?;
        parts.claims.lock().set_pools(network)?;
    }
    if network.driver_plugin().is_some() {
        parts.ports.plugins.create_network(network).await.map_err(shown)?;
    }
    Ok(holding)
}

async fn take_pools(
    parts: &Parts,
    network: &mut NetworkRecord,
    holding: &mut Holding,
    host: &[IpNet],
    skip: Families,
) -> Result<()> {
    let asked = network.ipam.config.take().unwrap_or_default();
    let mut configs = Vec::new();
    for v6 in [false, true] {
        if !(if v6 { network.enable_ipv6 } else { network.enable_ipv4 }) {
            continue;
        }
        let is_its = |config: &&IpamConfig| config.net().is_some_and(|net| net.addr().is_ipv6() == v6);
        let mut family: Vec<IpamConfig> = asked.iter().filter(is_its).cloned().collect();
        let own = if v6 { &mut network.own_pools.v6 } else { &mut network.own_pools.v4 };
        *own = !family.is_empty();
        if family.is_empty() {
            family.push(IpamConfig::default());
        }
        let skip = if v6 { skip.v6 } else { skip.v4 };
        for config in family {
            let lending = Lending { parts, network, host, v6, skip };
            configs.push(lending.take(config, holding).await?);
        }
    }
    if let Owed::Network(lent) = &holding.debt.what {
        network.lent = Some(lent.clone());
    }
    network.ipam.config = Some(configs);
    Ok(())
}

/// The taking of one pool.
struct Lending<'a> {
    parts: &'a Parts,
    network: &'a NetworkRecord,
    host: &'a [IpNet],
    v6: bool,
    skip: bool,
}

impl Lending<'_> {
    /// Pool, gateway and the addresses that are set aside; each is durably owed before the next one is asked for.
    async fn take(&self, mut config: IpamConfig, holding: &mut Holding) -> Result<IpamConfig> {
        let given = self.pool(&config, holding).await?;
        let pool = given.id.clone();
        config.subnet = given.net.to_string();
        let mut gateway = given.gateway;
        if !config.gateway.is_empty() || (gateway.is_none() && !self.skip) {
            let typed = config.gateway_address();
            let named = |error: Error| error.context(format!("failed to allocate gateway ({})", config.gateway));
            gateway = Some(self.address(&pool, typed, gateway_options(), holding).await.map_err(named)?);
        }
        if let Some(net) = gateway {
            config.gateway = net.addr().to_string();
            change(holding, &pool, |lent| lent.gateway = Some(net));
        }
        for (name, text) in &config.aux_address {
            let address: IpAddr = text.parse().map_err(|_| {
                let network = &self.network.name;
                Error::invalid(format!(
                    "non parsable secondary ip address ({name}:{text}) passed for network {network}"
                ))
            })?;
            let named =
                |error: Error| error.context(format!("failed to allocate secondary ip address ({name}:{text})"));
            self.address(&pool, Some(address), BTreeMap::new(), holding).await.map_err(named)?;
        }
        Ok(config)
    }

    /// One that the plugin chooses is asked for until it is none of the host's own; the others go back.
    async fn pool(&self, config: &IpamConfig, holding: &mut Holding) -> Result<GivenPool> {
        let lent = self.network.lent.clone().unwrap_or_default();
        let request = PoolRequest {
            space: lent.space,
            pool: config.subnet.clone(),
            range: config.ip_range.clone(),
            options: self.network.ipam.options.clone().unwrap_or_default(),
            v6: self.v6,
        };
        let mut unfit = Vec::new();
        let found = loop {
            let given = self.parts.ports.plugins.request_pool(&lent.ipam, &request).await?;
            let kept = LentPool { id: given.id.clone(), net: given.net, gateway: None, addresses: Vec::new() };
            if let Owed::Network(owed) = &mut holding.debt.what {
                owed.pools.push(kept);
            }
            let gift = Gift { ipam: lent.ipam.clone(), pool: given.id.clone(), address: None };
            holding.keep(&gift, request.pool.is_empty()).await?;
            let fits = !request.pool.is_empty() || given.net.prefix_len() == 0 || !overlaps(given.net, self.host);
            if fits {
                break given;
            }
            unfit.push(gift);
            if unfit.len() == CHOICES {
                return Err(Error::system(format!("the ipam driver {} has only pools of the host's own", lent.ipam)));
            }
        };
        if !unfit.is_empty() {
            holding.part_with(&unfit).await?;
        }
        Ok(found)
    }

    async fn address(
        &self,
        pool: &str,
        address: Option<IpAddr>,
        options: BTreeMap<String, String>,
        holding: &mut Holding,
    ) -> Result<IpNet> {
        let request = AddressRequest { pool: pool.to_owned(), address, options };
        let net = self.parts.ports.plugins.request_address(&self.network.ipam.driver, &request).await?;
        change(holding, pool, |lent| lent.addresses.push(net.addr()));
        let ipam = self.network.ipam.driver.clone();
        holding.keep(&Gift { ipam, pool: pool.to_owned(), address: Some(net.addr()) }, true).await?;
        Ok(net)
    }
}

fn change(holding: &mut Holding, pool: &str, change: impl FnOnce(&mut LentPool)) {
    if let Owed::Network(owed) = &mut holding.debt.what
        && let Some(pool) = owed.pools.iter_mut().find(|known| known.id == pool)
    {
        change(pool);
    }
}

pub(super) fn gateway_options() -> BTreeMap<String, String> {
    BTreeMap::from([("RequestAddressType".to_owned(), "com.docker.network.gateway".to_owned())])
}
