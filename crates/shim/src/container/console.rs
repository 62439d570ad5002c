//! Bytes between a terminal's master and its FIFOs.
//!
//! Memory is bounded: what one side does not take is not read from the other, so that a slow reader makes the process
//! wait. The end of input never closes the terminal, for the next client goes on typing. After the exit what the
//! kernel still holds is carried, and then the FIFO closed, even if a child of the process keeps the terminal open.

use std::{io, os::fd::OwnedFd};

use rustix::event::epoll::EventFlags;

use crate::host::{
    fifo::{read, write},
    poll::{Interest, Poll, Source},
    pty,
};

/// Read at once.
const CHUNK: usize = 16 << 10;
/// Chunks of one terminal, before others have their turn.
const IN_A_ROW: usize = 16;

#[derive(Debug)]
pub(crate) struct Console {
    master: Side,
    output: Option<Side>,
    input: Option<Side>,
    to_output: Vec<u8>,
    to_master: Vec<u8>,
    /// The process has ended.
    over: bool,
    /// Nothing more comes from the master.
    drained: bool,
    /// Nobody has the terminal open just now; somebody may open it again (`/dev/console`), until the process ends.
    closed: bool,
    /// It is looked at again in a while.
    awaited: bool,
}

#[derive(Debug)]
pub(super) struct Side {
    pub(super) fd: OwnedFd,
    pub(super) known: Interest,
}

impl Side {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, known: None }
    }
}

impl Console {
    /// The FIFOs are open at both ends: whoever is at the other one may come and go.
    pub(crate) fn new(master: OwnedFd, input: Option<OwnedFd>, output: Option<OwnedFd>) -> Self {
        Self {
            master: Side::new(master),
            output: output.map(Side::new),
            input: input.map(Side::new),
            to_output: Vec::new(),
            to_master: Vec::new(),
            over: false,
            drained: false,
            closed: false,
            awaited: false,
        }
    }

    pub(super) fn end(&mut self) {
        self.over = true;
        self.closed = false;
    }

    /// Whether to `look_again` in a while; says so once.
    pub(super) fn wants_another_look(&mut self) -> bool {
        self.closed && !std::mem::replace(&mut self.awaited, true)
    }

    pub(super) fn look_again(&mut self) {
        (self.closed, self.awaited) = (false, false);
    }

    pub(super) fn resize(&self, width: u32, height: u32) -> io::Result<()> {
        pty::resize(&self.master.fd, width, height)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.over && self.drained && self.to_output.is_empty()
    }

    /// Carries what can be carried now.
    pub(super) fn carry(&mut self) {
        let mut buffer = [0; CHUNK];
        for _ in 0..IN_A_ROW {
            let moved = self.take_output(&mut buffer) | self.take_input(&mut buffer);
            if !moved {
                return;
            }
        }
    }

    fn take_output(&mut self, buffer: &mut [u8]) -> bool {
        if self.to_output.is_empty() && !self.drained && !self.closed {
            match read(&self.master.fd, buffer) {
                Ok(Some(count)) if count > 0 => self.to_output.extend_from_slice(&buffer[..count]),
                // The kernel has handed out all that was written before it says this.
                Ok(None) => self.drained = self.over,
                // EIO: nobody has the terminal open any more.
                Ok(Some(_)) | Err(_) => (self.drained, self.closed) = (self.over, !self.over),
            }
        }
        flush(&mut self.to_output, self.output.as_ref().map(|side| &side.fd))
    }

    fn take_input(&mut self, buffer: &mut [u8]) -> bool {
        if let Some(input) = &self.input
            && self.to_master.is_empty()
            && !self.drained
            && !self.closed
            && let Ok(Some(count)) = read(&input.fd, buffer)
        {
            self.to_master.extend_from_slice(&buffer[..count]);
        }
        if self.closed {
            return false;
        }
        flush(&mut self.to_master, Some(&self.master.fd).filter(|_| !self.drained))
    }

    /// Brings epoll in line with what can go on.
    pub(super) fn listen(&mut self, number: u32, poll: &Poll) -> io::Result<()> {
        let when = |wanted: bool, flag: EventFlags| if wanted { flag } else { EventFlags::empty() };
        let some = |flags: EventFlags| Some(flags).filter(|flags| !flags.is_empty());
        let (full, typed) = (!self.to_output.is_empty(), !self.to_master.is_empty());
        // The kernel tells of a terminal that nobody has open without end, whatever it is asked.
        let open = !self.drained && !self.closed;
        let master = when(open && !full, EventFlags::IN) | when(open && typed, EventFlags::OUT);
        poll.set(&self.master.fd, Source::Master(number), &mut self.master.known, some(master))?;
        if let Some(side) = &mut self.output {
            poll.set(&side.fd, Source::Output(number), &mut side.known, some(when(full, EventFlags::OUT)))?;
        }
        if let Some(side) = &mut self.input {
            let wanted = some(when(open && !typed, EventFlags::IN));
            poll.set(&side.fd, Source::Input(number), &mut side.known, wanted)?;
        }
        Ok(())
    }
}

/// Writes what is taken; true if something was. Without a taker it is dropped.
fn flush(pending: &mut Vec<u8>, to: Option<&OwnedFd>) -> bool {
    let had = pending.len();
    match to.map(|fd| if had == 0 { Ok(None) } else { write(fd, pending) }) {
        Some(Ok(Some(count))) => drop(pending.drain(..count)),
        Some(Ok(None)) => {}
        Some(Err(_)) | None => pending.clear(),
    }
    if pending.is_empty() {
        // One terminal is resident for as long as its container.
        *pending = Vec::new();
    }
    pending.len() < had
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn a_reader_that_is_slow_makes_the_process_wait_and_loses_nothing() {
        let ((master, process), (reader, output)) = (pipe(), pipe());
        let mut console = Console::new(master, None, Some(output));
        let mut sent = 0;
        while let Ok(Some(count)) = write(&process, &[7; 4096]) {
            sent += count;
            console.carry();
        }
        assert!(sent < 64 * CHUNK, "memory is bounded: {sent}");
        let (mut received, mut buffer) = (0, vec![0; CHUNK]);
        console.end();
        while !console.is_finished() {
            console.carry();
            while let Ok(Some(count)) = read(&reader, &mut buffer) {
                received += count;
            }
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn output_that_is_there_at_the_exit_is_carried_although_a_child_holds_the_terminal() {
        let ((master, process), (reader, output)) = (pipe(), pipe());
        let mut console = Console::new(master, None, Some(output));
        write(&process, b"last words").unwrap();
        console.end();
        console.carry();
        assert!(console.is_finished());
        assert_eq!(read(&reader, &mut [0; 64]).unwrap(), Some(10));
    }
}
