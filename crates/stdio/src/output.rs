//! One output of the container: the reading end of its FIFO.

use std::{io, os::fd::OwnedFd};

use rustix::io::Errno;

pub(crate) struct Output {
    pub(crate) stream: u8,
    pub(crate) fifo: OwnedFd,
    /// Whether epoll listens to it: not while a client is full.
    pub(crate) listened: bool,
}

/// What a reading found.
pub(crate) enum Read {
    Bytes(usize),
    /// There is no writer: none has come yet, or all have gone.
    NoWriter,
    Nothing,
}

impl Output {
    pub(crate) fn new(stream: u8, fifo: OwnedFd) -> Self {
        Self { stream, fifo, listened: false }
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Read> {
        match rustix::io::read(&self.fifo, buffer) {
            Ok(0) => Ok(Read::NoWriter),
            Ok(len) => Ok(Read::Bytes(len)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Nothing),
            Err(error) => Err(error.into()),
        }
    }
}
