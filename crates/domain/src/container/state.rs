//! What each state of a container allows.
//!
//! ```text
//!            start                 exit                 start
//! created ─────────► running ─────────────► exited ─────────────► running
//!                    │  ▲  │ exit, policy says again
//!              pause │  │  └─────► restarting ── back-off over ──► running
//!                    ▼  │ unpause
//!                   paused                 any ── rm ──► removing ──► (gone) | dead
//! ```
//!
//! Who moves it: the one task that owns the container, in `engine/src/container`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ContainerRecord,
    record::{Run, Times},
};
use crate::{Error, Result};

/// Docker's `State.Status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// `State.Running` in inspect: paused and restarting containers count as running, as in dockerd.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// Whether a process of the container exists now.
    pub fn has_process(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// What every read is served from: an immutable picture of one container, swapped whole by its owner.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub record: Arc<ContainerRecord>,
    pub status: Status,
    /// 0 when not running.
    pub pid: u32,
    pub health: Option<Arc<super::health::Health>>,
    /// Running execs.
    pub execs: Arc<[crate::ExecId]>,
}

/// Whether a verb has something to do. "Already so" is an outcome, not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Changed,
    Unchanged,
}

impl Snapshot {
    /// `POST /containers/{id}/start`.
    pub fn may_start(&self) -> Result<Outcome> {
        match self.status {
            Status::Created | Status::Exited => Ok(Outcome::Changed),
            // A start during the back-off of a restart policy starts at once.
            Status::Restarting => Ok(Outcome::Changed),
            Status::Running => Ok(Outcome::Unchanged),
            Status::Paused => Err(Error::conflict("cannot start a paused container, try unpause instead")),
            Status::Removing | Status::Dead => {
                Err(Error::conflict("container is marked for removal and cannot be started"))
            }
        }
    }

    /// `POST /containers/{id}/stop`.
    pub fn may_stop(&self) -> Outcome {
        if self.status.is_running() { Outcome::Changed } else { Outcome::Unchanged }
    }

    /// `POST /containers/{id}/kill`.
    pub fn may_kill(&self) -> Result<()> {
        if self.status.is_running() { Ok(()) } else { Err(self.not_running()) }
    }

    /// `POST /containers/{id}/exec` and the start of one; `name` is what the client sent.
    pub fn may_exec(&self, name: &str) -> Result<()> {
        let id = &self.record.id;
        match self.status {
            Status::Running => Ok(()),
            Status::Paused => {
                Err(Error::conflict(format!("Container {name} is paused, unpause the container before exec")))
            }
            Status::Restarting => {
                Err(Error::conflict(format!("Container {id} is restarting, wait until the container is running")))
            }
            _ => Err(self.not_running()),
        }
    }

    /// `POST /containers/{id}/attach`; `name` is what the client sent.
    pub fn may_attach(&self, name: &str) -> Result<()> {
        match self.status {
            Status::Paused => {
                Err(Error::conflict(format!("container {name} is paused, unpause the container before attach")))
            }
            Status::Restarting => {
                Err(Error::conflict(format!("container {name} is restarting, wait until the container is running")))
            }
            Status::Removing | Status::Dead => {
                Err(Error::conflict(format!("container {name} is marked for removal and cannot be attached to")))
            }
            Status::Created | Status::Running | Status::Exited => Ok(()),
        }
    }

    /// `POST /containers/{id}/pause`.
    pub fn may_pause(&self) -> Result<()> {
        match self.status {
            Status::Running => Ok(()),
            Status::Paused => Err(Error::conflict(format!("Container {} is already paused", self.record.id))),
            Status::Restarting => Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                self.record.id
            ))),
            _ => Err(self.not_running()),
        }
    }

    /// `POST /containers/{id}/unpause`; dockerd answers 500 when not paused.
    pub fn may_unpause(&self) -> Result<()> {
        match self.status {
            Status::Paused => Ok(()),
            _ => Err(Error::system(format!("Container {} is not paused", self.record.id))),
        }
    }

    /// `POST /containers/{id}/resize`.
    pub fn may_resize(&self) -> Result<()> {
        if self.status.has_process() { Ok(()) } else { Err(self.not_running()) }
    }

    /// `GET /containers/{id}/top`.
    pub fn may_top(&self) -> Result<()> {
        match self.status {
            Status::Running | Status::Paused => Ok(()),
            Status::Restarting => Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                self.record.id
            ))),
            _ => Err(self.not_running()),
        }
    }

    /// `DELETE /containers/{id}` without `force`; `name` is what the client sent.
    pub fn may_remove(&self, name: &str) -> Result<()> {
        let refused = |why: &str| Err(Error::conflict(format!("cannot remove container \"{name}\": {why}")));
        match self.status {
            Status::Created | Status::Exited | Status::Dead => Ok(()),
            Status::Removing => Err(Error::conflict(format!("removal of container {name} is already in progress"))),
            Status::Paused => refused("container is paused and must be unpaused first"),
            Status::Running => refused("container is running: stop the container before removing or force remove"),
            Status::Restarting => {
                refused("container is restarting: stop the container before removing or force remove")
            }
        }
    }

    fn not_running(&self) -> Error {
        Error::conflict(format!("container {} is not running", self.record.id))
    }

    /// When the container last began and ended, as far as it has.
    pub fn times(&self) -> Times {
        self.record.run.as_ref().map(Run::times).unwrap_or_default()
    }
}
