//! What is asked of a process without changing it, and its streams: State, Wait, Pids, ResizePty, CloseIO.

use prost::Message;
use prost_types::Any;

use super::{State, no_container};
use crate::{
    daemon::{Daemon, Reply},
    proto::{
        task::{self, OfProcess, Pids, ProcessInfo, Waited},
        ttrpc::Refusal,
    },
};

/// `containerd.runc.v1.ProcessDetails`.
#[derive(Clone, PartialEq, Message)]
struct Details {
    #[prost(string, tag = "1")]
    exec_id: String,
}

impl Daemon {
    pub(crate) fn state(&mut self, reply: Reply, request: OfProcess) {
        let state = self.container.as_ref().ok_or_else(no_container).and_then(|container| {
            let process = container.process(&request.exec_id)?;
            let id = if request.exec_id.is_empty() { &self.facts.id } else { &request.exec_id };
            Ok(task::State {
                id: id.clone(),
                bundle: self.facts.bundle.to_string_lossy().into_owned(),
                pid: process.pid.unsigned_abs(),
                status: container.status(&request.exec_id) as i32,
                stdin: process.paths.stdin.clone(),
                stdout: process.paths.stdout.clone(),
                stderr: process.paths.stderr.clone(),
                terminal: process.paths.terminal,
                exit_status: process.exit.map_or(0, |(status, _)| status),
                exited_at: process.exit.map(|(_, at)| at),
                exec_id: request.exec_id.clone(),
            })
        });
        self.answer(reply, state.map(|state| state.encode_to_vec()));
    }

    /// Answered at the exit.
    pub(crate) fn wait(&mut self, reply: Reply, request: OfProcess) {
        let process = self.container.as_mut().ok_or_else(no_container);
        match process.and_then(|container| container.process_mut(&request.exec_id)) {
            Ok(process) => match process.exit {
                Some((exit_status, at)) => {
                    self.answer(reply, Ok(Waited { exit_status, exited_at: Some(at) }.encode_to_vec()));
                }
                None => process.waiters.push(reply),
            },
            Err(refusal) => self.refuse(reply, refusal),
        }
    }

    /// Those of a connection that has gone.
    pub(crate) fn forget_waiters(&mut self, connection: u32) {
        let Some(container) = &mut self.container else { return };
        let execs = container.execs.values_mut().map(|exec| &mut exec.process);
        for process in execs.chain([&mut container.init]) {
            process.waiters.retain(|waiter| waiter.connection != connection);
        }
    }

    pub(crate) fn pids(&mut self, reply: Reply) {
        // A containerd that starts (since 1.7) takes a shim without processes for a leftover, and its exit would be lost.
        if let Some(container) = self.container.as_ref().filter(|container| container.state == State::Stopped) {
            let pids = self.processes(vec![container.init.pid.unsigned_abs()]);
            return self.answer(reply, Ok(pids.encode_to_vec()));
        }
        let call = self.container.as_ref().ok_or_else(no_container).and_then(|container| {
            let words = ["ps", "--format", "json", self.facts.id.as_str()];
            container.runtime.call(words).keeping_output().map_err(|error| Refusal::unknown(error.to_string()))
        });
        match call {
            Ok(call) => self.run(call, move |daemon, result| {
                let pids = result.map_err(|failure| failure.told("OCI runtime ps failed")).and_then(|text| {
                    serde_json::from_str::<Option<Vec<u32>>>(text.trim()).map_err(|error| error.to_string())
                });
                let init = daemon.container.as_ref().map(|container| &container.init);
                let init = init.map(|init| (init.pid.unsigned_abs(), init.reaped));
                let processes =
                    pids_or_init(pids.map(Option::unwrap_or_default), init).map(|pids| daemon.processes(pids));
                daemon.answer(reply, processes.map(|pids| pids.encode_to_vec()).map_err(Refusal::unknown));
            }),
            Err(refusal) => self.refuse(reply, refusal),
        }
    }

    /// With the execs named.
    fn processes(&self, pids: Vec<u32>) -> Pids {
        let execs = self.container.as_ref().map(|container| &container.execs);
        let info = |pid: u32| {
            let mut execs = execs.into_iter().flatten();
            let (id, _) = execs.find(|(_, exec)| exec.process.pid.unsigned_abs() == pid && !exec.process.reaped)?;
            let value = Details { exec_id: id.clone() }.encode_to_vec();
            Some(Any { type_url: "containerd.runc.v1.ProcessDetails".to_owned(), value })
        };
        Pids { processes: pids.into_iter().map(|pid| ProcessInfo { pid, info: info(pid) }).collect() }
    }

    pub(crate) fn resize(&mut self, reply: Reply, request: task::Resize) {
        let carriers = self.container.as_ref().ok_or_else(no_container).and_then(|container| {
            let process = container.process(&request.exec_id)?;
            Ok(process.carriers.as_slice())
        });
        let resized = carriers.and_then(|carriers| {
            let resized = self.resize_console(carriers, request.width, request.height);
            resized.map_err(|error| Refusal::unknown(error.to_string()))
        });
        self.answer(reply, resized.map(|()| Vec::new()));
    }

    /// The process sees the end of its input when clients have closed theirs too. A terminal has no such end.
    pub(crate) fn close_io(&mut self, reply: Reply, request: task::CloseIo) {
        let process = self.container.as_mut().ok_or_else(no_container);
        let closed = process.and_then(|container| container.process_mut(&request.exec_id)).map(|process| {
            if request.stdin {
                process.held.stdin_writer = None;
            }
        });
        self.answer(reply, closed.map(|()| Vec::new()));
    }
}

/// What the runtime found, or the first process where it was just ending: it leaves its cgroup before its end is told.
fn pids_or_init(found: Result<Vec<u32>, String>, init: Option<(u32, bool)>) -> Result<Vec<u32>, String> {
    match (found, init) {
        (Ok(pids), Some((init, _))) if pids.is_empty() => Ok(vec![init]),
        (Err(_), Some((init, true))) => Ok(vec![init]),
        (found, _) => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_its_first_process_until_it_is_deleted() {
        let failed = || Err("ps failed".to_owned());
        assert_eq!(pids_or_init(Ok(vec![7, 8]), Some((7, false))), Ok(vec![7, 8]));
        assert_eq!(pids_or_init(Ok(vec![]), Some((7, false))), Ok(vec![7]), "it is about to be reaped");
        assert_eq!(pids_or_init(failed(), Some((7, true))), Ok(vec![7]), "it was reaped meanwhile");
        assert_eq!(pids_or_init(failed(), Some((7, false))), failed());
        assert_eq!(pids_or_init(Ok(vec![]), None), Ok(vec![]));
    }
}
