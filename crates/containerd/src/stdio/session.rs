//! gantryd's side of one companion: its control connection and what it reported.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use gantry_domain::{
    ContainerId, Error, Result,
    ports::{LogSink, StdioSetup},
};
use gantry_wire::{
    frame,
    stdio::{Message, Role, VERSION},
};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{mpsc, watch},
};

use super::{Inner, folder::RunFolder, spare::Placed};

/// A companion that was told to let its run go and has not is killed after this. It gives a compression under way 5 s.
const LEAVE: Duration = Duration::from_secs(8);
/// A killed one goes at once.
const DIE: Duration = Duration::from_secs(1);
/// A living companion answers at once; one that does not for so long is not the one we look for.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Serving,
    /// All output is in the log, and with the clients or on its way to them.
    Ended,
    Dead,
}

pub(super) struct Session {
    pub(super) setup: StdioSetup,
    /// Reading ends of the outputs.
    pub(super) outputs: Vec<OwnedFd>,
    pid: Option<u32>,
    control: mpsc::UnboundedSender<Message>,
    state: watch::Receiver<State>,
    leaving: Arc<AtomicBool>,
}

impl Session {
    /// Listens to a companion's control connection from now on.
    pub(super) fn start(inner: &Arc<Inner>, setup: StdioSetup, placed: Placed) -> Result<Arc<Self>> {
        let mut child = placed.child;
        let nonblocking = placed.control.set_nonblocking(true);
        let socket = match nonblocking.and_then(|()| tokio::net::UnixStream::from_std(placed.control)) {
            Ok(socket) => socket,
            Err(error) => {
                // Nobody would know of it; the runtime reaps it.
                child.as_mut().map(tokio::process::Child::start_kill).transpose()?;
                return Err(error.into());
            }
        };
        let (control, orders) = mpsc::unbounded_channel();
        let (report, state) = watch::channel(State::Serving);
        let leaving = Arc::new(AtomicBool::new(false));
        let conversation =
            Conversation { inner: inner.clone(), id: setup.id.clone(), report, orders, leaving: leaving.clone() };
        inner.tasks.spawn(async move {
            conversation.run(socket).await;
            if let Some(child) = &mut child
                && let Err(error) = child.wait().await
            {
                tracing::warn!(%error, "cannot wait for a companion");
            }
        });
        Ok(Arc::new(Self { setup, outputs: placed.outputs, pid: Some(placed.pid), control, state, leaving }))
    }

    /// Of a run whose companion has done its work and left.
    pub(super) fn ended(setup: StdioSetup) -> Arc<Self> {
        let (control, _) = mpsc::unbounded_channel();
        let (_, state) = watch::channel(State::Ended);
        Arc::new(Self { setup, outputs: Vec::new(), pid: None, control, state, leaving: Arc::default() })
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(super) fn tell(&self, message: Message) {
        // One that is gone has nothing to be told.
        let _ = self.control.send(message);
    }

    /// Waits for the end of the outputs or the companion's death.
    pub(super) async fn settled(&self) -> State {
        let mut state = self.state.clone();
        match state.wait_for(|state| *state != State::Serving).await {
            Ok(state) => *state,
            Err(_) => *self.state.borrow(),
        }
    }

    /// Sends the companion away and waits until it has let the folder and the log go. It may live on for clients that
    /// read late.
    pub(super) async fn end(&self) {
        self.leaving.store(true, Ordering::Release);
        self.tell(Message::Quit);
        if tokio::time::timeout(LEAVE, self.control.closed()).await.is_ok() {
            return;
        }
        tracing::warn!(container = %self.setup.id, pid = self.pid, "the companion does not leave; it is killed");
        if let Some(pid) = self.pid {
            kill(pid);
        }
        if tokio::time::timeout(DIE, self.control.closed()).await.is_err() {
            tracing::error!(container = %self.setup.id, pid = self.pid, "the companion cannot be killed");
        }
    }
}

/// Kills a companion; a process that got its number meanwhile bears another name and is left alone.
fn kill(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return };
    let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    if name.trim() == "gantry-stdio" {
        let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
    }
}

/// The task of a session.
struct Conversation {
    inner: Arc<Inner>,
    id: ContainerId,
    report: watch::Sender<State>,
    orders: mpsc::UnboundedReceiver<Message>,
    leaving: Arc<AtomicBool>,
}

impl Conversation {
    async fn run(mut self, mut socket: tokio::net::UnixStream) {
        let (mut reading, mut writing) = socket.split();
        let mut buffer = BytesMut::new();
        loop {
            tokio::select! {
                news = super::attach::read_frame(&mut reading, &mut buffer) => match news {
                    Ok(Some((frame::CONTROL, data))) => match frame::message(&data) {
                        Ok(Message::Released) => break,
                        Ok(message) => self.take(&message),
                        Err(error) => tracing::warn!(container = %self.id, %error, "a companion's word is not understood"),
                    },
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break,
                },
                Some(order) = self.orders.recv() => {
                    let Ok(bytes) = frame::control(&order) else { continue };
                    if writing.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
            }
        }
        let ended = *self.report.borrow() == State::Ended;
        if !ended {
            self.report.send_replace(State::Dead);
        }
        if !ended && !self.leaving.load(Ordering::Acquire) {
            tracing::warn!(container = %self.id, "a companion died");
            self.inner.deaths.push(self.id.clone());
        }
    }

    fn take(&self, message: &Message) {
        match message {
            Message::End => {
                self.report.send_replace(State::Ended);
            }
            Message::StdinEnd => self.inner.stdin_ends.push(self.id.clone()),
            _ => {}
        }
    }
}

/// Joins the living companion of a run; `None` when there is none.
pub(super) async fn rejoin(
    inner: &Arc<Inner>,
    setup: &StdioSetup,
    folder: &RunFolder,
    known: Option<&Arc<Session>>,
) -> Result<Option<Arc<Session>>> {
    let Some((control, pid, run)) = greet(folder).await? else { return Ok(None) };
    let placed = |outputs| Placed { control, child: None, pid, outputs };
    if run != setup.run {
        // Of an earlier run that nobody closed.
        Session::start(inner, setup.clone(), placed(Vec::new()))?.end().await;
        return Ok(None);
    }
    let outputs = match known {
        Some(session) if !session.outputs.is_empty() => {
            session.outputs.iter().map(OwnedFd::try_clone).collect::<io::Result<Vec<OwnedFd>>>()?
        }
        _ => folder.open_outputs(setup)?,
    };
    Session::start(inner, setup.clone(), placed(outputs)).map(Some)
}

/// Whoever serves a folder, to be sent away.
pub(super) async fn find(inner: &Arc<Inner>, id: &ContainerId, folder: &RunFolder) -> Option<Arc<Session>> {
    let (control, pid, run) = greet(folder).await.ok()??;
    let log = LogSink::None;
    let setup = StdioSetup { id: id.clone(), run, terminal: false, stdin: false, stdin_once: false, log };
    Session::start(inner, setup, Placed { control, child: None, pid, outputs: Vec::new() }).ok()
}

/// A control connection with whoever listens, its process id and run.
async fn greet(folder: &RunFolder) -> Result<Option<(UnixStream, u32, u64)>> {
    let folder = folder.clone();
    let greeting = tokio::task::spawn_blocking(move || {
        let control = match folder.connect() {
            Ok(control) => control,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match welcome(&control) {
            Ok(welcome) => Ok(welcome.map(|(pid, run)| (control, pid, run))),
            // It died with us in its queue. That can outlive it for a moment: a child of ours that is being started
            // has a copy of the listening socket until it executes its program.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    });
    let greeted = greeting.await.map_err(|error| Error::system("joining a companion failed").with_source(error))?;
    greeted.map_err(|error| Error::from(error).context("the companion does not answer"))
}

/// Process id and run of who answers; `None` when the connection ends instead.
fn welcome(mut control: &UnixStream) -> io::Result<Option<(u32, u64)>> {
    control.set_read_timeout(Some(ANSWER))?;
    let hello = Message::Hello { version: VERSION, role: Role::Control, stdin: false, stdout: false, stderr: false };
    frame::send(control, &hello, &[])?;
    let Some((_, data)) = frame::read(&mut control)? else { return Ok(None) };
    match frame::message(&data)? {
        Message::Welcome { pid, run, .. } => Ok(Some((pid, run))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_companion_that_dies_with_a_caller_in_its_queue_is_none() {
        let root = tempfile::tempdir().unwrap();
        let id = ContainerId::random();
        let folder = RunFolder::new(root.path(), &id);
        std::fs::create_dir(folder.path()).unwrap();
        let listener = folder.listen().unwrap();
        let dying = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(listener);
        });
        assert!(greet(&folder).await.unwrap().is_none());
        dying.join().unwrap();
    }
}
