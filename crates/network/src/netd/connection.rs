//! One connection to a gantry-netd: found at its socket, or started.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::OpenOptionsExt as _, net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use gantry_wire::{
    frame::{self, Received},
    net::{self, Reply, Request},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{Answer, held::Sockets};

/// netd answers at once, but for an `nft` on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// A killed one is gone at once, but where the kernel is busy for it.
const DYING: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// Bytes of netd's log, beyond which the next netd begins it anew.
const LOG_MAX: u64 = 1 << 20;

pub struct Connection {
    stream: UnixStream,
    process: Process,
}

/// The netd at the other end.
enum Process {
    Child(Child),
    /// An earlier gantryd's; `None` where the kernel does not say which.
    Found(Option<OwnedFd>),
}

impl Connection {
    /// The netd that serves this folder already; `None` where there is none that answers.
    pub fn find(folder: &Path) -> io::Result<Option<Self>> {
        let Ok(stream) = UnixStream::connect(folder.join(net::SOCKET)) else { return Ok(None) };
        // Who listens is known from the socket; it has just taken a connection, so the number is no other one's.
        let peer = rustix::net::sockopt::socket_peercred(&stream).map(|credentials| credentials.pid).ok();
        let peer = peer.filter(|pid| *pid != Pid::INIT).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut found = Self { stream, process: Process::Found(peer) };
        found.set_patience()?;
        match found.greet() {
            Ok(()) => Ok(Some(found)),
            Err(error) => {
                tracing::warn!(%error, "the running gantry-netd does not answer; another one takes its place");
                found.end()?;
                Ok(None)
            }
        }
    }

    /// Starts a netd in this folder.
    pub fn start(program: &Path, folder: &Path) -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .arg(folder)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(log(&folder.join("netd.log"))?)
            .current_dir("/")
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", program.display())))?;
        let mut started = Self { stream, process: Process::Child(child) };
        match started.set_patience().and_then(|()| started.greet()) {
            Ok(()) => Ok(started),
            Err(error) => {
                started.end()?;
                Err(error)
            }
        }
    }

    pub fn ask(&mut self, request: &Request, sockets: &Sockets) -> io::Result<Answer> {
        let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        frame::send(&self.stream, request, &fds)?;
        let Received { data, fds, .. } = frame::receive(&self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Answer { reply: frame::message(&data)?, fds })
    }

    /// Another descriptor of the same connection, to see its end by.
    pub fn watch(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Ends this netd and waits until it has: another one could not work beside it. It may be dead already, or stuck.
    pub fn end(self) -> io::Result<()> {
        match self.process {
            Process::Child(mut child) => {
                child.kill()?;
                child.wait().map(drop)
            }
            Process::Found(None) => Ok(()),
            Process::Found(Some(process)) => {
                match pidfd_send_signal(&process, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(error) => return Err(error.into()),
                }
                let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&DYING))?;
                if ended == 0 { Err(io::Error::other("the old gantry-netd cannot be ended")) } else { Ok(()) }
            }
        }
    }

    fn set_patience(&self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.stream.set_write_timeout(Some(PATIENCE))
    }

    fn greet(&mut self) -> io::Result<()> {
        match self.ask(&Request::Hello { version: net::VERSION }, &Vec::new())?.reply {
            Reply::Hello { .. } => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn log(path: &Path) -> io::Result<File> {
    let full = fs::metadata(path).is_ok_and(|file| file.len() > LOG_MAX);
    OpenOptions::new().create(true).append(!full).write(true).truncate(full).mode(0o600).open(path)
}
