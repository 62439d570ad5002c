//! Start, of the container or of an exec.

use prost::Message as _;

use super::{State, no_container};
use crate::{
    daemon::{Daemon, Reply},
    proto::{
        events::TaskStart,
        task::{OfProcess, Started},
        ttrpc::Refusal,
    },
    runc::Failure,
};

impl Daemon {
    pub(crate) fn start(&mut self, reply: Reply, request: OfProcess) {
        if request.exec_id.is_empty() {
            self.in_turn(move |daemon| daemon.start_init(reply));
        } else {
            self.start_exec(reply, request.exec_id);
        }
    }

    fn start_init(&mut self, reply: Reply) {
        let rule = self.container.as_ref().ok_or_else(no_container);
        let rule = rule.and_then(|container| container.state.may_start().map_err(Refusal::unknown));
        match rule {
            Ok(()) if self.open_gate(reply) => {}
            Ok(()) => self.start_by_runtime(reply),
            Err(refusal) => {
                self.refuse(reply, refusal);
                self.turn_over();
            }
        }
    }

    fn start_by_runtime(&mut self, reply: Reply) {
        let call = match &mut self.container {
            None => Err(no_container()),
            Some(container) => {
                let call = container.runtime.call(["start", self.facts.id.as_str()]).keeping_output();
                if call.is_ok() {
                    container.state = State::Starting;
                }
                call.map_err(|error| Refusal::unknown(error.to_string()))
            }
        };
        match call {
            Ok(call) => {
                self.children.starting += 1;
                self.run(call, move |daemon, result| daemon.init_started(reply, result.map(drop)));
            }
            Err(refusal) => {
                self.refuse(reply, refusal);
                self.turn_over();
            }
        }
    }

    pub(super) fn init_started(&mut self, reply: Reply, result: Result<(), Failure>) {
        if let Some(container) = &mut self.container {
            container.state = if result.is_ok() { State::Running } else { State::Created };
            let pid = container.init.pid.unsigned_abs();
            match result {
                Ok(()) => {
                    self.publish(&TaskStart { container_id: self.facts.id.clone(), pid });
                    self.answer(reply, Ok(Started { pid }.encode_to_vec()));
                }
                Err(failure) => self.refuse(reply, Refusal::unknown(failure.told("OCI runtime start failed"))),
            }
        }
        self.start_is_over();
        self.turn_over();
    }
}
