//! The streams of a process that is being started: what it is given, or the socket that its terminal comes by; and what is
//! left for the shim.

use std::{io, os::fd::OwnedFd};

use rustix::fs::{Gid, Uid, fchown};

use super::{Console, carrier::Carrier, relay::Relay};
use crate::{
    host::{
        fifo::{self, Held, Output, Paths},
        pty::ConsoleSocket,
    },
    runc::Call,
};

/// How a process gets its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outputs {
    /// Through a pipe, so that only the process is heard there.
    Relayed,
    /// The FIFO itself.
    Direct,
}

pub(super) struct Streams {
    paths: Paths,
    given: [Option<OwnedFd>; 3],
    held: Held,
    relays: Vec<Carrier>,
    socket: Option<ConsoleSocket>,
}

impl Streams {
    /// `socket` is the name of the terminal's, in the bundle.
    pub(super) fn open(paths: Paths, socket: &str, outputs: Outputs) -> io::Result<Self> {
        let mut streams =
            Self { paths, given: [None, None, None], held: Held::default(), relays: Vec::new(), socket: None };
        if streams.paths.terminal {
            streams.socket = Some(ConsoleSocket::new(socket.to_owned())?);
            return Ok(streams);
        }
        let stdin = fifo::input(&streams.paths.stdin, &mut streams.held)?;
        let [stdout, stderr] = [streams.paths.stdout.clone(), streams.paths.stderr.clone()];
        streams.given = [stdin, streams.output(&stdout, outputs)?, streams.output(&stderr, outputs)?];
        Ok(streams)
    }

    fn output(&mut self, path: &str, outputs: Outputs) -> io::Result<Option<OwnedFd>> {
        match (fifo::output(path)?, outputs) {
            (None, _) => Ok(None),
            (Some(Output::File(file)), _) => Ok(Some(file)),
            (Some(Output::Fifo(both)), Outputs::Direct) => {
                self.held.outputs.push(both);
                fifo::writer(path).map(Some)
            }
            (Some(Output::Fifo(both)), Outputs::Relayed) => {
                let (relay, given) = Relay::new(both)?;
                self.relays.push(Carrier::Relay(relay));
                Ok(Some(given))
            }
        }
    }

    /// A user that may have to open them anew, by `/dev/stdout`.
    pub(super) fn owned_by(self, uid: u32, gid: u32) -> io::Result<Self> {
        if (uid, gid) != (0, 0) {
            for fd in self.given.iter().flatten() {
                fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            }
        }
        Ok(self)
    }

    pub(super) fn console_name(&self) -> Option<String> {
        self.socket.as_ref().map(|socket| socket.name().to_owned())
    }

    /// Gives the process its ends. With a terminal the runtime's own output is kept, for nobody else would see it.
    pub(super) fn give(&mut self, call: Call) -> io::Result<Call> {
        if self.socket.is_some() {
            return call.keeping_output();
        }
        Ok(call.with_streams(std::mem::take(&mut self.given)))
    }

    /// The process is there: what is left is ours.
    pub(super) fn settle(self) -> Result<(Held, Vec<Carrier>), String> {
        let Self { paths, mut held, mut relays, socket, .. } = self;
        if let Some(socket) = socket {
            let master = socket.receive().map_err(|error| format!("failed to retrieve console master: {error}"))?;
            let open =
                |path: &str| fifo::open_both(path).map_err(|error| format!("failed to start console copy: {error}"));
            // The terminal may be over before the client comes.
            held.stdin_reader = open(&paths.stdin)?;
            relays.push(Carrier::Console(Console::new(master, open(&paths.stdin)?, open(&paths.stdout)?)));
        }
        Ok((held, relays))
    }
}
