//! One relayed TCP connection: two directions, each through a pipe, spliced so that no byte enters this process.
//!
//! ```text
//!   client ──splice──► pipe ──splice──► container
//!   client ◄──splice── pipe ◄──splice── container
//! ```
//!
//! An end of stream is passed on when the pipe is empty (half-close); a reset of one side resets the other.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, Shutdown, SocketFlags, SocketType, connect, getpeername, shutdown, socket_with, sockopt},
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};

const PIPE: usize = 256 << 10;
/// Rounds through one connection before others have their turn.
const ROUNDS: usize = 16;

#[derive(Debug)]
pub struct Connection {
    pub client: OwnedFd,
    pub container: OwnedFd,
    /// Until the container has answered nothing is moved: an end of stream passed on too early would undo the connect.
    connecting: bool,
    outward: Direction,
    inward: Direction,
}

/// What to do after `advance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing moves until the kernel tells of a change.
    Wait,
    /// There is more to move at once.
    Again,
    Closed,
}

impl Connection {
    /// Begins to connect to `target`; `client` is a connected socket, not blocking.
    pub fn open(client: OwnedFd, target: SocketAddr) -> io::Result<Self> {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let container = socket_with(family, SocketType::STREAM, flags, None)?;
        for side in [client.as_fd(), container.as_fd()] {
            sockopt::set_tcp_nodelay(side, true)?;
            sockopt::set_socket_keepalive(side, true)?;
        }
        match connect(&container, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { client, container, connecting: true, outward: Direction::new()?, inward: Direction::new()? })
    }

    /// Moves what can be moved.
    pub fn advance(&mut self) -> Next {
        if self.connecting {
            match self.is_connected() {
                Ok(true) => self.connecting = false,
                Ok(false) => return Next::Wait,
                Err(_) => return Next::Closed,
            }
        }
        for _ in 0..ROUNDS {
            let moved = self
                .inward
                .advance(self.client.as_fd(), self.container.as_fd())
                .and_then(|a| Ok(self.outward.advance(self.container.as_fd(), self.client.as_fd())? || a));
            match moved {
                Err(Errno::CONNRESET) => return self.reset(),
                Err(_) => return Next::Closed,
                Ok(_) if self.inward.ended && self.outward.ended => return Next::Closed,
                Ok(false) => return Next::Wait,
                Ok(true) => {}
            }
        }
        Next::Again
    }

    fn is_connected(&self) -> Result<bool, Errno> {
        sockopt::socket_error(&self.container)??;
        match getpeername(&self.container) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn reset(&self) -> Next {
        for side in [&self.client, &self.container] {
            let _ = sockopt::set_socket_linger(side, Some(Duration::ZERO));
        }
        Next::Closed
    }
}

#[derive(Debug)]
struct Direction {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    capacity: usize,
    /// The source has ended.
    drained: bool,
    /// The end was passed on.
    ended: bool,
}

impl Direction {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let capacity = fcntl_setpipe_size(&write, PIPE).unwrap_or(64 << 10);
        Ok(Self { read, write, held: 0, capacity, drained: false, ended: false })
    }

    /// One round; whether anything moved.
    fn advance(&mut self, from: impl AsFd, to: impl AsFd) -> Result<bool, Errno> {
        let mut moved = false;
        if !self.drained && self.held < self.capacity {
            match try_splice(from, &self.write, self.capacity - self.held)? {
                Some(0) => self.drained = true,
                Some(bytes) => {
                    self.held += bytes;
                    moved = true;
                }
                None => {}
            }
        }
        if self.held > 0
            && let Some(bytes) = try_splice(&self.read, &to, self.held)?
        {
            self.held -= bytes;
            moved = true;
        }
        if self.drained && self.held == 0 && !self.ended {
            shutdown(to, Shutdown::Write)?;
            self.ended = true;
        }
        Ok(moved)
    }
}

/// `None` where it would block.
fn try_splice(from: impl AsFd, to: impl AsFd, bytes: usize) -> Result<Option<usize>, Errno> {
    loop {
        match splice(&from, None, &to, None, bytes, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
