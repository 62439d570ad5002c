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
use rustix::process::{Pid, Signal, kill_process};

use super::{Answer, held::Sockets};

/// netd answers at once, but for an `nft` on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of netd's log, beyond which the next netd begins it anew.
const LOG_MAX: u64 = 1 << 20;

pub struct Connection {
    stream: UnixStream,
    /// Where it is our own child.
    child: Option<Child>,
}

impl Connection {
    /// The netd that serves this folder already; `None` where there is none that answers.
    pub fn find(folder: &Path) -> io::Result<Option<Self>> {
        let Ok(stream) = UnixStream::connect(folder.join(net::SOCKET)) else { return Ok(None) };
        let mut found = Self { stream, child: None };
        found.set_patience()?;
        match found.greet() {
            Ok(()) => Ok(Some(found)),
            Err(error) => {
                tracing::warn!(%error, "the running gantry-netd does not answer; another one takes its place");
                found.end();
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
        let mut started = Self { stream, child: Some(child) };
        started.set_patience()?;
        started.greet()?;
        Ok(started)
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

    /// Waits for the child's end, so that no zombie is left. Called when the connection has ended.
    pub fn reap(mut self) {
        if let Some(child) = &mut self.child {
            // It may be stuck with its socket closed.
            let _ = child.kill();
            let _ = child.wait();
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

    /// Ends a netd that does not answer. Its process is known from the socket, so it is no other one.
    fn end(self) {
        let peer = rustix::net::sockopt::socket_peercred(&self.stream).map(|credentials| credentials.pid);
        if let Ok(pid) = peer
            && pid != Pid::INIT
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.reap();
    }
}

fn log(path: &Path) -> io::Result<File> {
    let full = fs::metadata(path).is_ok_and(|file| file.len() > LOG_MAX);
    OpenOptions::new().create(true).append(!full).write(true).truncate(full).mode(0o600).open(path)
}
