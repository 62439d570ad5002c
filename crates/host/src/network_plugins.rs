//! Plugins of networks and addresses: the port over Docker's protocol. What is said to them is in `driver.rs` and
//! `ipam.rs`, how it looks in `shapes.rs`.

mod driver;
mod gifts;
mod ipam;
mod shapes;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

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
use ipnet::IpNet;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::plugins::{Failure, Limit, Plugin, Plugins};

/// All plugins of networks and addresses on the host.
#[derive(Debug, Clone)]
pub struct RemoteNetworks {
    plugins: Plugins,
    gifts: PathBuf,
    /// What those said of themselves that were found.
    drivers: Arc<Mutex<BTreeMap<String, driver::Known>>>,
    ipams: Arc<Mutex<BTreeMap<String, IpamTraits>>>,
}

impl RemoteNetworks {
    pub fn new(data_root: &Path, plugins: Plugins) -> Self {
        Self { plugins, gifts: data_root.join("gifts"), drivers: Arc::default(), ipams: Arc::default() }
    }

    /// One call of a plugin that implements `what`.
    async fn call(&self, name: &str, what: &str, method: &str, body: &Value, limit: Limit) -> Result<Value> {
        let plugin = self.find(name, what, limit).await?;
        let method = format!("{what}.{method}");
        plugin.ask(&method, body, limit).await.map_err(|failure| told(&method, &failure))
    }

    async fn find(&self, name: &str, what: &str, limit: Limit) -> Result<Plugin> {
        // libnetwork's words for a plugin that is not there.
        let missing =
            || Error::not_found(format!("could not find plugin {name} in v1 plugin registry: plugin not found"));
        self.plugins.find_within(name, what, limit).await?.ok_or_else(missing)
    }
}

/// The port's kinds of failure.
fn told(method: &str, failure: &Failure) -> Error {
    match failure {
        Failure::Away(_) => Error::unavailable(failure.text(method)),
        Failure::Refused(..) => Error::system(failure.text(method)),
    }
}

#[async_trait]
impl NetworkPlugins for RemoteNetworks {
    async fn driver(&self, name: &str) -> Result<DriverTraits> {
        Ok(self.known_driver(name).await?.traits)
    }

    async fn ipam(&self, name: &str) -> Result<IpamTraits> {
        self.known_ipam(name).await
    }

    fn drivers(&self) -> Vec<String> {
        self.drivers.lock().keys().cloned().collect()
    }

    async fn without_gateway(&self, network: &NetworkRecord) -> Result<Families> {
        self.skipped_gateways(network).await
    }

    async fn create_network(&self, network: &NetworkRecord) -> Result<()> {
        self.network_call(&network.driver, "CreateNetwork", &shapes::network(network), Limit::PATIENT).await.map(drop)
    }

    async fn delete_network(&self, driver: &str, network: &NetworkId) -> Result<()> {
        let body = json!({"NetworkID": network.as_str()});
        self.network_call(driver, "DeleteNetwork", &body, Limit::BRIEF).await.map(drop)
    }

    async fn create_endpoint(
        &self,
        network: &NetworkRecord,
        endpoint: &Endpoint,
        options: &EndpointOptions,
    ) -> Result<MadeEndpoint> {
        let body = shapes::endpoint(network, endpoint, options);
        let answer = self.network_call(&network.driver, "CreateEndpoint", &body, Limit::PATIENT).await?;
        shapes::made_endpoint(&answer, endpoint)
    }

    async fn delete_endpoint(&self, place: &Place) -> Result<()> {
        self.at(place, "DeleteEndpoint", Limit::BRIEF).await
    }

    async fn join(&self, place: &Place, sandbox: &Path, options: &EndpointOptions) -> Result<Joined> {
        let mut body = shapes::place(place);
        body["SandboxKey"] = json!(sandbox);
        body["Options"] = shapes::sandbox_options(options);
        shapes::joined(&self.network_call(&place.driver, "Join", &body, Limit::PATIENT).await?)
    }

    async fn leave(&self, place: &Place) -> Result<()> {
        self.at(place, "Leave", Limit::BRIEF).await
    }

    async fn publish_endpoint(&self, place: &Place, options: &EndpointOptions) -> Result<()> {
        let mut body = shapes::place(place);
        body["Options"] = shapes::sandbox_options(options);
        self.where_known(place, "ProgramExternalConnectivity", &body, Limit::PATIENT).await
    }

    async fn withdraw_endpoint(&self, place: &Place) -> Result<()> {
        self.where_known(place, "RevokeExternalConnectivity", &shapes::place(place), Limit::BRIEF).await
    }

    async fn endpoint_info(&self, place: &Place) -> Result<()> {
        self.at(place, "EndpointOperInfo", Limit::BRIEF).await
    }

    async fn request_pool(&self, ipam: &str, wanted: &PoolRequest) -> Result<GivenPool> {
        let given = self.ask_for_pool(ipam, wanted).await?;
        self.keep_gift(Gift { ipam: ipam.to_owned(), pool: given.id.clone(), address: None }).await;
        Ok(given)
    }

    async fn release_pool(&self, ipam: &str, pool: &str) -> Result<()> {
        self.ipam_call(ipam, "ReleasePool", &json!({"PoolID": pool}), Limit::BRIEF).await.map(drop)
    }

    async fn request_address(&self, ipam: &str, wanted: &AddressRequest) -> Result<IpNet> {
        let given = self.ask_for_address(ipam, wanted).await?;
        self.keep_gift(Gift { ipam: ipam.to_owned(), pool: wanted.pool.clone(), address: Some(given.addr()) }).await;
        Ok(given)
    }

    async fn release_address(&self, ipam: &str, pool: &str, address: IpAddr) -> Result<()> {
        let body = json!({"PoolID": pool, "Address": address});
        self.ipam_call(ipam, "ReleaseAddress", &body, Limit::BRIEF).await.map(drop)
    }

    async fn gifts(&self) -> Result<Vec<Gift>> {
        self.kept_gifts().await
    }

    async fn noted(&self, gift: &Gift) {
        self.forget_gift(gift).await;
    }
}
