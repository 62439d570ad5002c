//! Pause and Resume.

use super::{State, no_container};
use crate::{
    daemon::{Daemon, Reply},
    proto::{
        events::{TaskPaused, TaskResumed},
        ttrpc::Refusal,
    },
};

impl Daemon {
    pub(crate) fn pause(&mut self, reply: Reply) {
        self.in_turn(move |daemon| daemon.freeze(reply, "pause", State::may_pause, State::Pausing));
    }

    pub(crate) fn resume(&mut self, reply: Reply) {
        self.in_turn(move |daemon| daemon.freeze(reply, "resume", State::may_resume, State::Paused));
    }

    /// `meanwhile` is the state until the runtime has done it.
    fn freeze(
        &mut self,
        reply: Reply,
        verb: &'static str,
        rule: fn(State) -> Result<(), &'static str>,
        meanwhile: State,
    ) {
        let call = match &mut self.container {
            None => Err(no_container()),
            Some(container) => rule(container.state).map_err(Refusal::unknown).and_then(|()| {
                let call = container.runtime.call([verb, self.facts.id.as_str()]).keeping_output();
                let call = call.map(|call| (call, std::mem::replace(&mut container.state, meanwhile)));
                call.map_err(|error| Refusal::unknown(error.to_string()))
            }),
        };
        match call {
            Ok((call, before)) => self.run(call, move |daemon, result| {
                let told = result.map_err(|failure| failure.told(&format!("OCI runtime {verb} failed")));
                daemon.frozen(reply, verb, before, told.map(drop));
                daemon.turn_over();
            }),
            Err(refusal) => {
                self.refuse(reply, refusal);
                self.turn_over();
            }
        }
    }

    fn frozen(&mut self, reply: Reply, verb: &str, before: State, result: Result<(), String>) {
        let paused = verb == "pause";
        if let Some(container) = &mut self.container
            && container.state != State::Stopped
        {
            container.state = match (&result, paused) {
                (Ok(()), true) => State::Paused,
                (Ok(()), false) => State::Running,
                (Err(_), _) => before,
            };
        }
        let container_id = self.facts.id.clone();
        match result {
            Ok(()) if paused => self.publish(&TaskPaused { container_id }),
            Ok(()) => self.publish(&TaskResumed { container_id }),
            Err(text) => return self.refuse(reply, Refusal::unknown(text)),
        }
        self.answer(reply, Ok(Vec::new()));
    }
}
