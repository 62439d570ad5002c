//! The container's input: what clients send, merged, into the FIFO, with as much buffer as makes a client wait.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// Clients wait while as much is on its way.
const FULL: usize = 64 << 10;

/// The writing end, and a reading end that is never read: with it a client may send all its input, and end it, before
/// the shim has opened its side; the kernel would drop what is in a FIFO that nobody has open.
pub(crate) struct Input {
    fifo: Option<OwnedFd>,
    _kept: Option<OwnedFd>,
    pending: Vec<u8>,
    written: usize,
    /// Closed when what is pending is written.
    ended: bool,
    pub(crate) listened: bool,
}

impl Input {
    /// Takes a descriptor that is open both ways apart, for closing the writing end alone tells the end of input.
    pub(crate) fn new(both: &OwnedFd) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", both.as_raw_fd());
        let open = |access| rustix::fs::open(&path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let kept = open(OFlags::RDONLY)?;
        Ok(Self { fifo: Some(open(OFlags::WRONLY)?), _kept: Some(kept), ..Self::none() })
    }

    /// Takes nothing.
    pub(crate) fn none() -> Self {
        Self { fifo: None, _kept: None, pending: Vec::new(), written: 0, ended: false, listened: false }
    }

    pub(crate) fn fifo(&self) -> Option<&OwnedFd> {
        self.fifo.as_ref()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() - self.written >= FULL
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.len() == self.written
    }

    /// Takes bytes; after the end they are dropped.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.fifo.is_some() && !self.ended {
            self.pending.extend_from_slice(bytes);
            self.write();
        }
    }

    /// No more will come.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.write();
    }

    /// Nobody will read any more.
    pub(crate) fn discard(&mut self) {
        *self = Self::none();
    }

    /// Whether the end was reached, and the FIFO closed.
    pub(crate) fn is_closed_by_end(&self) -> bool {
        self.ended && self.fifo.is_none()
    }

    /// Writes what the pipe takes.
    pub(crate) fn write(&mut self) {
        let Some(fifo) = &self.fifo else { return };
        while self.written < self.pending.len() {
            match rustix::io::write(fifo, &self.pending[self.written..]) {
                Ok(len) => self.written += len,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.written = self.pending.len(),
            }
        }
        self.written = 0;
        self.pending.clear();
        self.pending.shrink_to(FULL);
        if self.ended {
            self.fifo = None;
            self.pending = Vec::new();
        }
    }
}
