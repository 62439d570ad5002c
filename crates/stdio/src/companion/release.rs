//! The end of a companion: the folder, the log and gantryd are let go at once, a client when it has everything.

use std::time::{Duration, Instant};

use gantry_logs::time;
use gantry_wire::stdio::{Message, Role};
use rustix::event::{Timespec, epoll};

use super::{Companion, IN_A_ROW};
use crate::output::Read;

/// How long a companion waits for a gantryd after its work is done.
const LINGER: Duration = Duration::from_secs(30);
/// A client that takes nothing for so long is given up: a pager may be left open over lunch, not for ever.
const PATIENCE: Duration = Duration::from_secs(2 * 60 * 60);

impl Companion {
    /// Lets go of all that the next run or a removal needs. What is in the pipes goes to the log and the clients first.
    pub(super) fn release(&mut self) {
        self.released = true;
        let cut = [1, 2].into_iter().filter(|stream| self.read_rest(*stream)).count() > 0;
        if cut && let Some(log) = &mut self.log {
            log.note("gantry: what was written after this point is not kept: the run is over\n", time::now());
        }
        while !self.outputs.is_empty() {
            self.close_output(0);
        }
        self.close_log();
        if let Some(listener) = self.listener.take() {
            // Ours alone: closing it is enough, should this fail.
            let _ = epoll::delete(&self.epoll, &listener);
        }
        for client in self.clients.iter_mut().filter(|client| client.role == Some(Role::Control)) {
            client.tell(&Message::Released);
        }
    }

    /// Reads what a full pipe holds, whatever the clients do. Whether more may come: from a process that outlived the task.
    fn read_rest(&mut self, stream: u8) -> bool {
        for _ in 0..IN_A_ROW {
            let Some(at) = self.outputs.iter().position(|output| output.stream == stream) else { return false };
            match self.outputs[at].read(&mut self.buffer) {
                Ok(Read::Bytes(len)) => self.deliver(stream, len),
                Ok(Read::Nothing) => return self.task_exited,
                Ok(Read::NoWriter) | Err(_) => return false,
            }
        }
        true
    }

    /// Closes the connections of those who have everything, gantryd's with them.
    pub(super) fn dismiss(&mut self) {
        self.clients.retain(|client| !client.is_served() && client.idle() < PATIENCE);
    }

    /// How long to wait: without end while there is work, `None` when it is time to go.
    pub(super) fn time_left(&mut self) -> Option<Option<Timespec>> {
        if self.released {
            let patience = |idle| PATIENCE.saturating_sub(idle);
            return self.clients.iter().map(|client| patience(client.idle())).min().map(|left| Some(timeout(left)));
        }
        if !self.ended || self.clients.iter().any(|client| client.role == Some(Role::Control)) {
            self.alone_since = None;
            return Some(None);
        }
        let left = LINGER.checked_sub(self.alone_since.get_or_insert_with(Instant::now).elapsed())?;
        Some(Some(timeout(left)))
    }

    pub(super) fn close_log(&mut self) {
        if let Some(mut log) = self.log.take() {
            log.finish(time::now());
            log.settle();
        }
    }
}

fn timeout(left: Duration) -> Timespec {
    Timespec { tv_sec: left.as_secs() as i64 + 1, tv_nsec: 0 }
}
