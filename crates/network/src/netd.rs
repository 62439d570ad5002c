//! The link to gantry-netd: one thread that asks it, starts it again when it died, and hands it what it held.

use std::{
    collections::BTreeMap,
    io,
    net::Shutdown,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use gantry_wire::net::{Port, Reply, Request};
use tokio::sync::oneshot;

mod connection;
mod held;

use connection::Connection;
use held::Held;
pub use held::Sockets;

/// How long a netd that cannot be started is left alone.
const RESTART_EVERY: Duration = Duration::from_millis(500);

/// What netd said, with the sockets beside it.
#[derive(Debug)]
pub struct Answer {
    pub reply: Reply,
    pub fds: Vec<OwnedFd>,
}

/// What a netd of an earlier gantryd holds, by container.
#[derive(Debug)]
pub struct Found {
    pub ports: BTreeMap<String, Vec<Port>>,
    pub resolvers: Vec<String>,
}

enum Call {
    Ask {
        request: Request,
        sockets: Sockets,
        answered: Box<dyn FnOnce(io::Result<Answer>) + Send>,
    },
    /// The connection with that number ended.
    Lost(u64),
    Stop,
}

/// netd goes on when this is dropped; only the link ends.
pub struct Netd {
    calls: mpsc::Sender<Call>,
    thread: Option<JoinHandle<()>>,
}

impl Netd {
    /// Finds or starts netd. Returns what it holds already. Blocks.
    pub fn open(program: PathBuf, folder: PathBuf) -> io::Result<(Self, Found)> {
        let (calls, inbox) = mpsc::channel();
        let mut link =
            Link { program, folder, held: Held::default(), connection: None, number: 0, calls: calls.clone() };
        link.begin()?;
        let found = Found { ports: link.held.ports(), resolvers: link.held.resolvers() };
        let thread = thread::Builder::new().name("netd".into()).spawn(move || link.run(inbox))?;
        Ok((Self { calls, thread: Some(thread) }, found))
    }

    /// Asks, and fails with netd's own words where it could not.
    pub async fn ask(&self, request: Request, sockets: Sockets) -> io::Result<Answer> {
        let (answered, answer) = oneshot::channel();
        self.send(request, sockets, Box::new(move |result| drop(answered.send(result))))?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// The same for a caller that may block, for so long at most.
    pub fn ask_blocking(&self, request: Request, sockets: Sockets, patience: Duration) -> io::Result<Answer> {
        let (answered, answer) = mpsc::channel();
        self.send(request, sockets, Box::new(move |result| drop(answered.send(result))))?;
        answer.recv_timeout(patience).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn send(
        &self,
        request: Request,
        sockets: Sockets,
        answered: Box<dyn FnOnce(io::Result<Answer>) + Send>,
    ) -> io::Result<()> {
        self.calls.send(Call::Ask { request, sockets, answered }).map_err(|_| ended())
    }
}

impl Drop for Netd {
    fn drop(&mut self) {
        let _ = self.calls.send(Call::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the link to gantry-netd has ended")
}

/// The thread's own.
struct Link {
    program: PathBuf,
    folder: PathBuf,
    held: Held,
    connection: Option<Connection>,
    /// Counts connections, so that news of an old one's end is known as such.
    number: u64,
    calls: mpsc::Sender<Call>,
}

impl Link {
    fn begin(&mut self) -> io::Result<()> {
        match Connection::find(&self.folder)? {
            Some(connection) => {
                self.take(connection)?;
                self.learn()
            }
            None => self.restart(),
        }
    }

    fn run(mut self, inbox: mpsc::Receiver<Call>) {
        for call in inbox {
            match call {
                Call::Ask { request, sockets, answered } => answered(self.ask(&request, &sockets)),
                Call::Lost(number) if number == self.number => {
                    tracing::warn!("gantry-netd died; the next one takes over");
                    self.restart_or_retry();
                }
                Call::Lost(_) => {}
                Call::Stop => break,
            }
        }
        if let Some(stream) = self.connection.as_ref().and_then(|connection| connection.watch().ok()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn ask(&mut self, request: &Request, sockets: &Sockets) -> io::Result<Answer> {
        let answer = match self.ask_once(request, sockets) {
            Ok(answer) => answer,
            // It died just now, or it is stuck: the next one hears the same request.
            Err(_) => {
                self.restart()?;
                self.ask_once(request, sockets)?
            }
        };
        if let Reply::Failed { message } = answer.reply {
            return Err(io::Error::other(message));
        }
        self.held.note(request, sockets);
        if let (Request::Kept { name }, Some(socket)) = (request, answer.fds.first()) {
            // Known from an earlier gantryd's netd: the next one is to have it too.
            self.held.note(&Request::Keep { name: name.clone() }, &[Arc::new(socket.try_clone()?)]);
        }
        Ok(answer)
    }

    fn ask_once(&mut self, request: &Request, sockets: &Sockets) -> io::Result<Answer> {
        self.connection.as_mut().ok_or_else(ended)?.ask(request, sockets)
    }

    fn restart_or_retry(&mut self) {
        if let Err(error) = self.restart() {
            tracing::error!(%error, "cannot start gantry-netd");
            let (calls, number) = (self.calls.clone(), self.number);
            let later = move || {
                thread::sleep(RESTART_EVERY);
                drop(calls.send(Call::Lost(number)));
            };
            let _ = thread::Builder::new().name("netd-later".into()).spawn(later);
        }
    }

    /// Starts a netd and hands over what the last one held.
    fn restart(&mut self) -> io::Result<()> {
        if let Some(old) = self.connection.take() {
            old.end()?;
        }
        let connection = Connection::start(&self.program, &self.folder)?;
        self.take(connection)?;
        for (request, sockets) in self.held.retell() {
            if let Reply::Failed { message } = self.ask_once(&request, &sockets)?.reply {
                tracing::error!(%message, "the new gantry-netd cannot take over a part");
            }
        }
        Ok(())
    }

    /// Makes this the connection, and has a thread wait for its end.
    fn take(&mut self, connection: Connection) -> io::Result<()> {
        self.number += 1;
        let (stream, calls, number) = (connection.watch()?, self.calls.clone(), self.number);
        self.connection = Some(connection);
        let wait = move || {
            use rustix::event::{PollFd, PollFlags, poll};
            let mut ends = [PollFd::new(&stream, PollFlags::RDHUP)];
            while let Err(rustix::io::Errno::INTR) = poll(&mut ends, None) {}
            drop(calls.send(Call::Lost(number)));
        };
        thread::Builder::new().name("netd-end".into()).stack_size(64 << 10).spawn(wait)?;
        Ok(())
    }

    /// Takes copies of what a netd of an earlier gantryd holds.
    fn learn(&mut self) -> io::Result<()> {
        let Reply::Held { containers } = self.ask_once(&Request::Held, &Vec::new())?.reply else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        for (container, ports) in containers {
            let mut from = 0;
            while from < ports.len() {
                let request = Request::Sockets { container: container.clone(), from };
                let Answer { reply: Reply::Sockets { ports }, fds } = self.ask_once(&request, &Vec::new())? else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                if ports.is_empty() || ports.len() != fds.len() {
                    break;
                }
                from += ports.len();
                let sockets: Sockets = fds.into_iter().map(Arc::new).collect();
                self.held.note(&Request::Hold { container: container.clone(), ports }, &sockets);
            }
        }
        self.learn_resolvers()
    }

    fn learn_resolvers(&mut self) -> io::Result<()> {
        // One that an older gantryd started has none.
        let Reply::Resolvers { containers } = self.ask_once(&Request::Resolvers, &Vec::new())?.reply else {
            return Ok(());
        };
        for container in containers {
            let request = Request::Resolver { container: container.clone() };
            let Answer { reply: Reply::Resolver { resolver }, fds } = self.ask_once(&request, &Vec::new())? else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let sockets: Sockets = fds.into_iter().map(Arc::new).collect();
            self.held.note(&Request::Resolve { container, resolver }, &sockets);
        }
        Ok(())
    }
}
