//! Plugins of networks and addresses: one, called `far`, that keeps a ledger of what it has lent.

use std::{net::IpAddr, path::Path};

use async_trait::async_trait;
use gantry_domain::{
    Error, NetworkId, Result,
    container::record::Endpoint,
    network::{Families, NetworkRecord},
    ports::{
        AddressRequest, DriverTraits, EndpointOptions, Gift, GivenPool, IpamTraits, Joined, MadeEndpoint,
        NetworkPlugins, Place, PoolRequest,
    },
};
use ipnet::{IpNet, Ipv4Net};

use crate::Fakes;

impl Fakes {
    fn known(&self, name: &str) -> Result<()> {
        if name == "far" && !self.world().plugin_away {
            return Ok(());
        }
        Err(Error::not_found(format!("could not find plugin {name} in v1 plugin registry: plugin not found")))
    }

    async fn lend(&self, call: &'static str, plugin: &str, line: String) -> Result<()> {
        self.calls.pass_in_time(call).await?;
        self.known(plugin)?;
        self.world().lent.insert(line);
        Ok(())
    }

    /// What it has not lent it does not take.
    async fn take_back(&self, call: &'static str, plugin: &str, line: String) -> Result<()> {
        self.calls.pass_in_time(call).await?;
        self.known(plugin)?;
        let taken = self.world().lent.remove(&line);
        if taken { Ok(()) } else { Err(Error::system(format!("remote: no {line} is lent"))) }
    }
}

#[async_trait]
impl NetworkPlugins for Fakes {
    async fn driver(&self, name: &str) -> Result<DriverTraits> {
        self.calls.pass_in_time("plugins.driver").await?;
        self.known(name)?;
        Ok(DriverTraits::default())
    }

    async fn ipam(&self, name: &str) -> Result<IpamTraits> {
        self.calls.pass_in_time("plugins.ipam").await?;
        self.known(name)?;
        let needs_replay = self.world().plugin_forgets;
        Ok(IpamTraits { local_space: "here".into(), needs_replay, ..IpamTraits::default() })
    }

    fn drivers(&self) -> Vec<String> {
        vec!["far".into()]
    }

    async fn without_gateway(&self, _: &NetworkRecord) -> Result<Families> {
        self.calls.pass("plugins.without_gateway")?;
        Ok(Families::default())
    }

    async fn create_network(&self, network: &NetworkRecord) -> Result<()> {
        self.lend("plugins.create_network", &network.driver, format!("network {}", network.id)).await
    }

    async fn delete_network(&self, driver: &str, network: &NetworkId) -> Result<()> {
        self.take_back("plugins.delete_network", driver, format!("network {network}")).await
    }

    async fn create_endpoint(
        &self,
        network: &NetworkRecord,
        endpoint: &Endpoint,
        _: &EndpointOptions,
    ) -> Result<MadeEndpoint> {
        let line = format!("endpoint {}", endpoint.endpoint_id);
        self.lend("plugins.create_endpoint", &network.driver, line).await?;
        Ok(MadeEndpoint { mac: "02:42:00:00:00:07".into(), ..MadeEndpoint::default() })
    }

    async fn delete_endpoint(&self, place: &Place) -> Result<()> {
        self.take_back("plugins.delete_endpoint", &place.driver, format!("endpoint {}", place.endpoint)).await?;
        // Whatever it was not told of ends with it.
        self.world().lent.retain(|line| !line.ends_with(&place.endpoint));
        Ok(())
    }

    async fn join(&self, place: &Place, _: &Path, _: &EndpointOptions) -> Result<Joined> {
        self.lend("plugins.join", &place.driver, format!("join {}", place.endpoint)).await?;
        let source = format!("far{}", &place.endpoint[..8]);
        Ok(Joined { source, prefix: "eth".into(), gateway: Some([10, 5, 0, 1].into()), ..Joined::default() })
    }

    async fn leave(&self, place: &Place) -> Result<()> {
        self.take_back("plugins.leave", &place.driver, format!("join {}", place.endpoint)).await
    }

    async fn publish_endpoint(&self, place: &Place, _: &EndpointOptions) -> Result<()> {
        self.lend("plugins.publish_endpoint", &place.driver, format!("published {}", place.endpoint)).await
    }

    async fn withdraw_endpoint(&self, place: &Place) -> Result<()> {
        self.take_back("plugins.withdraw_endpoint", &place.driver, format!("published {}", place.endpoint)).await
    }

    async fn endpoint_info(&self, place: &Place) -> Result<()> {
        self.calls.pass("plugins.endpoint_info")?;
        self.known(&place.driver)
    }

    async fn request_pool(&self, ipam: &str, wanted: &PoolRequest) -> Result<GivenPool> {
        let free = (5..=255).map(|third| format!("10.{third}.0.0/24"));
        let free = free.into_iter().find(|pool| !self.world().lent.contains(&format!("pool {pool}")));
        let text = if wanted.pool.is_empty() { free.unwrap_or_default() } else { wanted.pool.clone() };
        let net: IpNet = text.parse().map_err(|_| Error::system("remote: no pool"))?;
        self.lend("plugins.request_pool", ipam, format!("pool {net}")).await?;
        let gift = Gift { ipam: ipam.to_owned(), pool: net.to_string(), address: None };
        self.world().gifts.insert(gift);
        Ok(GivenPool { id: net.to_string(), net, gateway: None })
    }

    async fn release_pool(&self, ipam: &str, pool: &str) -> Result<()> {
        self.take_back("plugins.release_pool", ipam, format!("pool {pool}")).await?;
        self.world().lent.retain(|line| !line.ends_with(&format!(" of {pool}")));
        Ok(())
    }

    async fn request_address(&self, ipam: &str, wanted: &AddressRequest) -> Result<IpNet> {
        let net: Ipv4Net = wanted.pool.parse().map_err(|_| Error::system("remote: no such pool"))?;
        let line = |address: IpAddr| format!("address {address} of {net}");
        let free = net.hosts().map(IpAddr::from).find(|address| !self.world().lent.contains(&line(*address)));
        let address = wanted.address.or(free).ok_or_else(|| Error::system("remote: used up"))?;
        self.lend("plugins.request_address", ipam, line(address)).await?;
        let gift = Gift { ipam: ipam.to_owned(), pool: wanted.pool.clone(), address: Some(address) };
        self.world().gifts.insert(gift);
        IpNet::new(address, net.prefix_len()).map_err(|_| Error::system("remote: no prefix"))
    }

    async fn release_address(&self, ipam: &str, pool: &str, address: IpAddr) -> Result<()> {
        self.take_back("plugins.release_address", ipam, format!("address {address} of {pool}")).await
    }

    async fn gifts(&self) -> Result<Vec<Gift>> {
        self.calls.pass("plugins.gifts")?;
        Ok(self.world().gifts.iter().cloned().collect())
    }

    async fn noted(&self, gift: &Gift) {
        self.world().gifts.remove(gift);
    }
}
