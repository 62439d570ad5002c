//! The containers that another one needs for its start: those whose namespaces it joins, and those that it links to.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use gantry_domain::{
    ContainerId, Error, ErrorKind, Result,
    container::{ContainerRecord, Snapshot, Status},
};
use tokio_util::sync::CancellationToken;

use super::{
    mounts::shared_with,
    owner::{Handle, Owner},
};
use crate::parts::Parts;

/// How long a start waits for them, as in dockerd.
const LIMIT: Duration = Duration::from_secs(5);

/// Starts that are to come, each cancelled when it is over.
pub(crate) type Starts = HashMap<ContainerId, CancellationToken>;

/// Waits, for a while, until none of a container's donors is about to start: by one of `starts`, or by its policy.
pub(crate) async fn await_donors(parts: &Parts, record: &ContainerRecord, starts: &Starts) {
    let ready = donors(parts, record).into_iter().map(|donor| {
        let start = starts.get(&donor.id).cloned();
        async move {
            match start {
                Some(start) => start.cancelled().await,
                None => restarted(&donor).await,
            }
        }
    });
    // One that does not come up fails the start, or keeps it waiting for its own policy.
    let _ = tokio::time::timeout(LIMIT, futures::future::join_all(ready)).await;
}

async fn restarted(donor: &Handle) {
    let is_over = |donor: &Handle| donor.snapshot().status != Status::Restarting;
    let _ = donor.progress().wait_for(|_| is_over(donor)).await;
}

fn donors(parts: &Parts, record: &ContainerRecord) -> Vec<Arc<Handle>> {
    let host = &record.host_config;
    let modes = [&host.network_mode, &host.pid_mode, &host.ipc_mode];
    let shared = modes.into_iter().filter_map(|mode| shared_with(mode));
    let linked = record.links.iter().map(|link| link.target.as_str());
    shared.chain(linked).filter_map(|other| parts.container(other).ok()).collect()
}

impl Owner {
    /// The spec of the run to come. That a network or IPC namespace cannot be joined is the client's error; what else
    /// no longer fits together is not one of the request to start, as dockerd has it.
    pub(crate) async fn checked_spec(&self) -> Result<Bytes> {
        self.network_namespace()?;
        self.namespace(&self.record.host_config.ipc_mode, "ipc")?;
        self.spec().await.map_err(|error| match error.kind() {
            ErrorKind::InvalidParameter | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Forbidden => {
                error.with_kind(ErrorKind::System)
            }
            _ => error,
        })
    }

    /// `/proc/<pid>` of the other container in `container:<id>`. It must run, and let itself be joined.
    pub(crate) fn process_of(&self, mode: &str, kind: &str) -> Result<Option<PathBuf>> {
        let Some(typed) = shared_with(mode) else { return Ok(None) };
        let other = self.parts.container(typed).map(|other| other.snapshot());
        let donor = match kind {
            "net" => network_donor(self.id(), other)?,
            "ipc" => ipc_donor(other).map_err(|error| error.context("failed to join IPC namespace"))?,
            _ => running(other).map_err(|error| error.context("failed to join PID namespace"))?,
        };
        Ok(Some(PathBuf::from(format!("/proc/{}", donor.pid))))
    }
}

fn network_donor(own: &ContainerId, other: Result<Snapshot>) -> Result<Snapshot> {
    let other =
        other.map_err(|error| error.with_kind(ErrorKind::System).context("joining network namespace of container"))?;
    if other.record.id == *own {
        return Err(Error::system("cannot join own network namespace"));
    }
    if !other.status.is_running() {
        return Err(Error::conflict(format!(
            "cannot join network namespace of a non running container: container {} is {}",
            other.record.name,
            other.status.as_str()
        )));
    }
    running(Ok(other)).map_err(|error| error.context("cannot join network namespace of container"))
}

/// Its memory is its own unless it was made to be shared.
fn ipc_donor(other: Result<Snapshot>) -> Result<Snapshot> {
    let donor = running(other)?;
    if matches!(donor.record.host_config.ipc_mode.as_str(), "private" | "none") {
        return Err(Error::invalid(format!(
            "container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
            donor.record.id
        )));
    }
    Ok(donor)
}

fn running(other: Result<Snapshot>) -> Result<Snapshot> {
    let other = other.map_err(|error| error.with_kind(ErrorKind::InvalidParameter))?;
    let id = &other.record.id;
    match other.status {
        Status::Running | Status::Paused => Ok(other),
        Status::Restarting => {
            Err(Error::conflict(format!("Container {id} is restarting, wait until the container is running")))
        }
        _ => Err(Error::conflict(format!("container {id} is not running"))),
    }
}
