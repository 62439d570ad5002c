//! An output of the first process, on its way from a pipe to containerd's FIFO. The kernel moves the pages (splice).
//!
//! The process is not given the FIFO itself, as execs are: the runtime has the same output while it makes the container,
//! and what it says of a failure there must not reach the container's log, for it is told in the answer.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    event::epoll::EventFlags,
    io::{Errno, ioctl_fionread},
    pipe::{PipeFlags, SpliceFlags, pipe_with, splice},
};

use super::console::Side;
use crate::host::poll::{Poll, Source};

/// Moved at once.
const MOST: usize = 1 << 20;
/// Moves of one output, before others have their turn.
const IN_A_ROW: usize = 16;

#[derive(Debug)]
pub(crate) struct Relay {
    pipe: Side,
    /// Open at both ends: a reader that dies and is replaced costs the process nothing.
    fifo: Side,
    full: bool,
    over: bool,
    pub(super) drained: bool,
}

impl Relay {
    /// With the end that is the process's.
    pub(super) fn new(fifo: OwnedFd) -> io::Result<(Self, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        let relay = Self { pipe: Side::new(read), fifo: Side::new(fifo), full: false, over: false, drained: false };
        Ok((relay, write))
    }

    /// The process has ended: what the pipe holds is the last.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    pub(super) fn carry(&mut self) {
        self.full = false;
        for _ in 0..IN_A_ROW {
            let (pipe, fifo) = (&self.pipe.fd, &self.fifo.fd);
            match splice(pipe, None, fifo, None, MOST, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
                Ok(0) => return self.drained = true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.full = ioctl_fionread(pipe.as_fd()).is_ok_and(|waiting| waiting > 0);
                    self.drained = self.over && !self.full;
                    return;
                }
                Err(_) => return self.drained = true,
            }
        }
    }

    pub(super) fn listen(&mut self, number: u32, poll: &Poll) -> io::Result<()> {
        let (read, write) = if self.full { (None, Some(EventFlags::OUT)) } else { (Some(EventFlags::IN), None) };
        poll.set(&self.pipe.fd, Source::Master(number), &mut self.pipe.known, read)?;
        poll.set(&self.fifo.fd, Source::Output(number), &mut self.fifo.known, write)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::fifo::{read, write};

    #[test]
    fn what_a_full_fifo_does_not_take_stays_in_the_pipe() {
        let (reader, fifo) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let (mut relay, process) = Relay::new(fifo).unwrap();
        rustix::io::ioctl_fionbio(&process, true).unwrap();
        let mut sent = 0;
        while let Ok(Some(count)) = write(&process, &[7; 4096]) {
            sent += count;
            relay.carry();
        }
        assert!(relay.full && !relay.drained);
        relay.end();
        drop(process);
        let (mut received, mut buffer) = (0, vec![0; 1 << 16]);
        while !relay.drained {
            while let Ok(Some(count)) = read(&reader, &mut buffer) {
                received += count;
            }
            relay.carry();
        }
        while let Ok(Some(count)) = read(&reader, &mut buffer) {
            received += count;
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn an_output_that_a_child_holds_open_ends_with_the_process() {
        let (_reader, fifo) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let (mut relay, _child) = Relay::new(fifo).unwrap();
        relay.carry();
        assert!(!relay.drained);
        relay.end();
        relay.carry();
        assert!(relay.drained);
    }
}
