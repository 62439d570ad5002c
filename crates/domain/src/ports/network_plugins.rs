//! Drivers of networks and of addresses that are programs of others.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{
    NetworkId, Result,
    container::record::Endpoint,
    network::{Families, NetworkRecord, PortRequest, Protocol, lent::StaticRoute},
};

/// Docker's plugin protocol for networks (`NetworkDriver`) and addresses (`IpamDriver`).
///
/// Every call ends in time. `NotFound`: there is no such plugin; `Unavailable`: it was not reached, or did not answer,
/// and may or may not have done what it was asked for; any other kind: it answered, and refused in these words.
///
/// What takes waits for a plugin that is starting; what gives back does not, for it can be tried again.
#[async_trait]
pub trait NetworkPlugins: Send + Sync {
    /// Finds a network driver. `could not find plugin x in v1 plugin registry: plugin not found`.
    async fn driver(&self, name: &str) -> Result<DriverTraits>;
    /// Finds a driver of addresses.
    async fn ipam(&self, name: &str) -> Result<IpamTraits>;
    /// Network drivers that have been found so far.
    fn drivers(&self) -> Vec<String>;

    /// Families in which the network needs no gateway's address.
    async fn without_gateway(&self, network: &NetworkRecord) -> Result<Families>;
    async fn create_network(&self, network: &NetworkRecord) -> Result<()>;
    async fn delete_network(&self, driver: &str, network: &NetworkId) -> Result<()>;
    async fn create_endpoint(
        &self,
        network: &NetworkRecord,
        endpoint: &Endpoint,
        options: &EndpointOptions,
    ) -> Result<MadeEndpoint>;
    async fn delete_endpoint(&self, place: &Place) -> Result<()>;
    /// Before the interface is moved. `sandbox` is the path of the namespace.
    async fn join(&self, place: &Place, sandbox: &Path, options: &EndpointOptions) -> Result<Joined>;
    async fn leave(&self, place: &Place) -> Result<()>;
    /// Makes the endpoint that leads outside reachable from there.
    async fn publish_endpoint(&self, place: &Place, options: &EndpointOptions) -> Result<()>;
    async fn withdraw_endpoint(&self, place: &Place) -> Result<()>;
    /// Asked once after a join, as libnetwork does; nothing follows from the answer.
    async fn endpoint_info(&self, place: &Place) -> Result<()>;

    async fn request_pool(&self, ipam: &str, wanted: &PoolRequest) -> Result<GivenPool>;
    async fn release_pool(&self, ipam: &str, pool: &str) -> Result<()>;
    async fn request_address(&self, ipam: &str, wanted: &AddressRequest) -> Result<IpNet>;
    async fn release_address(&self, ipam: &str, pool: &str, address: IpAddr) -> Result<()>;

    /// What plugins of addresses gave and nobody has noted since: who asked was killed before that.
    async fn gifts(&self) -> Result<Vec<Gift>>;
    /// It is in something durable, or was given back.
    async fn noted(&self, gift: &Gift);
}

/// The answer of a plugin of addresses, kept by the port before it is told: the plugin alone chooses what it gives, and
/// can be asked neither for it again nor what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gift {
    pub ipam: String,
    pub pool: String,
    /// `None`: the pool itself.
    pub address: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriverTraits {
    /// Its networks are the same on every host.
    pub global: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpamTraits {
    /// It gives an address only to a MAC address.
    pub needs_mac: bool,
    /// It remembers nothing: after a start it is told what is in use.
    pub needs_replay: bool,
    pub local_space: String,
    pub global_space: String,
}

/// One endpoint in one network of one driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub driver: String,
    pub network: NetworkId,
    pub endpoint: String,
}

/// What a driver is told beside the addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointOptions {
    pub exposed: Vec<(u16, Protocol)>,
    pub ports: Vec<PortRequest>,
    pub driver: BTreeMap<String, String>,
    /// That was asked for by the user.
    pub mac: Option<[u8; 6]>,
}

/// What the driver chose, where it was not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MadeEndpoint {
    pub ipv4: Option<Ipv4Net>,
    pub ipv6: Option<Ipv6Net>,
    pub mac: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    /// Name of the interface on the host; empty where none is to be moved.
    pub source: String,
    /// What its name in the container begins with.
    pub prefix: String,
    pub gateway: Option<std::net::Ipv4Addr>,
    pub gateway_v6: Option<std::net::Ipv6Addr>,
    pub routes: Vec<StaticRoute>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolRequest {
    pub space: String,
    /// Empty: the plugin chooses.
    pub pool: String,
    pub range: String,
    pub options: BTreeMap<String, String>,
    pub v6: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenPool {
    pub id: String,
    pub net: IpNet,
    /// Where the plugin has one already.
    pub gateway: Option<IpNet>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRequest {
    pub pool: String,
    /// `None`: the plugin chooses.
    pub address: Option<IpAddr>,
    pub options: BTreeMap<String, String>,
}
