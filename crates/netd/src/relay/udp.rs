//! Relayed UDP: one socket to the container for each client, forgotten when it has been silent for a while.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with},
};

use super::datagram::{self, Path};
use crate::poll::{Interest, Poll, Token};

/// As docker-proxy has it.
pub const IDLE: Duration = Duration::from_secs(90);
/// Clients of one port at a time; the longest silent one makes room.
const CLIENTS: usize = 4096;
/// Datagrams of one socket before others have their turn.
const BURST: usize = 64;

/// One published UDP port and its clients.
#[derive(Debug)]
pub struct UdpPort {
    socket: Rc<OwnedFd>,
    target: SocketAddr,
    flows: BTreeMap<Token, Flow>,
    by_path: BTreeMap<Path, Token>,
}

#[derive(Debug)]
struct Flow {
    socket: OwnedFd,
    path: Path,
    heard: Instant,
}

impl UdpPort {
    pub fn new(socket: Rc<OwnedFd>, target: SocketAddr, v6: bool) -> io::Result<Self> {
        datagram::tell_local_address(socket.as_fd(), v6)?;
        Ok(Self { socket, target, flows: BTreeMap::new(), by_path: BTreeMap::new() })
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub fn owns(&self, token: Token) -> bool {
        self.flows.contains_key(&token)
    }

    /// Carries what clients sent to the container.
    pub fn carry_in(&mut self, poll: &mut Poll, buffer: &mut [u8]) {
        for _ in 0..BURST {
            match datagram::receive(self.socket.as_fd(), buffer) {
                Ok((length, path)) => {
                    if let Ok(socket) = self.flow(path, poll) {
                        // What the container refuses is lost, as on any network.
                        let _ = send(socket, &buffer[..length], SendFlags::NOSIGNAL);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier answer, for instance.
                Err(_) => {}
            }
        }
    }

    /// Carries what the container answered to the client.
    pub fn carry_out(&mut self, token: Token, buffer: &mut [u8]) {
        let Some(flow) = self.flows.get_mut(&token) else { return };
        flow.heard = Instant::now();
        for _ in 0..BURST {
            match recv(&flow.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    let _ = datagram::send(self.socket.as_fd(), &buffer[..length], &flow.path);
                }
                Err(Errno::AGAIN) => return,
                Err(_) => {}
            }
        }
    }

    /// Closes the flows that were silent too long.
    pub fn sweep(&mut self, now: Instant) {
        self.flows.retain(|_, flow| now.duration_since(flow.heard) < IDLE);
        self.by_path.retain(|_, token| self.flows.contains_key(token));
    }

    pub fn is_idle(&self) -> bool {
        self.flows.is_empty()
    }

    fn flow(&mut self, path: Path, poll: &mut Poll) -> io::Result<BorrowedFd<'_>> {
        let token = match self.by_path.get(&path) {
            Some(token) => *token,
            None => self.open(path, poll)?,
        };
        let flow = self.flows.get_mut(&token).ok_or(io::ErrorKind::NotFound)?;
        flow.heard = Instant::now();
        Ok(flow.socket.as_fd())
    }

    fn open(&mut self, path: Path, poll: &mut Poll) -> io::Result<Token> {
        if self.flows.len() >= CLIENTS {
            self.close_longest_silent();
        }
        let family = if self.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        connect(&socket, &self.target)?;
        let token = poll.add(&socket, Interest::Level)?;
        self.flows.insert(token, Flow { socket, path, heard: Instant::now() });
        self.by_path.insert(path, token);
        Ok(token)
    }

    fn close_longest_silent(&mut self) {
        let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.heard).map(|(token, _)| *token);
        if let Some(flow) = oldest.and_then(|token| self.flows.remove(&token)) {
            self.by_path.remove(&flow.path);
        }
    }
}
