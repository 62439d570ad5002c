//! The network side of a run: places in networks, ports, and the sandbox that follows from them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use gantry_domain::{
    Error, ErrorKind, Result,
    container::{Run, port, record::Endpoint},
    network::{NetworkRecord, PortRequest, PublishedPort, endpoint, options::GatewayMode},
    ports::SandboxSetup,
};

use super::{
    addresses::{self, networks_of},
    mounts::shared_with,
    owner::Owner,
};

impl Owner {
    /// `reserve`, once more where a run that is over still held what is wanted: its client has heard of its end.
    pub(crate) async fn reserve_in_turn(&mut self) -> Result<()> {
        let before = self.record.run.clone();
        let Err(error) = self.reserve().await else { return Ok(()) };
        if !self.parts.ended_runs_are_cleared().await {
            return Err(error);
        }
        self.parts.ports.network.release_ports(&self.record.id).await?;
        // What plugins gave for the first try goes back: the second asks anew, with the addresses of the run before.
        self.owe_lent().await?;
        self.settle_lent().await;
        self.parts.claims.lock().leave_networks(&self.record.id);
        self.record.run = before;
        self.reserve().await
    }

    /// Addresses and ports of the run to come; nothing is made yet but the sockets that hold the ports.
    pub(crate) async fn reserve(&mut self) -> Result<()> {
        let run = self.next_run();
        if shared_with(&self.record.host_config.network_mode).is_some() {
            self.record.run = Some(run);
            return Ok(());
        }
        let reserved = {
            let mut claims = self.parts.claims.lock();
            let normalized = addresses::normalize(&mut self.record, &claims);
            let checked = normalized.and_then(|()| super::connect::check_all(&self.record, &claims));
            checked.and_then(|()| addresses::reserve(&mut claims, &self.record))
        };
        let made = match reserved {
            Ok(made) => self.take_lent(made).await.map(|made| addresses::arrange(&self.record, made)),
            Err(error) => Err(error),
        };
        let run = self.record.run.insert(run);
        run.endpoints = made.map_err(|error| error.context("failed to set up container networking"))?;
        self.reserve_ports().await.map_err(|error| self.networking_failed(error))
    }

    /// A run that nothing is known of yet.
    pub(crate) fn next_run(&self) -> Run {
        Run {
            number: self.record.runs + 1,
            boot_id: self.parts.boot_id.clone(),
            before: self.record.run.as_ref().map(Run::times).unwrap_or_default(),
            ..Run::default()
        }
    }

    /// Holds the ports of the run, where one of its networks publishes them.
    pub(crate) async fn reserve_ports(&mut self) -> Result<()> {
        let wanted = self.wanted_ports()?;
        let mut ports = wanted.routed;
        if !wanted.bound.is_empty() {
            ports.extend(self.parts.ports.network.reserve_ports(&self.record.id, &wanted.bound).await?);
        }
        if let Some(run) = self.record.run.as_mut() {
            run.ports = ports;
        }
        Ok(())
    }

    fn wanted_ports(&self) -> Result<WantedPorts> {
        let Some(setup) = self.sandbox_setup()? else { return Ok(WantedPorts::default()) };
        let mode = |v6: bool| match setup.gateway(v6) {
            Some((network, _)) if network.publishes() => network.gateway_mode(v6).map(Some),
            _ => Ok(None),
        };
        let (v4, v6) = (mode(false)?, mode(true)?);
        if v4.is_none() && v6.is_none() {
            return Ok(WantedPorts::default());
        }
        let host_ip = self.host_binding(&setup)?;
        let requests = port::requests(&self.record.config.exposed_ports, &self.record.host_config, host_ip)?;
        let container_ips = [setup.target(false), setup.target(true)];
        Ok(requests.into_iter().fold(WantedPorts::default(), |mut wanted, request| {
            wanted.add(PortRequest { container_ips, ..request }, v4, v6);
            wanted
        }))
    }

    /// The host's address that ports are published on where none is asked for.
    fn host_binding(&self, setup: &SandboxSetup) -> Result<Option<IpAddr>> {
        match setup.gateway(false) {
            Some((network, _)) if !network.predefined => network.host_binding(),
            _ => Ok(self.parts.settings.load().default_ip),
        }
    }

    /// dockerd's words around a failure of the network.
    pub(crate) fn networking_failed(&self, error: Error) -> Error {
        let endpoints = self.record.run.iter().flat_map(|run| run.endpoints.values());
        let endpoint = endpoints.map(|endpoint| endpoint.endpoint_id.as_str()).next().unwrap_or_default();
        error.with_kind(ErrorKind::System).context(format!(
            "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({endpoint})",
            self.record.name
        ))
    }

    /// The path of the sandbox's namespace.
    pub(crate) fn sandbox_key(&self) -> PathBuf {
        let exec_root = self.parts.settings.load().exec_root.clone();
        PathBuf::from(exec_root).join("netns").join(self.record.id.as_str())
    }

    /// The sandbox of the run: `None` where another's namespace or the host's is used.
    pub(crate) fn sandbox_setup(&self) -> Result<Option<SandboxSetup>> {
        let mode = &self.record.host_config.network_mode;
        if mode == "host" || shared_with(mode).is_some() {
            return Ok(None);
        }
        let Some(run) = &self.record.run else { return Ok(None) };
        let mut endpoints: Vec<(NetworkRecord, Endpoint)> = networks_of(&self.record, &self.parts.claims.lock())?
            .into_iter()
            .filter_map(|(name, network)| Some((network, run.endpoints.get(&name)?.clone())))
            // `none` has no interface, and a plugin's network none before the join.
            .filter(|(_, endpoint)| !endpoint.interface.is_empty())
            .collect();
        endpoint::sort(&mut endpoints);
        let sysctls = self.record.host_config.sysctls.iter().filter(|(key, _)| key.starts_with("net."));
        Ok(Some(SandboxSetup {
            id: self.record.id.clone(),
            endpoints,
            ports: run.ports.clone(),
            sysctls: sysctls.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }))
    }
}

/// Ports of a run: those that take a port of the host, and those that are reached at the container's own address.
#[derive(Default)]
struct WantedPorts {
    bound: Vec<PortRequest>,
    routed: Vec<PublishedPort>,
}

impl WantedPorts {
    /// By how each family's gateway leads outside; a family without one is served through the other.
    fn add(&mut self, request: PortRequest, v4: Option<GatewayMode>, v6: Option<GatewayMode>) {
        let is_routed = |mode: Option<GatewayMode>| mode == Some(GatewayMode::Routed);
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let bound = [v4.or(v6), v6.or(v4)].map(|mode| !is_routed(mode));
        for (address, routed) in any.into_iter().zip([is_routed(v4), is_routed(v6)]) {
            let port = PublishedPort {
                container_port: request.container_port,
                protocol: request.protocol,
                host_ip: address,
                host_port: 0,
            };
            if routed && !self.routed.contains(&port) {
                self.routed.push(port);
            }
        }
        match request.host_ip {
            None if bound == [true, true] => self.bound.push(request),
            None => {
                let hosts = any.into_iter().zip(bound).filter(|(_, bound)| *bound);
                self.bound.extend(hosts.map(|(host_ip, _)| PortRequest { host_ip: Some(host_ip), ..request.clone() }));
            }
            Some(host_ip) if bound[usize::from(host_ip.is_ipv6())] => self.bound.push(request),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_domain::network::Protocol;

    use super::*;

    #[test]
    fn a_routed_family_takes_no_port_of_the_host() {
        let request = PortRequest {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
            host_ports: Some((8080, 8080)),
            container_ips: [None; 2],
        };
        let wanted = |v4, v6| {
            let mut wanted = WantedPorts::default();
            wanted.add(request.clone(), v4, v6);
            (wanted.bound.len(), wanted.routed.len())
        };
        assert_eq!(wanted(Some(GatewayMode::Nat), None), (1, 0));
        assert_eq!(wanted(Some(GatewayMode::Routed), None), (0, 1));
        assert_eq!(wanted(Some(GatewayMode::Nat), Some(GatewayMode::Routed)), (1, 1));
        assert_eq!(wanted(Some(GatewayMode::Routed), Some(GatewayMode::Routed)), (0, 2));
    }
}
