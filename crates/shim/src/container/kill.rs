//! Kill: a signal to one process, or to all.

use super::{State, no_container, no_process};
use crate::{
    daemon::{Daemon, Reply},
    host::process,
    proto::{task, ttrpc::Refusal},
    runc::{Call, Failure},
};

impl Daemon {
    pub(crate) fn kill(&mut self, reply: Reply, request: task::Kill) {
        let sent = if request.exec_id.is_empty() { self.kill_init(&request) } else { self.kill_exec(&request) };
        match sent {
            Ok(None) => self.answer(reply, Ok(Vec::new())),
            Ok(Some(call)) => self.in_turn(move |daemon| {
                daemon.run(call, move |daemon, result| {
                    daemon.answer(reply, result.map(|_| Vec::new()).map_err(|failure| not_killed(&failure)));
                    daemon.turn_over();
                });
            }),
            Err(refusal) => self.refuse(reply, refusal),
        }
    }

    fn kill_exec(&self, request: &task::Kill) -> Result<Option<Call>, Refusal> {
        let container = self.container.as_ref().ok_or_else(no_container)?;
        let exec = container.execs.get(&request.exec_id).ok_or_else(|| no_process(&request.exec_id))?;
        match (exec.process.pid, exec.process.reaped) {
            (_, true) => Err(finished()),
            (0, _) => Err(Refusal::failed_precondition("process not created")),
            (pid, _) => signal(pid, request.signal).map(|()| None),
        }
    }

    /// The runtime is asked where it does more than to send a signal; starting it takes a hundred times as long.
    fn kill_init(&self, request: &task::Kill) -> Result<Option<Call>, Refusal> {
        let container = self.container.as_ref().ok_or_else(no_container)?;
        if container.init.reaped && !request.all {
            return Err(finished());
        }
        let plain = matches!(container.state, State::Created | State::Starting | State::Running) && !request.all;
        if plain && container.runtime.signals_directly() {
            return signal(container.init.pid, request.signal).map(|()| None);
        }
        let number = request.signal.to_string();
        let all = request.all.then_some("--all");
        let words = ["kill"].into_iter().chain(all).chain([self.facts.id.as_str(), number.as_str()]);
        let call = container.runtime.call(words).keeping_output();
        call.map(Some).map_err(|error| Refusal::unknown(error.to_string()))
    }
}

fn signal(pid: i32, signal: u32) -> Result<(), Refusal> {
    match process::signal(pid, signal) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(finished()),
        Err(error) => Err(Refusal::unknown(format!("unknown error after kill: {error}"))),
    }
}

fn finished() -> Refusal {
    Refusal::not_found("process already finished")
}

fn not_killed(failure: &Failure) -> Refusal {
    let text = failure.text();
    let says = |words: &str| text.contains(words);
    if says("process already finished")
        || says("container not running")
        || text.to_lowercase().contains("no such process")
    {
        return finished();
    }
    if says("does not exist") {
        return Refusal::not_found("no such container");
    }
    Refusal::unknown(failure.told("unknown error after kill"))
}
