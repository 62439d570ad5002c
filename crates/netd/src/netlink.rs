//! Netfilter's netlink: building messages, walking attributes, one socket.
//!
//! The kernel works a request off inside the `send`, so all answers can be read when it returns.

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname,
        netlink::{NETFILTER, SocketAddrNetlink},
        recv, send, socket_with, sockopt,
    },
};

pub const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_ACK: u16 = 4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
pub const NFNL_SUBSYS_CTNETLINK: u16 = 1;
pub const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// Bytes of `nlmsghdr` and `nfgenmsg`.
const HEADER: usize = 16;
const NF_HEADER: usize = 4;

/// Messages to be sent together.
#[derive(Debug, Default)]
pub struct Request {
    bytes: Vec<u8>,
    start: usize,
    sequence: u32,
}

impl Request {
    /// Begins a message; attributes follow.
    pub fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16) {
        self.end_message();
        self.start = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
    }
    pub fn batch_begin(&mut self) {
        self.message(NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES);
    }
    pub fn batch_end(&mut self) {
        self.message(NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES);
    }
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
    /// A text with its closing zero.
    pub fn text(&mut self, kind: u16, text: &str) {
        let value: Vec<u8> = text.bytes().chain([0]).collect();
        self.attribute(kind, &value);
    }
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.attribute(kind | NLA_F_NESTED, &[]);
        inside(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
    fn end_message(&mut self) {
        let length = (self.bytes.len() - self.start) as u32;
        if length > 0 {
            self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }
}

/// One message of the kernel's.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u16,
    /// The socket whose request this is news of.
    pub portid: u32,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    pub fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or_default()
    }
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(NF_HEADER..).unwrap_or_default())
    }
    /// What an error message says; `Ok` for an acknowledgement.
    fn outcome(&self) -> Option<Result<(), Errno>> {
        if self.kind != NLMSG_ERROR {
            return None;
        }
        let code = self.payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
        Some(if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(-code)) })
    }
}

/// The messages in a datagram.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let word = |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
        let (length, portid) = (word(0)? as usize, word(12)?);
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, portid, payload })
    })
}

/// Attributes in their order: type without flags, and value.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    pub fn find(self, kind: u16) -> Option<&'a [u8]> {
        let mut this = self;
        this.find_map(|(found, value)| (found == kind).then_some(value))
    }
    pub fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.find(kind).map(Attributes)
    }
    pub fn text(self, kind: u16) -> Option<&'a str> {
        std::str::from_utf8(self.find(kind)?).ok().map(|text| text.trim_end_matches('\0'))
    }
    pub fn be32(self, kind: u16) -> Option<u32> {
        self.find(kind)?.first_chunk().map(|value| u32::from_be_bytes(*value))
    }
    pub fn be16(self, kind: u16) -> Option<u16> {
        self.find(kind)?.first_chunk().map(|value| u16::from_be_bytes(*value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes([*self.0.first()?, *self.0.get(1)?]));
        let kind = u16::from_ne_bytes([*self.0.get(2)?, *self.0.get(3)?]) & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A socket to netfilter.
#[derive(Debug)]
pub struct Socket {
    pub fd: OwnedFd,
    pub portid: u32,
}

impl Socket {
    /// `groups` is a bit mask of multicast groups.
    pub fn new(groups: u32) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        let portid = SocketAddrNetlink::try_from(getsockname(&fd)?)?.pid();
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, 1 << 20);
        Ok(Self { fd, portid })
    }

    /// The next datagram; `None` when there is none. `ENOBUFS` says that some were lost.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Errno> {
        loop {
            match recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => return Ok(Some(&buffer[..length])),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends, and succeeds when something was acknowledged and nothing failed.
    pub fn request(&self, request: Request) -> Result<(), Errno> {
        let mut outcome = None;
        self.ask(request, |message| {
            if let Some(news) = message.outcome() {
                outcome = Some(outcome.unwrap_or(Ok(())).and(news));
            }
        })?;
        outcome.unwrap_or(Err(Errno::PROTO))
    }

    /// Sends a dump request and shows each answer.
    pub fn dump(&self, request: Request, mut seen: impl FnMut(Message<'_>)) -> Result<(), Errno> {
        let mut failed = Ok(());
        self.ask(request, |message| match message.outcome() {
            Some(news) => failed = failed.and(news),
            None if message.kind != NLMSG_DONE => seen(message),
            None => {}
        })?;
        failed
    }

    fn ask(&self, mut request: Request, mut seen: impl FnMut(Message<'_>)) -> Result<(), Errno> {
        request.end_message();
        let mut buffer = vec![0; 64 << 10];
        while self.receive(&mut buffer)?.is_some() {}
        send(&self.fd, &request.bytes, SendFlags::empty())?;
        while let Some(datagram) = self.receive(&mut buffer)? {
            messages(datagram).for_each(&mut seen);
        }
        Ok(())
    }
}
