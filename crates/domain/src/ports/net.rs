//! Networks on the kernel: bridges, namespaces, addresses, published ports, firewall.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use async_trait::async_trait;

use crate::{
    ContainerId, NetworkId, Result,
    container::record::Endpoint,
    network::{NetworkRecord, PortRequest, PublishedPort, names::ResolverSetup},
};

/// The network port. Everything it makes bears our engine id and can be found again after a restart.
#[async_trait]
pub trait Network: Send + Sync {
    /// Makes the network's links and rules, or repairs them. May be repeated. `host` and `null` need nothing.
    async fn ensure_network(&self, network: &NetworkRecord) -> Result<()>;
    /// The networks on record, told before the first removal: what they share on the host is not taken from them.
    fn expect_networks(&self, _networks: &[NetworkRecord]) {}
    /// Takes everything that bears this network's id away. Absent is `Ok`.
    async fn remove_network(&self, id: &NetworkId) -> Result<()>;
    /// Networks for which links or rules of ours exist; for the reconciliation.
    async fn networks(&self) -> Result<Vec<NetworkId>>;

    /// Binds the host's ports (the sockets are the reservation, held by gantry-netd) and says which they became; a
    /// request without host address gives one entry for each family the host has. All or nothing.
    /// `System`: `Bind for 0.0.0.0:80 failed: port is already allocated`.
    async fn reserve_ports(&self, id: &ContainerId, wanted: &[PortRequest]) -> Result<Vec<PublishedPort>>;
    /// Gives them back. Absent is `Ok`.
    async fn release_ports(&self, id: &ContainerId) -> Result<()>;

    /// Makes the container's namespace with loopback up, a link for each endpoint, addresses, routes, published ports
    /// and rules; undone in reverse on failure. Returns the path of the namespace.
    async fn create_sandbox(&self, setup: &SandboxSetup) -> Result<PathBuf>;
    /// As `create_sandbox`, in the namespace that the runtime made for this process, which has not begun its program:
    /// of a container with a user namespace it has to be that one's own.
    async fn wire_sandbox(&self, setup: &SandboxSetup, process: u32) -> Result<PathBuf>;
    /// Brings the sandbox of a container that runs to what the setup says: joins networks, leaves networks, moves the
    /// default routes and published ports when the endpoint that gave them changed. May be repeated; what is as wanted
    /// is not touched. `NotFound` when the namespace is gone.
    async fn update_sandbox(&self, setup: &SandboxSetup) -> Result<()>;
    /// Moves an interface that was lent out of the container's namespace, back to the host under the name it had there.
    /// Absent is `Ok`.
    async fn return_interface(&self, id: &ContainerId, interface: &str, source: &str) -> Result<()>;
    /// Takes the namespace and all in it away; keeps the reserved ports. Absent is `Ok`.
    async fn delete_sandbox(&self, id: &ContainerId) -> Result<()>;
    /// After a restart: takes the sandbox of a container that still runs back under care, and mends what is missing
    /// (endpoints, rules, relays, listening sockets). `NotFound` when its namespace is gone.
    async fn adopt_sandbox(&self, setup: &SandboxSetup) -> Result<()>;
    /// Answers the container's look-ups at 127.0.0.11 from now on, and makes its names known to the others of its
    /// networks; replaces what was told before. Its sandbox is there; ends with `delete_sandbox`. Answers go on while
    /// gantryd is dead. Without networks one that is there knows nothing any more, and none is made.
    async fn resolve(&self, id: &ContainerId, setup: &ResolverSetup) -> Result<()>;
    /// Containers for which a namespace or reserved ports exist; for the reconciliation.
    async fn sandboxes(&self) -> Result<Vec<ContainerId>>;

    /// The host's own subnets and routes, to keep pools away from them.
    async fn host_routes(&self) -> Result<Vec<ipnet::IpNet>>;
    /// Bytes and packets of each interface in the container's namespace.
    async fn statistics(&self, id: &ContainerId) -> Result<BTreeMap<String, InterfaceStatistics>>;
    /// What an administrator should know: another firewall's drop, forwarding off, an IPv6 that is missing.
    fn warnings(&self) -> Vec<String>;
}

/// One container's networks for one run.
#[derive(Debug, Clone)]
pub struct SandboxSetup {
    pub id: ContainerId,
    /// With their networks, the one that gives the default route first.
    pub endpoints: Vec<(NetworkRecord, Endpoint)>,
    pub ports: Vec<PublishedPort>,
    /// `net.*` settings of the container.
    pub sysctls: BTreeMap<String, String>,
}

impl SandboxSetup {
    /// The endpoint that gives the default route of this family.
    pub fn gateway(&self, v6: bool) -> Option<&(NetworkRecord, Endpoint)> {
        let has_gateway =
            |endpoint: &Endpoint| if v6 { endpoint.ipv6_gateway.is_some() } else { endpoint.ipv4_gateway.is_some() };
        self.endpoints.iter().find(|(network, endpoint)| !network.internal && has_gateway(endpoint))
    }

    /// The address that published ports of this family lead to.
    pub fn target(&self, v6: bool) -> Option<IpAddr> {
        let (network, endpoint) = self.gateway(v6)?;
        let address = if v6 {
            endpoint.ipv6.map(|net| IpAddr::V6(net.addr()))
        } else {
            endpoint.ipv4.map(|net| IpAddr::V4(net.addr()))
        };
        address.filter(|_| network.publishes())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceStatistics {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}
