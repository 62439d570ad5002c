//! The loop: requests of gantryd, news of the kernel, traffic.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixListener,
    path::Path,
    time::{Duration, Instant},
};

use gantry_wire::{
    frame,
    net::{self, Reply, Request},
};
use rustix::net::sockopt::{self, Timeout};

use crate::{
    conntrack,
    firewall::{Firewall, Fixed},
    names::Names,
    poll::{Interest, Poll, Token},
    ports::Ports,
};

/// A peer that stops in the middle of a frame holds up everything else for no longer.
const PEER_PATIENCE: Duration = Duration::from_secs(2);

struct Server {
    poll: Poll,
    listener: (Token, UnixListener),
    peers: BTreeMap<Token, OwnedFd>,
    watch: Token,
    firewall: Firewall,
    ports: Ports,
    names: Names,
    kept: BTreeMap<String, OwnedFd>,
}

/// Serves `first` and whoever connects to the socket in `folder`. Returns only when the loop itself fails.
pub fn run(folder: &Path, first: OwnedFd) -> io::Result<()> {
    let mut server = Server::new(folder)?;
    server.join(first)?;
    loop {
        let deadline = [server.firewall.repair_at(), server.ports.deadline()].into_iter().flatten().min();
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        for token in server.poll.wait(timeout)? {
            server.ready(token);
        }
        server.tick();
    }
}

impl Server {
    fn new(folder: &Path) -> io::Result<Self> {
        let mut poll = Poll::new()?;
        // The caller found nobody answering there.
        let path = folder.join(net::SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        let firewall = Firewall::new()?;
        Ok(Self {
            listener: (poll.add(&listener, Interest::Level)?, listener),
            watch: poll.add(&firewall.watch.fd, Interest::Level)?,
            peers: BTreeMap::new(),
            firewall,
            ports: Ports::default(),
            names: Names::default(),
            kept: BTreeMap::new(),
            poll,
        })
    }

    fn join(&mut self, peer: OwnedFd) -> io::Result<()> {
        for direction in [Timeout::Recv, Timeout::Send] {
            sockopt::set_socket_timeout(&peer, direction, Some(PEER_PATIENCE))?;
        }
        let token = self.poll.add(&peer, Interest::Level)?;
        self.peers.insert(token, peer);
        Ok(())
    }

    fn ready(&mut self, token: Token) {
        if token == self.watch {
            self.firewall.notified();
        } else if token == self.listener.0 {
            if let Ok((peer, _)) = self.listener.1.accept() {
                let _ = self.join(peer.into());
            }
        } else if let Some(peer) = self.peers.remove(&token) {
            if let Ok(true) = self.serve(peer.as_fd()) {
                self.peers.insert(token, peer);
            } else {
                // It left, or does not speak the protocol: closed. Forgotten first: a gantryd that forks has copies.
                self.poll.forget(&peer);
                if self.peers.is_empty() {
                    // Nobody is left who would tell more.
                    let _ = self.names.answer();
                }
            }
        } else {
            self.ports.ready(token, &mut self.poll);
        }
    }

    fn tick(&mut self) {
        if self.firewall.repair_at().is_some_and(|at| at <= Instant::now()) {
            self.firewall.repair();
        }
        self.ports.tick(&self.poll);
    }

    /// One request; `false` at the end of the stream.
    fn serve(&mut self, peer: BorrowedFd<'_>) -> io::Result<bool> {
        let Some(frame::Received { kind, data, fds }) = frame::receive(peer)? else { return Ok(false) };
        if kind != frame::CONTROL {
            return Ok(true);
        }
        match frame::message(&data) {
            Ok(Request::Sockets { container, from }) => {
                let (ports, sockets) = self.ports.sockets(&container, from, net::SOCKETS_PER_MESSAGE);
                frame::send(peer, &Reply::Sockets { ports }, &sockets)?;
            }
            Ok(Request::Kept { name }) => {
                let socket: Vec<_> = self.kept.get(&name).map(|socket| socket.as_fd()).into_iter().collect();
                frame::send(peer, &Reply::Kept { found: !socket.is_empty() }, &socket)?;
            }
            Ok(Request::Resolver { container }) => match self.names.of(&container) {
                Some((resolver, sockets)) => frame::send(peer, &Reply::Resolver { resolver }, &sockets)?,
                None => frame::send(peer, &failed(io::ErrorKind::NotFound.into()), &[])?,
            },
            Ok(request) => {
                let reply = self.answer(request, fds).unwrap_or_else(failed);
                frame::send(peer, &reply, &[])?;
            }
            Err(error) => frame::send(peer, &failed(error), &[])?,
        }
        Ok(true)
    }

    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>) -> io::Result<Reply> {
        match request {
            Request::Hello { .. } => return Ok(Reply::Hello { version: net::VERSION }),
            Request::Rules { table, text, frame, elements } => {
                self.firewall.set_rules(table, Fixed { text, frame, elements: elements.into_iter().collect() })?;
            }
            Request::Hold { container, ports } if ports.len() == fds.len() => self.ports.hold(container, ports, fds),
            Request::Lead { container, targets, elements } => {
                let before = self.ports.leading(&container);
                self.ports.lead(&container, targets, &mut self.poll)?;
                self.firewall.put(&container, elements)?;
                if let Some((ports, old)) = before {
                    // Best effort: without connection tracking in the kernel there is nothing to forget.
                    let _ = conntrack::forget_flows(&ports, old.without(targets));
                }
            }
            Request::Rest { container } => self.rest(&container)?,
            Request::Release { container } => {
                self.rest(&container)?;
                self.ports.release(&container, &self.poll);
            }
            Request::Held => return Ok(Reply::Held { containers: self.ports.list() }),
            Request::Keep { name } => {
                let socket = fds.into_iter().next().ok_or(io::ErrorKind::InvalidInput)?;
                self.kept.insert(name, socket);
            }
            Request::Forget { name } => drop(self.kept.remove(&name)),
            Request::ForeignDrops => return Ok(Reply::ForeignDrops { chains: self.firewall.foreign_drops()? }),
            Request::Resolve { container, resolver } => self.names.resolve(container, resolver, fds)?,
            Request::Hush => self.names.hush()?,
            Request::Answer => self.names.answer()?,
            Request::Unresolve { container } => self.names.unresolve(container)?,
            Request::Resolvers => return Ok(Reply::Resolvers { containers: self.names.containers() }),
            Request::Hold { .. }
            | Request::Sockets { .. }
            | Request::Kept { .. }
            | Request::Resolver { .. }
            | Request::Unknown => {
                return Err(io::Error::other("unknown request"));
            }
        }
        Ok(Reply::Done)
    }

    fn rest(&mut self, container: &str) -> io::Result<()> {
        let leading = self.ports.leading(container);
        self.ports.rest(container, &self.poll);
        self.firewall.put(container, Vec::new())?;
        if let Some((ports, targets)) = leading {
            // Best effort: without connection tracking in the kernel there is nothing to forget.
            let _ = conntrack::forget_flows(&ports, targets);
        }
        Ok(())
    }
}

fn failed(error: io::Error) -> Reply {
    Reply::Failed { message: error.to_string() }
}
