//! What `runc start` does, without starting runc for it: the container's first process waits at a FIFO in runc's state
//! until it finds a reader, and runc takes a container for created while the FIFO is there. Source: runc's
//! `libcontainer/container_linux.go` (exec.fifo), unchanged since 1.0.
//!
//! Where anything is not as expected (another runtime, hooks that follow a start, no FIFO) runc is asked.

use std::{fs, io, os::fd::OwnedFd, path::PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat};

use super::{Container, State};
use crate::{
    daemon::{Daemon, Reply},
    host::{fifo, log, poll::Source},
    runc::Failure,
};

/// A process that is let go.
#[derive(Debug)]
pub(crate) struct Gate {
    fifo: OwnedFd,
    path: PathBuf,
    reply: Reply,
}

impl Container {
    fn gate(&self, id: &str) -> Option<(OwnedFd, PathBuf)> {
        let path = self.runtime.gate(id).filter(|_| !self.follows_start)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(&path, flags, Mode::empty()).ok()?;
        let is_fifo = fstat(&fifo).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        is_fifo.then_some((fifo, path))
    }
}

impl Daemon {
    /// False where runc is to do it.
    pub(super) fn open_gate(&mut self, reply: Reply) -> bool {
        let Some(container) = &mut self.container else { return false };
        let Some((fifo, path)) = container.gate(&self.facts.id) else { return false };
        if let Err(error) = self.poll.add(&fifo, Source::Gate) {
            log::error("the gate cannot be listened to", error);
            return false;
        }
        container.state = State::Starting;
        self.children.starting += 1;
        self.gate = Some(Gate { fifo, path, reply });
        true
    }

    /// The process has passed, or it has ended before.
    pub(crate) fn hear_gate(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        let passed = match fifo::read(&gate.fifo, &mut [0; 16]) {
            Ok(None) => {
                self.gate = Some(gate);
                return;
            }
            Ok(Some(0)) => Err(io::Error::other("container process is already dead")),
            Ok(Some(_)) => fs::remove_file(&gate.path),
            Err(error) => Err(error),
        };
        self.init_started(gate.reply, passed.map_err(|error| Failure::of(&error)));
    }
}
