//! epoll with tokens that are never used twice, so that an event for something closed meanwhile finds nothing.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};

/// Names one registration.
pub type Token = u64;

/// What to be told of.
#[derive(Debug, Clone, Copy)]
pub enum Interest {
    /// Readable, for as long as it is.
    Level,
    /// Readable or writable, once for each change.
    Edge,
}

pub struct Poll {
    epoll: OwnedFd,
    next: Token,
    buffer: Vec<epoll::Event>,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, next: 0, buffer: Vec::with_capacity(64) })
    }

    /// A token to be used with `watch`.
    pub fn token(&mut self) -> Token {
        self.next += 1;
        self.next
    }

    pub fn watch(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        use epoll::EventFlags as Flags;
        let flags = match interest {
            Interest::Level => Flags::IN,
            Interest::Edge => Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET,
        };
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags)?)
    }

    pub fn add(&mut self, fd: impl AsFd, interest: Interest) -> io::Result<Token> {
        let token = self.token();
        self.watch(fd, token, interest)?;
        Ok(token)
    }

    /// Needed where a duplicate of the descriptor lives on elsewhere: the kernel would go on reporting it.
    pub fn forget(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// The tokens that have news; none after `timeout`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Token>> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        self.buffer.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.buffer), timeout.as_ref()) {
            Ok(_) => Ok(self.buffer.iter().map(|event| event.data.u64()).collect()),
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}
