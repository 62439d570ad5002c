//! Events on their way to containerd, in order, one after the other. containerd may be slow or dead: nothing waits for
//! it, and after a few tries an event is dropped.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    time::Duration,
};

use prost::Message as _;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::{
    container::now,
    host::{
        log,
        poll::{Poll, Source},
    },
    proto::{
        events::{Envelope, Event, Forward, METHOD, SERVICE},
        ttrpc::{self, Request, Response},
    },
};

const TRIES: u32 = 5;
/// The oldest goes when there are more.
const QUEUE: usize = 128;
/// containerd's patience, in nanoseconds.
const TIMEOUT: i64 = 5_000_000_000;

#[derive(Debug)]
pub(super) struct Publisher {
    address: PathBuf,
    namespace: String,
    queue: VecDeque<Pending>,
    socket: Option<UnixStream>,
    inbox: Vec<u8>,
    last_stream: u32,
    state: State,
}

#[derive(Debug)]
struct Pending {
    request: Request,
    failures: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// The first of the queue was sent.
    Sent,
    /// Until the next try.
    Pausing,
}

impl Publisher {
    pub(super) fn new(address: PathBuf, namespace: String) -> Self {
        Self {
            address,
            namespace,
            queue: VecDeque::new(),
            socket: None,
            inbox: Vec::new(),
            last_stream: 0,
            state: State::Ready,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push<E: Event>(&mut self, event: &E) {
        if self.address.as_os_str().is_empty() {
            return;
        }
        let envelope = Envelope {
            timestamp: Some(now()),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: Some(event.to_any()),
        };
        let request = Request {
            service: SERVICE.to_owned(),
            method: METHOD.to_owned(),
            payload: Forward { envelope: Some(envelope) }.encode_to_vec(),
            timeout_nano: TIMEOUT,
        };
        self.queue.push_back(Pending { request, failures: 0 });
        if self.queue.len() > QUEUE {
            // One that was sent is waited for.
            self.queue.remove(usize::from(self.state == State::Sent));
        }
    }

    /// Sends the next one. A pause is to be made before this may be called again, where one is returned.
    pub(super) fn advance(&mut self, poll: &Poll) -> Option<Duration> {
        if self.state != State::Ready || self.queue.is_empty() {
            return None;
        }
        match self.send(poll) {
            Ok(()) => {
                self.state = State::Sent;
                None
            }
            Err(error) => self.failed(&error),
        }
    }

    pub(super) fn pause_is_over(&mut self) {
        self.state = State::Ready;
    }

    fn send(&mut self, poll: &Poll) -> io::Result<()> {
        let Some(next) = self.queue.front() else { return Ok(()) };
        if self.socket.is_none() {
            let socket = open(&self.address)?;
            poll.add(&socket, Source::Publisher)?;
            self.socket = Some(socket);
            self.last_stream = 0;
            self.inbox.clear();
        }
        let Some(socket) = &mut self.socket else { return Ok(()) };
        // A client's streams are odd.
        self.last_stream = if self.last_stream == 0 { 1 } else { self.last_stream.wrapping_add(2) };
        // Far smaller than the socket's buffer: one that does not take it whole is of no use.
        socket.write_all(&ttrpc::frame(self.last_stream, ttrpc::REQUEST, &next.request))
    }

    fn failed(&mut self, error: &io::Error) -> Option<Duration> {
        self.socket = None;
        self.state = State::Pausing;
        let failures = self.queue.front_mut().map_or(0, |first| {
            first.failures += 1;
            first.failures
        });
        if failures >= TRIES {
            log::error("an event was dropped", error);
            self.queue.pop_front();
        }
        Some(Duration::from_secs(failures.into()))
    }

    /// Reads containerd's answer, or finds that it has gone.
    pub(super) fn hear(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        let mut buffer = [0; 1024];
        let open = match socket.read(&mut buffer) {
            Ok(count) => {
                self.inbox.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        let answered = ttrpc::take(&mut self.inbox);
        if let Ok(Some((stream, _, body))) = &answered
            && *stream == self.last_stream
            && self.state == State::Sent
        {
            if let Ok(Response { status: Some(status), .. }) = Response::decode(&body[..])
                && status.code != 0
            {
                log::error("containerd refused an event", status.message);
            }
            self.queue.pop_front();
            self.state = State::Ready;
        }
        if !open || answered.is_err() {
            self.socket = None;
            if self.state == State::Sent {
                // It may have come or not: said again, for a hint too many does no harm.
                self.state = State::Ready;
            }
        }
    }
}

/// Never waits: a containerd that hangs has a full backlog some time.
fn open(address: &PathBuf) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(address)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::proto::events::TaskPaused;

    fn event() -> TaskPaused {
        TaskPaused { container_id: "c".into() }
    }

    #[test]
    fn without_containerd_an_event_is_tried_a_few_times_and_dropped() {
        let mut publisher = Publisher::new("/no/such/socket".into(), "n".into());
        let poll = Poll::new().unwrap();
        publisher.push(&event());
        for failures in 1..=TRIES {
            assert_eq!(publisher.advance(&poll), Some(Duration::from_secs(failures.into())));
            assert_eq!(publisher.advance(&poll), None, "not before the pause is over");
            publisher.pause_is_over();
        }
        assert!(publisher.is_idle());
    }

    #[test]
    fn a_containerd_that_hangs_costs_events_and_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let mut publisher = Publisher::new(dir.path().join("s"), "n".into());
        let poll = Poll::new().unwrap();
        for _ in 0..QUEUE + 10 {
            publisher.push(&event());
            assert_eq!(publisher.advance(&poll), None);
        }
        assert_eq!((publisher.queue.len(), publisher.state), (QUEUE, State::Sent));
    }

    #[test]
    fn the_next_event_follows_when_the_first_is_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let mut publisher = Publisher::new(dir.path().join("s"), "n".into());
        let poll = Poll::new().unwrap();
        publisher.push(&event());
        publisher.push(&event());
        assert_eq!(publisher.advance(&poll), None);
        let (mut server, _) = listener.accept().unwrap();
        for stream in [1, 3] {
            let mut bytes = vec![0; 1024];
            let count = server.read(&mut bytes).unwrap();
            bytes.truncate(count);
            let (number, _, body) = ttrpc::take(&mut bytes).unwrap().unwrap();
            let request = Request::decode(&body[..]).unwrap();
            let envelope = Forward::decode(&request.payload[..]).unwrap().envelope.unwrap();
            assert_eq!((number, envelope.topic.as_str(), bytes.len()), (stream, "/tasks/paused", 0));
            server.write_all(&ttrpc::response(stream, Ok(Vec::new()))).unwrap();
            publisher.hear();
            assert_eq!(publisher.advance(&poll), None);
        }
        assert!(publisher.is_idle());
    }
}
