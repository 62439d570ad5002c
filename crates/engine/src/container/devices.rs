//! `HostConfig.DeviceRequests`: the drivers of the host, and what they change in a container's spec.

use gantry_domain::{
    Error, Result,
    cdi::{ContainerEdits, Registry},
    container::device_request::{AMD_RUNTIME, DeviceDrivers, NVIDIA_HOOK},
};

use super::owner::Owner;
use crate::parts::Parts;

/// The drivers as they are now, and what is wrong with vendors' specs, for `/info`.
pub(crate) async fn device_drivers(parts: &Parts) -> (DeviceDrivers, Vec<String>) {
    let host = &parts.ports.host;
    let specs = host.cdi_specs(&parts.settings.load_full().cdi_spec_dirs).await;
    let wrong = |(path, why): &(String, String)| format!("CDI: Error associated with spec file {path}: {why}");
    let mut problems: Vec<String> = specs.errors.iter().map(wrong).collect();
    let cdi = Registry::new(specs.files);
    problems.extend(cdi.conflicts.iter().map(|name| format!("CDI: conflicting device \"{name}\"")));
    let drivers = DeviceDrivers {
        cdi,
        nvidia_hook: host.program(NVIDIA_HOOK).await,
        amd_runtime: host.program(AMD_RUNTIME).await,
        path: std::env::var("PATH").unwrap_or_default(),
    };
    (drivers, problems)
}

impl Owner {
    /// What the requested devices ask for, with the numbers of their nodes on this host.
    pub(crate) async fn device_edits(&self) -> Result<Vec<ContainerEdits>> {
        let requests = self.record.host_config.device_requests.as_deref().unwrap_or_default();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let (drivers, problems) = device_drivers(&self.parts).await;
        for problem in problems {
            tracing::warn!(container = %self.record.id, "{problem}");
        }
        let mut edits = Vec::new();
        for request in requests {
            edits.extend(drivers.edits(request)?);
        }
        for node in edits.iter_mut().flat_map(|edits| &mut edits.device_nodes).filter(|node| node.lacks_numbers()) {
            let found = self.parts.ports.host.devices(node.source()).await;
            let failed = |error: Error| error.context(format!("failed to stat CDI host device \"{}\"", node.source()));
            match found.map_err(failed)?.first() {
                Some(one) => node.complete(one)?,
                None => return Err(Error::system(format!("CDI host device \"{}\" is no device", node.source()))),
            }
        }
        Ok(edits)
    }
}
