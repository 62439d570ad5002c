//! One container: its first process, the execs, and what each state allows.
//!
//! ```text
//!            ┌────────── Start ──────────┐
//!   Create ──► created ─► starting ─► running ◄─► pausing ─► paused
//!                 │           │           │                    │
//!                 └───────────┴── exit ───┴────────────────────┘
//!                                   ▼
//!                                stopped ── Delete ──► gone
//! ```
//!
//! The verbs are methods of the daemon, one file each.

mod carrier;
mod console;
mod create;
mod delete;
mod exec;
mod exit;
mod freeze;
mod gate;
mod kill;
mod query;
mod relay;
mod start;
mod state;
mod streams;
mod update;

pub(crate) use carrier::Carrier;
use console::Console;
pub(crate) use gate::Gate;

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use prost_types::Timestamp;

use crate::{
    daemon::Reply,
    host::fifo::{Held, Paths},
    proto::{task::Status, ttrpc::Refusal},
    runc::Runtime,
};
use state::State;

/// In the bundle, by the runtime.
pub(crate) const INIT_PID_FILE: &str = "init.pid";

pub(crate) struct Container {
    runtime: Runtime,
    state: State,
    pub(crate) init: Process,
    execs: BTreeMap<String, Exec>,
    /// The kernel ends all processes with the first; without a namespace of its own that is done here.
    own_pids: bool,
    /// The runtime has hooks to run when it is started.
    follows_start: bool,
    /// The root file system was mounted here.
    mounted: bool,
}

/// A process that containerd knows of.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// 0 before the start.
    pub(crate) pid: i32,
    paths: Paths,
    held: Held,
    /// Its terminal, or its outputs.
    carriers: Vec<u32>,
    /// Its process id may be somebody else's by now.
    reaped: bool,
    exit: Option<(u32, Timestamp)>,
    waiters: Vec<Reply>,
}

struct Exec {
    process: Process,
    /// OCI's `Process`, until the start.
    spec: Vec<u8>,
    starting: bool,
}

impl Container {
    fn process(&self, exec: &str) -> Result<&Process, Refusal> {
        if exec.is_empty() {
            return Ok(&self.init);
        }
        self.execs.get(exec).map(|exec| &exec.process).ok_or_else(|| no_process(exec))
    }

    fn process_mut(&mut self, exec: &str) -> Result<&mut Process, Refusal> {
        if exec.is_empty() {
            return Ok(&mut self.init);
        }
        self.execs.get_mut(exec).map(|exec| &mut exec.process).ok_or_else(|| no_process(exec))
    }

    /// What containerd is told of a process: what is paused is paused as a whole.
    fn status(&self, exec: &str) -> Status {
        match self.execs.get(exec) {
            Some(exec) if !self.state.is_frozen() => exec.process.status(),
            _ => self.state.status(),
        }
    }
}

impl Process {
    fn status(&self) -> Status {
        match (self.pid, &self.exit) {
            (_, Some(_)) => Status::Stopped,
            (0, None) => Status::Created,
            _ => Status::Running,
        }
    }
}

fn no_process(exec: &str) -> Refusal {
    Refusal::not_found(&format!("process does not exist {exec}"))
}

fn no_container() -> Refusal {
    Refusal::not_found("container not created")
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or_default(),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}
