//! Ends of children, in the order in which the kernel tells them: the runtime's runs, and the container's processes,
//! which become ours when the runtime has left them behind.

use std::collections::BTreeMap;

use prost_types::Timestamp;
use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, WaitStatus, wait},
};

use super::Daemon;
use crate::{
    container::now,
    host::{log, process},
    runc::{Call, Failure},
};

/// The end of a process of the container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exit {
    pub(crate) pid: i32,
    pub(crate) status: u32,
    pub(crate) at: Timestamp,
}

type OnEnd = Box<dyn FnOnce(&mut Daemon, u32)>;

#[derive(Default)]
pub(crate) struct Children {
    /// Those that we have started, and what follows.
    jobs: BTreeMap<i32, OnEnd>,
    /// Starts under way: a process may end before it is known which one it is.
    pub(crate) starting: u32,
    held: Vec<Exit>,
}

impl Children {
    pub(crate) fn hold(&mut self, exit: Exit) {
        self.held.push(exit);
    }

    /// Ends a process of the container that nobody can use, save it has ended by itself.
    pub(crate) fn kill(&self, pid: i32) {
        let ended = self.held.iter().any(|exit| exit.pid == pid);
        if !ended && let Err(error) = process::signal(pid, libc::SIGKILL as u32) {
            log::error("a process that nobody can use stays", error);
        }
    }
}

impl Daemon {
    /// Runs the runtime; `then` follows when it has ended, or could not be started.
    pub(crate) fn run(&mut self, call: Call, then: impl FnOnce(&mut Self, Result<String, Failure>) + 'static) {
        match call.spawn() {
            Ok((pid, running)) => self.watch(pid, move |daemon, status| then(daemon, running.ended(status))),
            Err(failure) => then(self, Err(failure)),
        }
    }

    /// Does `then`, with the exit status, when this child of ours has ended.
    pub(crate) fn watch(&mut self, pid: Pid, then: impl FnOnce(&mut Self, u32) + 'static) {
        self.children.jobs.insert(pid.as_raw_nonzero().get(), Box::new(then));
    }

    pub(super) fn reap(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid.as_raw_nonzero().get(), exit_status(status)),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn ended(&mut self, pid: i32, status: u32) {
        match self.children.jobs.remove(&pid) {
            Some(then) => then(self, status),
            None => self.process_ended(Exit { pid, status, at: now() }),
        }
    }

    /// A start is over: what has ended meanwhile can be told now.
    pub(crate) fn start_is_over(&mut self) {
        self.children.starting -= 1;
        for exit in std::mem::take(&mut self.children.held) {
            self.process_ended(exit);
        }
    }
}

/// As a shell tells it.
fn exit_status(status: WaitStatus) -> u32 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or(255)
}
