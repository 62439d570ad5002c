//! `POST /containers/{id}/update`: limits of a container, running or not, and its restart policy.

use futures::FutureExt as _;
use gantry_domain::{
    Error, ErrorKind, Result,
    container::{HostConfig, Status, update, validate},
};

use super::owner::Owner;
use crate::Engine;

impl Engine {
    /// Only the fields of `wanted` that are set change. Returns warnings for the client.
    pub async fn container_update(&self, name: &str, wanted: HostConfig) -> Result<Vec<String>> {
        let handle = self.parts.container(name)?;
        let prefix = format!("Cannot update container {}", handle.id);
        let updated = handle.run_unless_hurried(move |owner| async move { owner.update(&wanted).await }.boxed()).await;
        updated.map_err(|error| error.context(prefix))
    }
}

impl Owner {
    async fn update(&mut self, wanted: &HostConfig) -> Result<Vec<String>> {
        if matches!(self.status, Status::Removing | Status::Dead) {
            return Err(Error::conflict("Container is marked for removal and cannot be \"update\"."));
        }
        let facts = self.parts.facts().await;
        let mut wanted = wanted.clone();
        let warnings = validate::resources::validate(&mut wanted, &facts, true)?;
        let next = update::apply(&self.record.host_config, &wanted)?;
        let before = std::mem::replace(&mut self.record.host_config, next);
        if let Err(error) = self.bring_about().await {
            self.record.host_config = before;
            return Err(error);
        }
        self.publish();
        self.keep_copy().await;
        self.event("update", &[]);
        Ok(warnings)
    }

    /// The running task first: the kernel may refuse what the rules let through.
    async fn bring_about(&mut self) -> Result<()> {
        if self.status.has_process() {
            let resources = gantry_spec::resources(&self.record.host_config, &self.block_devices().await?)?;
            let updated = self.parts.ports.runtime.update_resources(&self.record.id, resources).await;
            updated.map_err(refused_value)?;
        }
        self.save().await
    }
}

/// A value that the kernel does not take is the client's, although it is the runtime that says so.
fn refused_value(error: Error) -> Error {
    let text = error.message();
    let limit = ["minimum", "maximum"].iter().any(|word| text.contains(&format!("the {word} allowed cpu-shares")));
    if limit || text.contains("invalid argument") { error.with_kind(ErrorKind::InvalidParameter) } else { error }
}
