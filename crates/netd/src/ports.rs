//! Held ports and what goes on at them. A port that leads nowhere yet is not read: who connects waits in its queue.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use gantry_wire::net::{IpProtocol, Port, Targets};
use rustix::{
    io::Errno,
    net::{SocketFlags, accept_with},
};

use crate::{
    poll::{Interest, Poll, Token},
    relay::{
        tcp::{Connection, Next},
        udp::UdpPort,
    },
};

/// How long accepting rests when descriptors ran out.
const EXHAUSTED: Duration = Duration::from_millis(100);
const SWEEP: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Ports {
    held: BTreeMap<String, Held>,
    listeners: BTreeMap<Token, Listener>,
    connections: BTreeMap<Token, Relayed>,
    /// The second token of each connection.
    other_side: BTreeMap<Token, Token>,
    udp: BTreeMap<Token, UdpPort>,
    /// Connections that have more to move.
    again: VecDeque<Token>,
    /// Listeners that rest until the given time.
    resting: Option<(Instant, Vec<Token>)>,
    next_sweep: Option<Instant>,
    buffer: Vec<u8>,
}

/// One container's ports.
#[derive(Default)]
struct Held {
    ports: Vec<(Port, Rc<OwnedFd>)>,
    targets: Option<Targets>,
    tokens: Vec<Token>,
}

struct Listener {
    socket: Rc<OwnedFd>,
    target: SocketAddr,
    container: Rc<str>,
}

struct Relayed {
    connection: Connection,
    container: Rc<str>,
    tokens: [Token; 2],
}

impl Ports {
    pub fn hold(&mut self, container: String, ports: Vec<Port>, sockets: Vec<OwnedFd>) {
        let held = self.held.entry(container).or_default();
        for (port, socket) in ports.into_iter().zip(sockets) {
            held.ports.retain(|(known, _)| *known != port);
            held.ports.push((port, Rc::new(socket)));
        }
    }

    pub fn list(&self) -> BTreeMap<String, Vec<Port>> {
        let ports = |held: &Held| held.ports.iter().map(|(port, _)| *port).collect();
        self.held.iter().map(|(id, held)| (id.clone(), ports(held))).collect()
    }

    /// A container's ports with their sockets, from a position.
    pub fn sockets(&self, container: &str, from: usize, most: usize) -> (Vec<Port>, Vec<BorrowedFd<'_>>) {
        let ports = self.held.get(container).map_or(&[][..], |held| &held.ports);
        ports.iter().skip(from).take(most).map(|(port, socket)| (*port, socket.as_fd())).unzip()
    }

    /// Ports of a container and where they lead.
    pub fn leading(&self, container: &str) -> Option<(Vec<Port>, Targets)> {
        let held = self.held.get(container)?;
        Some((held.ports.iter().map(|(port, _)| *port).collect(), held.targets?))
    }

    /// Starts to relay. Called again, new connections go to the new targets.
    pub fn lead(&mut self, container: &str, targets: Targets, poll: &mut Poll) -> io::Result<()> {
        let Some(held) = self.held.get(container) else { return Ok(()) };
        if held.targets == Some(targets) && held.tokens.len() == held.ports.len() {
            return Ok(());
        }
        self.stop_listening(container, poll);
        let name: Rc<str> = container.into();
        let ports: Vec<_> = self.held.get(container).map(|held| held.ports.clone()).unwrap_or_default();
        for (port, socket) in ports {
            let Some(ip) = targets.reached_from(port.host_ip) else { continue };
            let target = SocketAddr::from((ip, port.container_port));
            match self.listen(&name, port, socket, target, poll) {
                // Noted at once: what is half made is found again.
                Ok(token) => self.held.entry(container.to_owned()).or_default().tokens.extend(token),
                Err(error) => {
                    self.stop_listening(container, poll);
                    return Err(error);
                }
            }
        }
        if let Some(held) = self.held.get_mut(container) {
            held.targets = Some(targets);
        }
        Ok(())
    }

    fn listen(
        &mut self,
        container: &Rc<str>,
        port: Port,
        socket: Rc<OwnedFd>,
        target: SocketAddr,
        poll: &mut Poll,
    ) -> io::Result<Option<Token>> {
        let token = match port.protocol {
            IpProtocol::TCP => {
                let token = poll.add(&*socket, Interest::Level)?;
                self.listeners.insert(token, Listener { socket, target, container: container.clone() });
                token
            }
            IpProtocol::UDP => {
                let udp = UdpPort::new(socket, target, port.host_ip.is_ipv6())?;
                let token = poll.add(udp.socket(), Interest::Level)?;
                self.udp.insert(token, udp);
                token
            }
            // The kernel translates it; its socket only reserves.
            _ => return Ok(None),
        };
        Ok(Some(token))
    }

    /// Ends a container's connections; its sockets stay.
    pub fn rest(&mut self, container: &str, poll: &Poll) {
        self.stop_listening(container, poll);
        let ended: Vec<Token> =
            self.connections.iter().filter(|(_, r)| &*r.container == container).map(|(token, _)| *token).collect();
        for token in ended {
            self.close(token);
        }
    }

    pub fn release(&mut self, container: &str, poll: &Poll) {
        self.rest(container, poll);
        self.held.remove(container);
    }

    fn stop_listening(&mut self, container: &str, poll: &Poll) {
        let Some(held) = self.held.get_mut(container) else { return };
        held.targets = None;
        for token in held.tokens.drain(..) {
            if let Some(listener) = self.listeners.remove(&token) {
                poll.forget(&*listener.socket);
            }
            if let Some(udp) = self.udp.remove(&token) {
                poll.forget(udp.socket());
            }
        }
    }

    /// Works off news of one token; `false` when it is not of a port.
    pub fn ready(&mut self, token: Token, poll: &mut Poll) -> bool {
        if self.listeners.contains_key(&token) {
            self.accept(token, poll);
        } else if let Some(first) = self.other_side.get(&token).copied() {
            self.advance(first);
        } else if let Some(udp) = self.udp.get_mut(&token) {
            self.buffer.resize(64 << 10, 0);
            udp.carry_in(poll, &mut self.buffer);
            self.next_sweep.get_or_insert(Instant::now() + SWEEP);
        } else if let Some(udp) = self.udp.values_mut().find(|udp| udp.owns(token)) {
            self.buffer.resize(64 << 10, 0);
            udp.carry_out(token, &mut self.buffer);
        } else {
            return false;
        }
        true
    }

    fn accept(&mut self, token: Token, poll: &mut Poll) {
        let Some(listener) = self.listeners.get(&token) else { return };
        match accept_with(&*listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(client) => {
                let (target, container) = (listener.target, listener.container.clone());
                // A client whose connection cannot be opened is closed.
                let _ = self.relay(client, target, container, poll);
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                poll.forget(&*listener.socket);
                let (_, tokens) = self.resting.get_or_insert((Instant::now() + EXHAUSTED, Vec::new()));
                tokens.push(token);
            }
            // The client is gone already, or another duplicate took it.
            Err(_) => {}
        }
    }

    fn relay(&mut self, client: OwnedFd, to: SocketAddr, container: Rc<str>, poll: &mut Poll) -> io::Result<()> {
        let connection = Connection::open(client, to)?;
        let tokens = [poll.token(), poll.token()];
        poll.watch(&connection.client, tokens[0], Interest::Edge)?;
        poll.watch(&connection.container, tokens[1], Interest::Edge)?;
        self.other_side.extend(tokens.map(|token| (token, tokens[0])));
        self.connections.insert(tokens[0], Relayed { connection, container, tokens });
        Ok(())
    }

    fn advance(&mut self, token: Token) {
        match self.connections.get_mut(&token).map(|relayed| relayed.connection.advance()) {
            Some(Next::Again) if !self.again.contains(&token) => self.again.push_back(token),
            Some(Next::Closed) => self.close(token),
            _ => {}
        }
    }

    fn close(&mut self, token: Token) {
        if let Some(relayed) = self.connections.remove(&token) {
            for token in relayed.tokens {
                self.other_side.remove(&token);
            }
        }
    }

    /// When `tick` is wanted, whatever else happens.
    pub fn deadline(&self) -> Option<Instant> {
        if !self.again.is_empty() {
            return Some(Instant::now());
        }
        [self.resting.as_ref().map(|(at, _)| *at), self.next_sweep].into_iter().flatten().min()
    }

    /// Work that no descriptor tells of.
    pub fn tick(&mut self, poll: &Poll) {
        let now = Instant::now();
        for token in std::mem::take(&mut self.again) {
            self.advance(token);
        }
        if self.resting.as_ref().is_some_and(|(at, _)| *at <= now) {
            for token in self.resting.take().map(|(_, tokens)| tokens).unwrap_or_default() {
                if let Some(listener) = self.listeners.get(&token) {
                    let _ = poll.watch(&*listener.socket, token, Interest::Level);
                }
            }
        }
        if self.next_sweep.is_some_and(|at| at <= now) {
            self.udp.values_mut().for_each(|udp| udp.sweep(now));
            self.next_sweep = (!self.udp.values().all(UdpPort::is_idle)).then_some(now + SWEEP);
        }
    }
}
