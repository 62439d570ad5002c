//! The network port: sandboxes and ports that are entries in a map.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use async_trait::async_trait;
use gantry_domain::{
    ContainerId, Error, NetworkId, Result,
    network::{NetworkRecord, PortRequest, PublishedPort, names::ResolverSetup},
    ports::{InterfaceStatistics, Network, SandboxSetup, TaskStatus},
};

use crate::Fakes;

#[async_trait]
impl Network for Fakes {
    async fn ensure_network(&self, network: &NetworkRecord) -> Result<()> {
        self.calls.pass("network.ensure_network")?;
        self.world().networks.insert(network.id.clone());
        Ok(())
    }

    async fn remove_network(&self, id: &NetworkId) -> Result<()> {
        self.calls.pass("network.remove_network")?;
        self.world().networks.remove(id);
        Ok(())
    }

    async fn networks(&self) -> Result<Vec<NetworkId>> {
        self.calls.pass("network.networks")?;
        Ok(self.world().networks.iter().cloned().collect())
    }

    async fn reserve_ports(&self, id: &ContainerId, wanted: &[PortRequest]) -> Result<Vec<PublishedPort>> {
        self.calls.pass("network.reserve_ports")?;
        let mut world = self.world();
        let mut ports = Vec::new();
        for request in wanted {
            let host_port = match request.host_ports {
                Some((first, _)) => first,
                None => world.free_port(),
            };
            let host_ip = request.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let taken = world.ports.iter().any(|(owner, ports)| {
                owner != id && ports.iter().any(|port| port.host_port == host_port && port.protocol == request.protocol)
            });
            if taken {
                return Err(Error::system(format!("Bind for {host_ip}:{host_port} failed: port is already allocated")));
            }
            let (container_port, protocol) = (request.container_port, request.protocol);
            ports.push(PublishedPort { container_port, protocol, host_ip, host_port });
        }
        world.ports.insert(id.clone(), ports.clone());
        Ok(ports)
    }

    async fn release_ports(&self, id: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("network.release_ports").await?;
        self.world().ports.remove(id);
        Ok(())
    }

    async fn create_sandbox(&self, setup: &SandboxSetup) -> Result<PathBuf> {
        self.calls.pass_in_time("network.create_sandbox").await?;
        let (id, made) = (setup.id.clone(), interfaces(setup));
        self.on_a_thread(move |world| world.sandboxes.insert(id, made)).await;
        Ok(PathBuf::from("/run/fake/netns").join(setup.id.as_str()))
    }

    async fn wire_sandbox(&self, setup: &SandboxSetup, process: u32) -> Result<PathBuf> {
        self.calls.pass_in_time("network.wire_sandbox").await?;
        let process_of = self.world().processes.get(&(setup.id.clone(), None)).map(|task| (task.pid, task.status));
        if process_of != Some((process, TaskStatus::Created)) {
            return Err(Error::system("no such process"));
        }
        let (id, made) = (setup.id.clone(), interfaces(setup));
        self.on_a_thread(move |world| world.sandboxes.insert(id, made)).await;
        Ok(PathBuf::from("/run/fake/netns").join(setup.id.as_str()))
    }

    async fn return_interface(&self, id: &ContainerId, interface: &str, _: &str) -> Result<()> {
        self.calls.pass("network.return_interface")?;
        if let Some(sandbox) = self.world().sandboxes.get_mut(id) {
            sandbox.remove(interface);
        }
        Ok(())
    }

    async fn delete_sandbox(&self, id: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("network.delete_sandbox").await?;
        let mut world = self.world();
        world.sandboxes.remove(id);
        world.resolvers.remove(id);
        Ok(())
    }

    async fn adopt_sandbox(&self, setup: &SandboxSetup) -> Result<()> {
        self.calls.pass("network.adopt_sandbox")?;
        self.converge(setup)
    }

    async fn update_sandbox(&self, setup: &SandboxSetup) -> Result<()> {
        self.calls.pass("network.update_sandbox")?;
        self.converge(setup)
    }

    async fn resolve(&self, id: &ContainerId, setup: &ResolverSetup) -> Result<()> {
        self.calls.pass("network.resolve")?;
        let mut world = self.world();
        if setup.networks.is_empty() && !world.resolvers.contains_key(id) {
            return Ok(());
        }
        if !world.sandboxes.contains_key(id) {
            return Err(Error::not_found("the namespace is gone"));
        }
        world.resolvers.insert(id.clone(), setup.clone());
        Ok(())
    }

    async fn sandboxes(&self) -> Result<Vec<ContainerId>> {
        self.calls.pass("network.sandboxes")?;
        let world = self.world();
        Ok(world.sandboxes.keys().chain(world.ports.keys()).chain(world.resolvers.keys()).cloned().collect())
    }

    async fn host_routes(&self) -> Result<Vec<ipnet::IpNet>> {
        self.calls.pass("network.host_routes")?;
        Ok(self.world().host_routes.clone())
    }

    async fn statistics(&self, id: &ContainerId) -> Result<BTreeMap<String, InterfaceStatistics>> {
        self.calls.pass("network.statistics")?;
        let world = self.world();
        let interfaces = world.sandboxes.get(id).into_iter().flat_map(BTreeMap::keys);
        Ok(interfaces.map(|name| (name.clone(), InterfaceStatistics::default())).collect())
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Fakes {
    fn converge(&self, setup: &SandboxSetup) -> Result<()> {
        match self.world().sandboxes.get_mut(&setup.id) {
            Some(sandbox) => *sandbox = interfaces(setup),
            None => return Err(Error::not_found("the namespace is gone")),
        }
        Ok(())
    }
}

/// Names of interfaces with the networks they lead to.
fn interfaces(setup: &SandboxSetup) -> BTreeMap<String, String> {
    let endpoints = setup.endpoints.iter();
    endpoints.map(|(network, endpoint)| (endpoint.interface.clone(), network.name.clone())).collect()
}
