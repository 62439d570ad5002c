//! One query on its way through other name servers: asked one after the other, the slow one still listened to.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use gantry_wire::net::Upstream;
use hickory_proto::op::Message;
use rustix::net::SocketType;

use super::{
    message::{self, HEADER, Query},
    namespace::Home,
};
use crate::poll::{Interest, Poll, Token};

const DNS: u16 = 53;
/// A server that says nothing for so long is not the only one asked any more; a lone one is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// The end: dockerd's, and less than what a client's library waits.
const LIMIT: Duration = Duration::from_secs(4);
/// Datagrams that a query is worth.
const ATTEMPTS: usize = 6;
const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

/// Whom, from where and how.
#[derive(Debug)]
pub struct Route<'a> {
    pub home: &'a Home,
    /// A socket of the container's namespace.
    pub inside: BorrowedFd<'a>,
    pub by_tcp: bool,
}

#[derive(Debug)]
pub struct Exchange {
    pub query: Query,
    servers: Vec<Upstream>,
    asked: usize,
    attempts: Vec<Attempt>,
    next_at: Instant,
    until: Instant,
}

#[derive(Debug)]
struct Attempt {
    token: Token,
    id: u16,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    /// What is to be sent, and what came.
    Tcp(TcpStream, Vec<u8>, Vec<u8>),
}

/// What became of an exchange.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// With the client's own id.
    Answer(Vec<u8>),
    Wait,
    /// No server answers.
    Failed,
}

impl Exchange {
    pub fn new(query: Query, servers: Vec<Upstream>, now: Instant) -> Self {
        Self { query, servers, asked: 0, attempts: Vec::new(), next_at: now, until: now + LIMIT }
    }

    /// The tokens by which news of it come.
    pub fn tokens(&self) -> impl Iterator<Item = Token> {
        self.attempts.iter().map(|attempt| attempt.token)
    }

    /// When `tick` is wanted.
    pub fn deadline(&self) -> Instant {
        self.next_at.min(self.until)
    }

    /// Asks the next server where it is time to.
    pub fn tick(&mut self, now: Instant, route: &Route<'_>, poll: &mut Poll) -> Progress {
        if now >= self.until {
            return Progress::Failed;
        }
        if now >= self.next_at { self.ask_next(now, route, poll) } else { Progress::Wait }
    }

    /// Reads news of one attempt.
    pub fn ready(&mut self, token: Token, now: Instant, route: &Route<'_>, poll: &mut Poll) -> Progress {
        let Some(at) = self.attempts.iter().position(|attempt| attempt.token == token) else { return Progress::Wait };
        let attempt = &mut self.attempts[at];
        match attempt.advance(&self.query) {
            Ok(None) => return Progress::Wait,
            Ok(Some(mut bytes)) if !matches!(message::response_code(&bytes), SERVFAIL | REFUSED) => {
                bytes[..2].copy_from_slice(&self.query.id.to_be_bytes());
                return Progress::Answer(bytes);
            }
            // This one cannot or will not: the next.
            Ok(Some(_)) | Err(_) => drop(self.attempts.remove(at)),
        }
        if self.asked < self.servers.len() {
            return self.ask_next(now, route, poll);
        }
        if self.attempts.is_empty() { Progress::Failed } else { Progress::Wait }
    }

    fn ask_next(&mut self, now: Instant, route: &Route<'_>, poll: &mut Poll) -> Progress {
        self.next_at = if self.asked < ATTEMPTS { now + PATIENCE } else { self.until };
        while !self.servers.is_empty() && self.asked < ATTEMPTS.max(self.servers.len()) {
            let server = &self.servers[self.asked % self.servers.len()];
            self.asked += 1;
            match Attempt::begin(&self.query, server, route, poll) {
                Ok(attempt) => {
                    self.attempts.push(attempt);
                    return Progress::Wait;
                }
                // No route to it from there, for instance.
                Err(_) if self.asked < self.servers.len() => {}
                Err(_) => break,
            }
        }
        if self.attempts.is_empty() { Progress::Failed } else { Progress::Wait }
    }
}

impl Attempt {
    fn begin(query: &Query, server: &Upstream, route: &Route<'_>, poll: &mut Poll) -> io::Result<Self> {
        let to = route.home.address(server, DNS)?;
        let inside = (!server.host).then_some(route.inside);
        // Random, as is the port: whoever answers must have seen the question.
        let id = Message::query().metadata.id;
        let mut bytes = query.raw.clone();
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        if route.by_tcp {
            let stream = TcpStream::from(route.home.connect(inside, SocketType::STREAM, to)?);
            let token = poll.add(&stream, Interest::Edge)?;
            let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            bytes.splice(0..0, length.to_be_bytes());
            return Ok(Self { token, id, socket: Socket::Tcp(stream, bytes, Vec::new()) });
        }
        let socket = UdpSocket::from(route.home.connect(inside, SocketType::DGRAM, to)?);
        let token = poll.add(&socket, Interest::Level)?;
        socket.send(&bytes)?;
        Ok(Self { token, id, socket: Socket::Udp(socket) })
    }

    /// The answer, where it is there as a whole.
    fn advance(&mut self, query: &Query) -> io::Result<Option<Vec<u8>>> {
        match &mut self.socket {
            Socket::Udp(socket) => {
                let mut buffer = vec![0; 64 << 10];
                loop {
                    match socket.recv(&mut buffer) {
                        Ok(length) if query.is_answered_by(&buffer[..length], self.id) => {
                            buffer.truncate(length);
                            return Ok(Some(buffer));
                        }
                        // Not an answer to this.
                        Ok(_) => {}
                        Err(error) => return would_block_is_fine(error).map(|()| None),
                    }
                }
            }
            Socket::Tcp(stream, out, came) => {
                send(stream, out)?;
                let ended = receive(stream, came, usize::from(u16::MAX) + 2)?;
                match whole(came) {
                    Some(bytes) if query.is_answered_by(bytes, self.id) => Ok(Some(bytes.to_vec())),
                    Some(_) => Err(io::ErrorKind::InvalidData.into()),
                    None if ended => Err(io::ErrorKind::UnexpectedEof.into()),
                    None => Ok(None),
                }
            }
        }
    }
}

/// Sends as much as goes.
pub fn send(stream: &mut TcpStream, out: &mut Vec<u8>) -> io::Result<()> {
    while !out.is_empty() {
        match stream.write(out) {
            Ok(sent) => drop(out.drain(..sent)),
            // Not connected yet is told the same way.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
            Err(error) => return would_block_is_fine(error),
        }
    }
    Ok(())
}

/// Reads what is there, up to `room` bytes in all; `true` at the end of the stream.
pub fn receive(stream: &mut TcpStream, came: &mut Vec<u8>, room: usize) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    while came.len() < room {
        let most = buffer.len().min(room - came.len());
        match stream.read(&mut buffer[..most]) {
            Ok(0) => return Ok(true),
            Ok(length) => came.extend(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
            Err(error) => return would_block_is_fine(error).map(|()| false),
        }
    }
    Ok(false)
}

/// The first message of a stream, which its length precedes.
pub fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk()?));
    bytes.get(2..2 + length.max(HEADER))
}

fn would_block_is_fine(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}
