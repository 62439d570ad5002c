//! Every exec the engine knows: made, running, and over for a while.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use gantry_domain::{ContainerId, Error, ExecId, Result, exec::ExecConfig};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How long an exec that is over can still be inspected, as in dockerd.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// Where an exec stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Starting,
    Running { pid: u32 },
    Ended { code: u32 },
}

/// One exec.
pub(crate) struct Exec {
    pub id: ExecId,
    pub container: ContainerId,
    pub config: ExecConfig,
    /// A health check's.
    pub probe: bool,
    phase: watch::Sender<Phase>,
    ended: Mutex<Option<Instant>>,
}

impl Exec {
    pub fn new(id: ExecId, container: ContainerId, config: ExecConfig, phase: Phase) -> Self {
        Self { id, container, config, probe: false, phase: watch::Sender::new(phase), ended: Mutex::default() }
    }

    /// A health check's exec, which is about to start.
    pub fn probe(id: ExecId, container: ContainerId, config: ExecConfig) -> Self {
        Self { probe: true, ..Self::new(id, container, config, Phase::Starting) }
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub fn set(&self, phase: Phase) {
        if matches!(phase, Phase::Ended { .. }) {
            *self.ended.lock() = Some(Instant::now());
        }
        self.phase.send_replace(phase);
    }

    /// Moves from created to starting; only one caller can.
    pub fn begin(&self) -> Result<()> {
        let mut before = Phase::Created;
        self.phase.send_if_modified(|phase| {
            before = *phase;
            if before == Phase::Created {
                *phase = Phase::Starting;
            }
            before == Phase::Created
        });
        match before {
            Phase::Created => Ok(()),
            Phase::Starting | Phase::Running { .. } => {
                Err(Error::conflict(format!("exec command {} is already running", self.id)))
            }
            Phase::Ended { .. } => Err(Error::conflict(format!("exec command {} has already run", self.id))),
        }
    }

    fn is_stale(&self) -> bool {
        self.ended.lock().is_some_and(|at| at.elapsed() > KEPT)
    }
}

#[derive(Default)]
pub(crate) struct ExecTable {
    execs: Mutex<HashMap<ExecId, Arc<Exec>>>,
}

impl ExecTable {
    pub fn insert(&self, exec: Arc<Exec>) {
        let mut execs = self.execs.lock();
        execs.retain(|_, exec| !exec.is_stale());
        execs.insert(exec.id.clone(), exec);
    }

    /// By full id or a prefix that only one has.
    pub fn get(&self, typed: &str) -> Result<Arc<Exec>> {
        let execs = self.execs.lock();
        if let Some(exec) = execs.get(typed) {
            return Ok(exec.clone());
        }
        let mut found = execs.values().filter(|exec| !typed.is_empty() && exec.id.as_str().starts_with(typed));
        match (found.next(), found.next()) {
            (Some(exec), None) => Ok(exec.clone()),
            _ => Err(Error::not_found(format!("No such exec instance: {typed}"))),
        }
    }

    /// Execs die with their container; those without a seen exit count as killed.
    pub fn container_exited(&self, container: &ContainerId) {
        let of_container: Vec<Arc<Exec>> =
            self.execs.lock().values().filter(|exec| exec.container == *container).cloned().collect();
        for exec in of_container {
            if matches!(exec.phase(), Phase::Running { .. } | Phase::Starting) {
                exec.set(Phase::Ended { code: 137 });
            }
        }
    }

    /// Those of a container that run now, for `ExecIDs`.
    pub fn running(&self, container: &ContainerId) -> Vec<ExecId> {
        let execs = self.execs.lock();
        let of_container = execs.values().filter(|exec| exec.container == *container);
        of_container.filter(|exec| matches!(exec.phase(), Phase::Running { .. })).map(|exec| exec.id.clone()).collect()
    }

    pub fn remove(&self, id: &ExecId) {
        self.execs.lock().remove(id);
    }

    pub fn container_removed(&self, container: &ContainerId) {
        self.execs.lock().retain(|_, exec| exec.container != *container);
    }

    pub fn forget_stale(&self) {
        self.execs.lock().retain(|_, exec| !exec.is_stale());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exec_starts_once() {
        let exec = Exec::new(ExecId::random(), ContainerId::random(), ExecConfig::default(), Phase::Created);
        assert!(exec.begin().is_ok());
        assert!(exec.begin().expect_err("running").message().ends_with("is already running"));
        exec.set(Phase::Ended { code: 0 });
        assert!(exec.begin().expect_err("over").message().ends_with("has already run"));
    }
}
