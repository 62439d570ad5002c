//! A blocking rtnetlink socket: several requests in one send, and dumps.
//!
//! It belongs to the network namespace of the thread that opened it, whatever namespace that thread is in later.

use std::{io, os::fd::AsRawFd, os::fd::BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub struct Route {
    socket: Socket,
}

/// A request with its flags beyond `REQUEST` and `ACK`.
pub type Step = (RouteNetlinkMessage, u16);

impl Route {
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// The index of an interface in this socket's namespace.
    pub fn index_of(&self, name: &str) -> io::Result<u32> {
        // SAFETY: the descriptor is open for as long as `self.socket` is.
        let fd = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        Ok(rustix::net::netdevice::name_to_index(fd, name)?)
    }

    /// Sends all steps at once and returns the first failure. Later steps are carried out even so.
    pub fn execute(&self, steps: Vec<Step>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let count = steps.len();
        if count == 0 {
            return Ok(());
        }
        for (at, (message, flags)) in steps.into_iter().enumerate() {
            append(&mut bytes, message, NLM_F_REQUEST | NLM_F_ACK | flags, at as u32);
        }
        self.socket.send(&bytes, 0)?;
        let mut outcome = Ok(());
        let mut answers = 0;
        while answers < count {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in parse(&datagram)? {
                if let NetlinkPayload::Error(error) = message.payload {
                    answers += 1;
                    if error.code.is_some() && outcome.is_ok() {
                        outcome = Err(error.to_io());
                    }
                }
            }
        }
        outcome
    }

    /// All answers to a dump request.
    pub fn dump(&self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.ask(message, NLM_F_REQUEST | NLM_F_DUMP)
    }

    /// The one answer to a request for one object; its error where there is none.
    pub fn get(&self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        self.ask(message, NLM_F_REQUEST | NLM_F_ACK)?.into_iter().next().ok_or(io::ErrorKind::NotFound.into())
    }

    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut bytes = Vec::new();
        append(&mut bytes, message, flags, 0);
        self.socket.send(&bytes, 0)?;
        let mut found = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in parse(&datagram)? {
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok(found),
                    _ => {}
                }
            }
        }
    }
}

fn append(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len();
    bytes.resize((start + message.buffer_len()).next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

fn parse(datagram: &[u8]) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while rest.len() >= 16 {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        messages.push(message);
    }
    Ok(messages)
}
