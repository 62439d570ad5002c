//! The task service: which verb a request is.

use prost::Message;

use super::{Daemon, Reply};
use crate::proto::{
    task::{self, Connected},
    ttrpc::{Refusal, Request},
};

/// Both versions have the same messages.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

impl Daemon {
    pub(super) fn serve_request(&mut self, reply: Reply, request: &Request) {
        if !SERVICES.contains(&request.service.as_str()) {
            return self.refuse(reply, Refusal::unimplemented(&format!("service {}", request.service)));
        }
        let body = &request.payload[..];
        match request.method.as_str() {
            "Create" => self.decode(reply, body, Self::create),
            "Start" => self.decode(reply, body, Self::start),
            "Delete" => self.decode(reply, body, Self::delete),
            "Exec" => self.decode(reply, body, Self::add_exec),
            "State" => self.decode(reply, body, Self::state),
            "Wait" => self.decode(reply, body, Self::wait),
            "Kill" => self.decode(reply, body, Self::kill),
            "Pids" => self.pids(reply),
            "Pause" => self.pause(reply),
            "Resume" => self.resume(reply),
            "Update" => self.decode(reply, body, Self::update),
            "ResizePty" => self.decode(reply, body, Self::resize),
            "CloseIO" => self.decode(reply, body, Self::close_io),
            "Connect" => self.connect(reply),
            "Shutdown" => {
                self.shutdown();
                self.answer(reply, Ok(Vec::new()));
            }
            "Checkpoint" => self.refuse(reply, Refusal::unimplemented("checkpoints are not offered by this shim")),
            // gantryd reads the cgroups itself.
            "Stats" => self.refuse(reply, Refusal::unimplemented("figures are not offered by this shim")),
            other => self.refuse(reply, Refusal::unimplemented(&format!("method {other}"))),
        }
    }

    fn decode<M: Message + Default>(&mut self, reply: Reply, body: &[u8], verb: fn(&mut Self, Reply, M)) {
        match M::decode(body) {
            Ok(message) => verb(self, reply, message),
            Err(error) => self.refuse(reply, Refusal::invalid(error.to_string())),
        }
    }

    fn connect(&mut self, reply: Reply) {
        let task_pid = self.container.as_ref().map_or(0, |container| container.init.pid);
        let connected = Connected {
            shim_pid: std::process::id(),
            task_pid: task_pid.unsigned_abs(),
            version: task::VERSION.to_owned(),
        };
        self.answer(reply, Ok(connected.encode_to_vec()));
    }
}
