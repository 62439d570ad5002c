//! A container's user namespace: its maps, whose it is, and the network that has to be wired behind it.
//!
//! The kernel mounts sysfs only for who owns the network namespace, so that of a container with a user namespace is made
//! with it, by the runtime: the network is wired when the task is made and before it begins.

use gantry_domain::{Error, Result, container::ContainerRecord, id_maps::IdMaps};
use gantry_spec::Namespace;

use super::{mounts::shared_with, owner::Owner, resolver};
use crate::parts::Parts;

/// The maps of a container that has a user namespace.
pub(crate) fn remapping(parts: &Parts, record: &ContainerRecord) -> Option<IdMaps> {
    parts.settings.load().remapping(&record.host_config).cloned()
}

impl Owner {
    pub(crate) fn remapping(&self) -> Option<IdMaps> {
        remapping(&self.parts, &self.record)
    }

    /// Its own, or that of the container whose namespaces it shares: they belong together.
    pub(crate) fn user_namespace(&self) -> Result<Namespace> {
        if self.remapping().is_none() {
            return Ok(Namespace::Host);
        }
        let host = &self.record.host_config;
        let modes = [&host.pid_mode, &host.ipc_mode, &host.network_mode];
        let Some(other) = modes.into_iter().find_map(|mode| shared_with(mode)) else { return Ok(Namespace::New) };
        let other = self.parts.container(other)?.snapshot();
        if remapping(&self.parts, &other.record).is_none() {
            return Err(Error::conflict(format!(
                "cannot join a namespace of container {}, which runs in the host's user namespace, from another one",
                other.record.id
            )));
        }
        Ok(Namespace::Join(format!("/proc/{}/ns/user", other.pid).into()))
    }

    /// Wires the namespace that the runtime made with the task.
    pub(crate) async fn wire_network(&mut self, process: u32) -> Result<()> {
        if self.remapping().is_none() {
            return Ok(());
        }
        let Some(sandbox) = self.sandbox_setup()? else { return Ok(()) };
        let names = self.resolver_setup().await?;
        resolver::open_sandbox(&self.parts, &sandbox, names.as_ref(), Some(process)).await?;
        self.join_lent().await
    }
}
