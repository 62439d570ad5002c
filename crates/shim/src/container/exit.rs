//! The end of a process: told once, after its start, to whoever waits and to containerd.

use prost::Message as _;

use super::State;
use crate::{
    daemon::{Daemon, Exit},
    host::log,
    proto::{events::TaskExit, task::Waited},
};

/// Whose end it is.
enum Whose {
    Init,
    /// The container's, whose start is not told yet.
    Starting,
    Exec(String),
    /// Not known yet, or nobody's who is asked for: a child that the container left behind.
    Unknown,
}

impl Daemon {
    pub(crate) fn process_ended(&mut self, exit: Exit) {
        match self.whose(exit.pid) {
            Whose::Init => self.init_ended(exit),
            Whose::Exec(exec) => self.tell_exit(&exec, exit),
            Whose::Starting => {
                self.children.hold(exit);
                self.hear_gate();
            }
            Whose::Unknown if self.children.starting > 0 => self.children.hold(exit),
            Whose::Unknown => {}
        }
    }

    fn whose(&self, pid: i32) -> Whose {
        let Some(container) = &self.container else { return Whose::Unknown };
        if container.init.pid == pid && !container.init.reaped {
            return if container.state == State::Starting { Whose::Starting } else { Whose::Init };
        }
        let mut execs = container.execs.iter();
        let exec = execs.find(|(_, exec)| exec.process.pid == pid && !exec.process.reaped);
        exec.map_or(Whose::Unknown, |(id, _)| Whose::Exec(id.clone()))
    }

    fn init_ended(&mut self, exit: Exit) {
        // A kill for want of memory is told before the end that it caused.
        self.hear_of_memory();
        let Some(container) = &mut self.container else { return };
        container.init.reaped = true;
        if container.own_pids {
            return self.init_is_over(exit);
        }
        let call = container.runtime.call(["kill", "--all", &self.facts.id, "9"]);
        self.in_turn(move |daemon| {
            daemon.run(call, move |daemon, result| {
                if let Err(failure) = result {
                    log::error("processes may be left", failure.told("OCI runtime killall failed"));
                }
                daemon.init_is_over(exit);
                daemon.turn_over();
            });
        });
    }

    fn init_is_over(&mut self, exit: Exit) {
        let Some(container) = &mut self.container else { return };
        let frozen = container.state.is_frozen();
        container.state = State::Stopped;
        if frozen {
            // A frozen cgroup cannot be removed.
            let call = container.runtime.call(["resume", &self.facts.id]);
            self.in_turn(move |daemon| daemon.run(call, |daemon, _| daemon.turn_over()));
        }
        self.tell_exit("", exit);
    }

    fn tell_exit(&mut self, exec: &str, exit: Exit) {
        let Some(Ok(process)) = self.container.as_mut().map(|container| container.process_mut(exec)) else { return };
        process.reaped = true;
        process.exit = Some((exit.status, exit.at));
        process.held.outputs.clear();
        let (carriers, waiters) = (process.carriers.clone(), std::mem::take(&mut process.waiters));
        for carrier in carriers {
            self.end_carrier(carrier);
        }
        let waited = Waited { exit_status: exit.status, exited_at: Some(exit.at) }.encode_to_vec();
        for waiter in waiters {
            self.answer(waiter, Ok(waited.clone()));
        }
        let container_id = self.facts.id.clone();
        let id = if exec.is_empty() { container_id.clone() } else { exec.to_owned() };
        let pid = exit.pid.unsigned_abs();
        self.publish(&TaskExit { container_id, id, pid, exit_status: exit.status, exited_at: Some(exit.at) });
    }
}
