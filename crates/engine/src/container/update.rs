//! `POST /containers/{id}/update`: limits of a container, running or not, and its restart policy.

use std::time::Duration;

use futures::FutureExt as _;
use gantry_domain::{
    Error, ErrorKind, Result,
    container::{HostConfig, Status, restart, update, validate},
};

use super::owner::Owner;
use crate::Engine;

/// A shim that does not answer.
const LIMIT: Duration = Duration::from_secs(60);

impl Engine {
    /// Only the fields of `wanted` that are set change. Returns warnings for the client.
    pub async fn container_update(&self, name: &str, wanted: HostConfig) -> Result<Vec<String>> {
        // What is wrong whatever the container comes first, as in dockerd, and bare.
        validate::resources::validate(&mut wanted.clone(), self.parts.facts().await.as_ref(), true)?;
        restart::validate(&wanted.restart_policy)?;
        let handle = self.parts.container(name)?;
        let prefix = format!("Cannot update container {}", handle.id);
        // Not cut off in the middle: record and kernel agree after it. What hangs has its time.
        let updated = handle.run(move |owner| async move { owner.update(&wanted).await }.boxed()).await;
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
        if let Err(error) = self.bring_about(&before).await {
            self.record.host_config = before;
            return Err(error);
        }
        self.publish();
        self.keep_copy().await;
        self.event("update", &[]);
        Ok(warnings)
    }

    /// The running task first: the kernel may refuse what the rules let through. `before` is what it has by now.
    async fn bring_about(&mut self, before: &HostConfig) -> Result<()> {
        if !self.status.has_process() {
            return self.save().await;
        }
        // Some of it may be in force when the kernel refuses the rest.
        let done = match self.limit(&self.record.host_config).await {
            Ok(()) => self.save().await,
            refused => refused.map_err(refused_value),
        };
        if done.is_err()
            && let Err(error) = self.limit(before).await
        {
            tracing::warn!(container = %self.record.id, %error, "the task keeps limits that are not on record");
        }
        done
    }

    async fn limit(&self, config: &HostConfig) -> Result<()> {
        let limited = async {
            let resources = gantry_spec::resources(config, &self.block_devices().await?)?;
            self.parts.ports.runtime.update_resources(&self.record.id, resources).await
        };
        self.handle.bounded(LIMIT, "updating the limits", limited).await
    }
}

/// A value that the kernel does not take is the client's, although it is the runtime that says so.
fn refused_value(error: Error) -> Error {
    let text = error.message();
    let limit = ["minimum", "maximum"].iter().any(|word| text.contains(&format!("the {word} allowed cpu-shares")));
    if limit || text.contains("invalid argument") { error.with_kind(ErrorKind::InvalidParameter) } else { error }
}
