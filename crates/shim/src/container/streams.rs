//! The streams of a process that is being started: FIFOs that it is given, or the socket that its terminal comes by.

use std::io;

use super::Console;
use crate::{
    host::{
        fifo::{self, Given, Held, Paths},
        pty::ConsoleSocket,
    },
    runc::Call,
};

pub(super) struct Streams {
    paths: Paths,
    given: Given,
    held: Held,
    socket: Option<ConsoleSocket>,
}

impl Streams {
    /// `socket` is the name of the terminal's, in the bundle.
    pub(super) fn open(paths: Paths, socket: &str, owner: (u32, u32)) -> io::Result<Self> {
        if paths.terminal {
            let socket = Some(ConsoleSocket::new(socket.to_owned())?);
            return Ok(Self { paths, given: Given::default(), held: Held::default(), socket });
        }
        let (given, held) = fifo::open(&paths, owner)?;
        Ok(Self { paths, given, held, socket: None })
    }

    pub(super) fn console_name(&self) -> Option<String> {
        self.socket.as_ref().map(|socket| socket.name().to_owned())
    }

    /// Gives the process its ends. With a terminal the runtime's own output is kept, for nobody else would see it.
    pub(super) fn give(&mut self, call: Call) -> io::Result<Call> {
        if self.socket.is_some() {
            return call.keeping_output();
        }
        let Given { stdin, stdout, stderr } = std::mem::take(&mut self.given);
        Ok(call.with_streams([stdin, stdout, stderr]))
    }

    /// The process is there: what is left is ours.
    pub(super) fn settle(self) -> Result<(Paths, Held, Option<Console>), String> {
        let Self { paths, mut held, .. } = self;
        let Some(socket) = self.socket else { return Ok((paths, held, None)) };
        let master = socket.receive().map_err(|error| format!("failed to retrieve console master: {error}"))?;
        let open = |path: &str| fifo::open_both(path).map_err(|error| format!("failed to start console copy: {error}"));
        // The terminal may be over before the client comes.
        held.stdin_reader = open(&paths.stdin)?;
        let console = Console::new(master, open(&paths.stdin)?, open(&paths.stdout)?);
        Ok((paths, held, Some(console)))
    }
}
