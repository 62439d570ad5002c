//! containerd's connections: requests out of bytes, answers into bytes, none of which is waited for.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
};

use prost::Message as _;
use rustix::event::epoll::EventFlags;

use crate::{
    host::{
        log,
        poll::{Interest, Poll, Source},
    },
    proto::ttrpc::{self, Refusal, Request},
};

/// Read at once.
const READ: usize = 8 << 10;

/// Whose request it is that an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) connection: u32,
    stream: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: BTreeMap<u32, Connection>,
    last: u32,
}

#[derive(Debug)]
struct Connection {
    socket: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    known: Interest,
}

impl Connections {
    pub(super) fn add(&mut self, socket: UnixStream, poll: &Poll) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        self.last = self.last.wrapping_add(1);
        let mut known = None;
        poll.set(&socket, Source::Connection(self.last), &mut known, Some(EventFlags::IN))?;
        self.open.insert(self.last, Connection { socket, inbox: Vec::new(), outbox: Vec::new(), known });
        Ok(())
    }

    pub(super) fn is_open(&self, number: u32) -> bool {
        self.open.contains_key(&number)
    }

    pub(super) fn are_flushed(&self) -> bool {
        self.open.values().all(|connection| connection.outbox.is_empty())
    }

    /// Reads what has come; a connection at its end, or with a fault in it, is closed.
    pub(super) fn receive(&mut self, number: u32) -> Vec<(Reply, Request)> {
        let Some(connection) = self.open.get_mut(&number) else { return Vec::new() };
        let open = connection.read();
        let requests = connection.requests(number);
        if !open || requests.is_err() {
            self.open.remove(&number);
        }
        requests.unwrap_or_else(|error| {
            log::error("containerd's requests are not understood", error);
            Vec::new()
        })
    }

    pub(super) fn answer(&mut self, reply: Reply, result: Result<Vec<u8>, Refusal>, poll: &Poll) {
        if let Some(connection) = self.open.get_mut(&reply.connection) {
            connection.outbox.extend(ttrpc::response(reply.stream, result));
            self.flush(reply.connection, poll);
        }
    }

    pub(super) fn flush(&mut self, number: u32, poll: &Poll) {
        let Some(connection) = self.open.get_mut(&number) else { return };
        if connection.write().and_then(|()| connection.listen(number, poll)).is_err() {
            self.open.remove(&number);
        }
    }
}

impl Connection {
    /// False at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; READ];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.inbox.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    fn requests(&mut self, connection: u32) -> io::Result<Vec<(Reply, Request)>> {
        let mut requests = Vec::new();
        while let Some((stream, kind, body)) = ttrpc::take(&mut self.inbox)? {
            // Data frames belong to streams, of which the task service has none.
            if kind == ttrpc::REQUEST {
                requests.push((Reply { connection, stream }, Request::decode(&body[..])?));
            }
        }
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        Ok(requests)
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.socket.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.outbox = Vec::new();
        Ok(())
    }

    fn listen(&mut self, number: u32, poll: &Poll) -> io::Result<()> {
        let out = if self.outbox.is_empty() { EventFlags::empty() } else { EventFlags::OUT };
        poll.set(&self.socket, Source::Connection(number), &mut self.known, Some(EventFlags::IN | out))
    }
}
