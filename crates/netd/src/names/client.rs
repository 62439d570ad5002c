//! A client that asks over TCP: messages with their length in front, several at a time.

use std::{
    io,
    net::TcpStream,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    message::HEADER,
    upstream::{receive, send, whole},
};

/// A connection on which nothing happens for so long is closed.
pub const IDLE: Duration = Duration::from_secs(10);
/// Answers that a client has not taken; more ends it.
const BACKLOG: usize = 256 << 10;

#[derive(Debug)]
pub struct Client {
    pub container: Rc<str>,
    pub stream: TcpStream,
    pub heard: Instant,
    came: Vec<u8>,
    out: Vec<u8>,
    ended: bool,
    /// Questions without an answer yet.
    open: usize,
}

impl Client {
    pub fn new(container: Rc<str>, stream: TcpStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { container, stream, heard: now, came: Vec::new(), out: Vec::new(), ended: false, open: 0 })
    }

    /// The queries that came as a whole.
    pub fn advance(&mut self, now: Instant) -> io::Result<Vec<Vec<u8>>> {
        send(&mut self.stream, &mut self.out)?;
        let mut queries = Vec::new();
        loop {
            self.ended |= receive(&mut self.stream, &mut self.came, usize::from(u16::MAX) + 2)?;
            let before = queries.len();
            while let Some(message) = whole(&self.came) {
                let length = message.len();
                // A length below that of a header was read as a header: nothing after it can be trusted.
                if usize::from(u16::from_be_bytes([self.came[0], self.came[1]])) < HEADER {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                queries.push(message.to_vec());
                self.came.drain(..2 + length);
            }
            // The edge is told once: all there is must be read.
            if queries.len() == before || self.ended {
                break;
            }
        }
        if !queries.is_empty() {
            self.heard = now;
        }
        self.open += queries.len();
        Ok(queries)
    }

    /// Sends an answer; an empty one is none.
    pub fn answer(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open = self.open.saturating_sub(1);
        if let (Ok(length @ 1..), true) = (u16::try_from(bytes.len()), self.out.len() < BACKLOG) {
            self.out.extend(length.to_be_bytes());
            self.out.extend(bytes);
            return send(&mut self.stream, &mut self.out);
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Whether it said that it asks no more, and has all answers.
    pub fn is_done(&self) -> bool {
        self.ended && self.open == 0 && self.out.is_empty()
    }
}
