//! Update: new limits for a container.

use super::no_container;
use crate::{
    daemon::{Daemon, Reply},
    proto::{task, ttrpc::Refusal},
    runc::Call,
};

impl Daemon {
    pub(crate) fn update(&mut self, reply: Reply, request: task::Update) {
        self.in_turn(move |daemon| match daemon.update_call(&request) {
            Ok(call) => daemon.run(call, move |daemon, result| {
                let told = result.map_err(|failure| Refusal::unknown(failure.told("OCI runtime update failed")));
                daemon.answer(reply, told.map(|_| Vec::new()));
                daemon.turn_over();
            }),
            Err(refusal) => {
                daemon.refuse(reply, refusal);
                daemon.turn_over();
            }
        });
    }

    fn update_call(&self, request: &task::Update) -> Result<Call, Refusal> {
        let container = self.container.as_ref().ok_or_else(no_container)?;
        container.state.may_update().map_err(Refusal::unknown)?;
        // OCI's `LinuxResources`, as the runtime takes it.
        let resources = request.resources.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
        let call = container.runtime.call(["update", "--resources", "-", self.facts.id.as_str()]);
        let call = call.keeping_output().and_then(|call| call.with_input(resources));
        call.map_err(|error| Refusal::unknown(error.to_string()))
    }
}
