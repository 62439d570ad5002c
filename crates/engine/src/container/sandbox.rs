//! The network side of a run: places in networks, ports, and the sandbox that follows from them.

use std::net::IpAddr;

use gantry_domain::{
    Error, ErrorKind, Result,
    container::{Run, port, record::Endpoint},
    network::{NetworkRecord, PortRequest, endpoint},
    ports::SandboxSetup,
};

use super::{
    addresses::{self, networks_of},
    mounts::shared_with,
    owner::Owner,
};

impl Owner {
    /// Addresses and ports of the run to come; nothing is made yet but the sockets that hold the ports.
    pub(crate) async fn reserve(&mut self) -> Result<()> {
        let mut run = Run { number: self.record.runs + 1, boot_id: self.parts.boot_id.clone(), ..Run::default() };
        if shared_with(&self.record.host_config.network_mode).is_some() {
            self.record.run = Some(run);
            return Ok(());
        }
        let failed = |error: Error| error.context("failed to set up container networking");
        {
            let mut claims = self.parts.claims.lock();
            addresses::normalize(&mut self.record, &claims).map_err(failed)?;
            run.endpoints = addresses::reserve(&mut claims, &self.record).map_err(failed)?;
        }
        self.record.run = Some(run);
        self.reserve_ports().await.map_err(|error| self.networking_failed(error))
    }

    /// Holds the ports of the run, where one of its networks publishes them.
    pub(crate) async fn reserve_ports(&mut self) -> Result<()> {
        let wanted = self.wanted_ports()?;
        if !wanted.is_empty() {
            let ports = self.parts.ports.network.reserve_ports(&self.record.id, &wanted).await?;
            if let Some(run) = self.record.run.as_mut() {
                run.ports = ports;
            }
        }
        Ok(())
    }

    fn wanted_ports(&self) -> Result<Vec<PortRequest>> {
        let Some(setup) = self.sandbox_setup()? else { return Ok(Vec::new()) };
        if setup.target(false).is_none() && setup.target(true).is_none() {
            return Ok(Vec::new());
        }
        let host_ip = self.host_binding(&setup)?;
        port::requests(&self.record.config.exposed_ports, &self.record.host_config, host_ip)
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
            // `none` has no interface.
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
