//! The loop of one shim: requests, ends of children, bytes of terminals, each in its turn.

mod children;
mod connections;
mod publisher;
mod service;

pub(crate) use children::Exit;
pub(crate) use connections::Reply;

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::event::epoll::EventFlags;

use crate::{
    container::{Carrier, Container, Gate},
    host::{
        log,
        memory::Watch,
        poll::{Interest, Poll, Source},
        process,
    },
    proto::{
        events::{Event, TaskOOM},
        ttrpc::Refusal,
    },
};
use children::Children;
use connections::Connections;
use publisher::Publisher;

/// How long events may still take to reach containerd when all else is done.
const FAREWELL: Duration = Duration::from_secs(5);

/// Until somebody is taken in again where there was no room.
const REST: Duration = Duration::from_millis(100);

/// What stays the same.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) namespace: String,
    pub(crate) id: String,
    /// The working folder.
    pub(crate) bundle: PathBuf,
    pub(crate) socket: PathBuf,
    /// containerd's socket for events; empty for none.
    pub(crate) events: PathBuf,
}

/// Something that is done later.
pub(crate) type Then = Box<dyn FnOnce(&mut Daemon)>;

pub(crate) struct Daemon {
    pub(crate) facts: Facts,
    pub(crate) poll: Poll,
    signals: OwnedFd,
    listener: UnixListener,
    listening: Interest,
    connections: Connections,
    pub(crate) children: Children,
    publisher: Publisher,
    /// From a successful Create to a successful Delete.
    pub(crate) container: Option<Container>,
    pub(crate) creating: bool,
    pub(crate) carriers: BTreeMap<u32, Carrier>,
    pub(crate) last_carrier: u32,
    pub(crate) memory: Option<Watch>,
    pub(crate) gate: Option<Gate>,
    timers: Vec<(Instant, Then)>,
    /// Steps on the container as a whole are done one after the other.
    busy: bool,
    waiting: VecDeque<Then>,
    /// Since when there is nothing more to do.
    leaving: Option<Instant>,
}

impl Daemon {
    pub(crate) fn new(facts: Facts, listener: UnixListener) -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let (poll, signals) = (Poll::new()?, process::signals()?);
        listener.set_nonblocking(true)?;
        let mut listening = None;
        poll.set(&listener, Source::Listener, &mut listening, Some(EventFlags::IN))?;
        poll.add(&signals, Source::Children)?;
        Ok(Self {
            publisher: Publisher::new(facts.events.clone(), facts.namespace.clone()),
            facts,
            poll,
            signals,
            listener,
            listening,
            connections: Connections::default(),
            children: Children::default(),
            container: None,
            creating: false,
            carriers: BTreeMap::new(),
            last_carrier: 0,
            memory: None,
            gate: None,
            timers: Vec::new(),
            busy: false,
            waiting: VecDeque::new(),
            leaving: None,
        })
    }

    /// Works until Shutdown.
    pub(crate) fn serve(mut self) -> io::Result<()> {
        while !self.is_done() {
            for (source, flags) in self.poll.wait(self.patience())? {
                self.hear(source, flags);
            }
            self.run_timers();
        }
        Ok(())
    }

    fn hear(&mut self, source: Source, flags: EventFlags) {
        match source {
            Source::Memory => self.hear_of_memory(),
            Source::Gate => self.hear_gate(),
            Source::Listener => self.accept(),
            Source::Connection(number) => self.hear_connection(number, flags),
            Source::Publisher => self.hear_publisher(),
            Source::Master(carrier) | Source::Output(carrier) | Source::Input(carrier) => self.carry(carrier),
            Source::Children => {
                process::drain(&self.signals);
                self.reap();
            }
        }
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    if let Err(error) = self.connections.add(socket, &self.poll) {
                        log::error("a connection could not be taken", error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ECONNABORTED)) => {}
                Err(error) => {
                    log::error("no connection can be taken for a while", error);
                    return self.rest_listener();
                }
            }
        }
    }

    /// No descriptor or no memory is left, and the kernel would tell of who waits there without end.
    fn rest_listener(&mut self) {
        let listened = self.poll.set(&self.listener, Source::Listener, &mut self.listening, None);
        if let Err(error) = listened {
            log::error("the socket stays listened to", error);
        }
        self.after(REST, |daemon| {
            let wanted = Some(EventFlags::IN);
            if let Err(error) = daemon.poll.set(&daemon.listener, Source::Listener, &mut daemon.listening, wanted) {
                log::error("the socket is not listened to", error);
            }
        });
    }

    fn hear_connection(&mut self, number: u32, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.connections.flush(number, &self.poll);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            for (reply, request) in self.connections.receive(number) {
                self.serve_request(reply, &request);
            }
            if !self.connections.is_open(number) {
                self.forget_waiters(number);
            }
        }
    }

    pub(crate) fn answer(&mut self, reply: Reply, result: Result<Vec<u8>, Refusal>) {
        self.connections.answer(reply, result, &self.poll);
    }

    pub(crate) fn refuse(&mut self, reply: Reply, refusal: Refusal) {
        self.answer(reply, Err(refusal));
    }

    // Events

    pub(crate) fn publish(&mut self, event: &impl Event) {
        self.publisher.push(event);
        self.advance_publisher();
    }

    fn hear_publisher(&mut self) {
        self.publisher.hear();
        self.advance_publisher();
    }

    fn advance_publisher(&mut self) {
        if let Some(pause) = self.publisher.advance(&self.poll) {
            self.after(pause, |daemon| {
                daemon.publisher.pause_is_over();
                daemon.advance_publisher();
            });
        }
    }

    pub(crate) fn hear_of_memory(&mut self) {
        if self.memory.as_mut().is_some_and(Watch::tells_of_a_kill) {
            self.publish(&TaskOOM { container_id: self.facts.id.clone() });
        }
    }

    // Time and turns

    pub(crate) fn after(&mut self, pause: Duration, then: impl FnOnce(&mut Self) + 'static) {
        self.timers.push((Instant::now() + pause, Box::new(then)));
    }

    fn patience(&self) -> Option<Duration> {
        let farewell = self.leaving.map(|since| since + FAREWELL);
        let next = self.timers.iter().map(|(at, _)| *at).chain(farewell).min();
        next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        while let Some(at) = self.timers.iter().position(|(at, _)| *at <= now) {
            let (_, then) = self.timers.swap_remove(at);
            then(self);
        }
    }

    /// Does a step on the container when the one before has ended. Each says so with `turn_over`, once.
    pub(crate) fn in_turn(&mut self, step: impl FnOnce(&mut Self) + 'static) {
        if self.busy {
            self.waiting.push_back(Box::new(step));
        } else {
            self.busy = true;
            step(self);
        }
    }

    pub(crate) fn turn_over(&mut self) {
        match self.waiting.pop_front() {
            Some(next) => next(self),
            None => self.busy = false,
        }
    }

    // The end

    pub(crate) fn shutdown(&mut self) {
        if self.container.is_none() && !self.creating && self.leaving.is_none() {
            // Before the answer: from then on the path is the next run's.
            let _ = fs::remove_file(&self.facts.socket);
            self.leaving = Some(Instant::now());
        }
    }

    fn is_done(&self) -> bool {
        self.leaving.is_some_and(|since| {
            (self.publisher.is_idle() && self.connections.are_flushed()) || since.elapsed() >= FAREWELL
        })
    }
}
