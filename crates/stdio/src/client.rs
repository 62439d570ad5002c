//! One connection: an attached client, or gantryd's control.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use gantry_wire::{
    frame,
    stdio::{Message, Role},
};
use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, sendmsg},
};

/// Output waits while a client has as much of it to read.
const FULL: usize = 1 << 20;
/// Input read at once.
const READ: usize = 16 << 10;

pub(crate) struct Client {
    pub(crate) token: u64,
    pub(crate) socket: OwnedFd,
    pub(crate) role: Option<Role>,
    /// Whether it is joined to stdin, stdout, stderr.
    pub(crate) joined: [bool; 3],
    outbox: Vec<u8>,
    sent: usize,
    /// When it last took something.
    moved: Instant,
    inbox: Vec<u8>,
    /// It reads no more: what it sent before is still taken.
    hung_up: bool,
    /// Its sending side is at its end.
    input_over: bool,
    /// What epoll listens for; `None` when it does not know the socket.
    pub(crate) listened: Option<EventFlags>,
}

impl Client {
    pub(crate) fn new(token: u64, socket: OwnedFd, role: Option<Role>) -> Self {
        Self {
            token,
            socket,
            role,
            joined: [false; 3],
            outbox: Vec::new(),
            sent: 0,
            moved: Instant::now(),
            inbox: Vec::new(),
            hung_up: false,
            input_over: false,
            listened: None,
        }
    }

    /// Nothing more can come from it or go to it.
    pub(crate) fn is_gone(&self) -> bool {
        self.hung_up && (self.input_over || !self.joined[0])
    }

    /// It has everything that was meant for it.
    pub(crate) fn is_served(&self) -> bool {
        self.outbox.is_empty()
    }

    /// For how long it has taken nothing.
    pub(crate) fn idle(&self) -> Duration {
        self.moved.elapsed()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.outbox.len() - self.sent >= FULL
    }

    /// The other side closed.
    pub(crate) fn hang_up(&mut self) {
        self.hung_up = true;
        self.outbox = Vec::new();
        self.sent = 0;
    }

    /// What epoll is to listen for; `None` when nothing matters now (a hang-up is always told, and would not stop).
    pub(crate) fn interest(&self, input_full: bool) -> Option<EventFlags> {
        let mut flags = EventFlags::empty();
        let waits = input_full && self.joined[0];
        if !(self.input_over || waits) {
            flags |= EventFlags::IN;
        }
        if self.sent < self.outbox.len() {
            flags |= EventFlags::OUT;
        }
        (!self.hung_up || !flags.is_empty()).then_some(flags)
    }

    pub(crate) fn tell(&mut self, message: &Message) {
        if let Ok(bytes) = frame::control(message) {
            self.send(&[&bytes]);
        }
    }

    /// Sends parts of one frame; what the socket does not take waits.
    pub(crate) fn send(&mut self, parts: &[&[u8]]) {
        if self.hung_up {
            return;
        }
        let mut skip = 0;
        if self.outbox.is_empty() {
            self.moved = Instant::now();
            let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
            match self.transmit(&slices) {
                Ok(sent) => skip = sent,
                Err(_) => return self.hang_up(),
            }
        }
        for part in parts {
            let from = skip.min(part.len());
            skip -= from;
            self.outbox.extend_from_slice(&part[from..]);
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) {
        while self.sent < self.outbox.len() {
            match self.transmit(&[IoSlice::new(&self.outbox[self.sent..])]) {
                Ok(0) => break,
                Ok(sent) => {
                    self.sent += sent;
                    self.moved = Instant::now();
                }
                Err(_) => return self.hang_up(),
            }
        }
        if self.sent == self.outbox.len() {
            self.outbox = Vec::new();
            self.sent = 0;
        } else if self.sent > FULL / 4 {
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// 0 when the socket is full.
    fn transmit(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut space: [MaybeUninit<u8>; 0] = [];
        let mut none = SendAncillaryBuffer::new(&mut space);
        match sendmsg(&self.socket, slices, &mut none, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads once. What was read is taken frame by frame with `next_frame`.
    pub(crate) fn receive(&mut self) {
        let have = self.inbox.len();
        self.inbox.resize(have + READ, 0);
        let read = rustix::io::read(&self.socket, &mut self.inbox[have..]);
        self.inbox.truncate(have + read.unwrap_or(0));
        match read {
            Ok(0) => self.input_over = true,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.input_over = true;
                self.hang_up();
            }
        }
    }

    /// A whole frame, taken out of what was read. A fault in it ends the client.
    pub(crate) fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        match frame::parse(&self.inbox) {
            Ok(Some((kind, data))) => {
                let taken = (kind, data.to_vec());
                self.inbox.drain(..frame::HEADER + taken.1.len());
                Some(taken)
            }
            Ok(None) => {
                if self.inbox.is_empty() {
                    self.inbox.shrink_to(READ);
                }
                None
            }
            Err(_) => {
                self.input_over = true;
                self.hang_up();
                None
            }
        }
    }
}
