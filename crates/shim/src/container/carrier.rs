//! What carries bytes of a process through the shim: a terminal, or an output of the first process.

use std::{io, time::Duration};

use super::{Console, relay::Relay};
use crate::{
    daemon::Daemon,
    host::{log, poll::Poll},
};

/// How often a terminal that nobody has open is looked at: the kernel does not tell when somebody opens it again.
const REOPENED: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) enum Carrier {
    Console(Console),
    Relay(Relay),
}

impl Carrier {
    fn carry(&mut self) {
        match self {
            Self::Console(console) => console.carry(),
            Self::Relay(relay) => relay.carry(),
        }
    }

    fn end(&mut self) {
        match self {
            Self::Console(console) => console.end(),
            Self::Relay(relay) => relay.end(),
        }
    }

    fn is_finished(&self) -> bool {
        match self {
            Self::Console(console) => console.is_finished(),
            Self::Relay(relay) => relay.drained,
        }
    }

    fn listen(&mut self, number: u32, poll: &Poll) -> io::Result<()> {
        match self {
            Self::Console(console) => console.listen(number, poll),
            Self::Relay(relay) => relay.listen(number, poll),
        }
    }
}

impl Daemon {
    pub(super) fn add_carriers(&mut self, carriers: Vec<Carrier>) -> Vec<u32> {
        let added = carriers.into_iter().map(|carrier| {
            self.last_carrier += 1;
            self.carriers.insert(self.last_carrier, carrier);
            self.carry(self.last_carrier);
            self.last_carrier
        });
        added.collect()
    }

    /// Carries what can be carried now. One that has nothing more to carry closes its FIFO.
    pub(crate) fn carry(&mut self, number: u32) {
        let Some(carrier) = self.carriers.get_mut(&number) else { return };
        carrier.carry();
        if carrier.is_finished() {
            self.carriers.remove(&number);
            return;
        }
        if let Err(error) = carrier.listen(number, &self.poll) {
            log::error("a stream cannot be listened to", error);
        }
        if let Carrier::Console(console) = carrier
            && console.wants_another_look()
        {
            self.after(REOPENED, move |daemon| {
                if let Some(Carrier::Console(console)) = daemon.carriers.get_mut(&number) {
                    console.look_again();
                    daemon.carry(number);
                }
            });
        }
    }

    /// The process has ended.
    pub(super) fn end_carrier(&mut self, number: u32) {
        if let Some(carrier) = self.carriers.get_mut(&number) {
            carrier.end();
            self.carry(number);
        }
    }

    /// Of the terminal among these, if there is one.
    pub(super) fn resize_console(&self, carriers: &[u32], width: u32, height: u32) -> io::Result<()> {
        let console = carriers.iter().find_map(|number| match self.carriers.get(number) {
            Some(Carrier::Console(console)) => Some(console),
            _ => None,
        });
        console.map_or(Ok(()), |console| console.resize(width, height))
    }
}
