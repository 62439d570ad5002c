//! Execs: added by Exec, started by Start.

use std::{fs, io};

use prost::Message as _;
use serde_json::Value;

use super::{
    Exec, Process, no_container, no_process,
    streams::{Outputs, Streams},
};
use crate::{
    daemon::{Daemon, Reply},
    host::fifo::Paths,
    proto::{
        events::{TaskExecAdded, TaskExecStarted},
        task::{self, Started, Waited},
        ttrpc::Refusal,
    },
    runc::{Call, Failure, pid_file},
};

/// What the exit of a process is told as that never ran.
const NEVER_RAN: u32 = 255;

/// An exec's files in the bundle.
struct Files {
    process: String,
    pid: String,
    console: String,
}

impl Files {
    fn of(exec: &str) -> Self {
        let name = |end: &str| format!("{exec}.{end}");
        Self { process: name("process.json"), pid: name("pid"), console: name("console") }
    }

    fn remove(&self) {
        for file in [&self.process, &self.pid] {
            let _ = fs::remove_file(file);
        }
    }
}

impl Daemon {
    pub(crate) fn add_exec(&mut self, reply: Reply, request: task::Exec) {
        match self.prepare_exec(request) {
            Ok(exec_id) => {
                self.publish(&TaskExecAdded { container_id: self.facts.id.clone(), exec_id });
                self.answer(reply, Ok(Vec::new()));
            }
            Err(refusal) => self.refuse(reply, refusal),
        }
    }

    fn prepare_exec(&mut self, request: task::Exec) -> Result<String, Refusal> {
        let container = self.container.as_mut().ok_or_else(no_container)?;
        let exec = request.exec_id;
        if container.execs.contains_key(&exec) {
            return Err(Refusal::already_exists(&format!("id {exec}")));
        }
        if exec.is_empty() || exec.contains('/') {
            return Err(Refusal::invalid(format!("exec id {exec:?}")));
        }
        container.state.may_exec().map_err(Refusal::unknown)?;
        let spec = request.spec.map(|any| any.value).unwrap_or_default();
        let spec = with_terminal(&spec, request.terminal).map_err(|error| Refusal::unknown(error.to_string()))?;
        let paths =
            Paths { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, terminal: request.terminal };
        let process = Process { paths, ..Process::default() };
        container.execs.insert(exec.clone(), Exec { process, spec, starting: false });
        Ok(exec)
    }

    pub(super) fn start_exec(&mut self, reply: Reply, exec: String) {
        match self.begin_exec(&exec) {
            Ok((call, streams)) => {
                self.children.starting += 1;
                self.run(call, move |daemon, result| daemon.exec_ran(reply, exec, streams, result.map(drop)));
            }
            Err(refusal) => self.refuse(reply, refusal),
        }
    }

    fn begin_exec(&mut self, id: &str) -> Result<(Call, Streams), Refusal> {
        let container = self.container.as_mut().ok_or_else(no_container)?;
        let exec = container.execs.get_mut(id).ok_or_else(|| no_process(id))?;
        if exec.process.exit.is_some() {
            return Err(Refusal::unknown("cannot start a stopped process"));
        }
        if exec.starting || exec.process.pid != 0 {
            return Err(Refusal::unknown("cannot start a running process"));
        }
        let files = Files::of(id);
        let mut begin = || {
            fs::write(&files.process, &exec.spec)?;
            let mut streams = Streams::open(exec.process.paths.clone(), &files.console, Outputs::Direct)?;
            let mut words = vec!["exec", "--process", &files.process, "--pid-file", &files.pid, "--detach"];
            let console = streams.console_name();
            words.extend(console.iter().flat_map(|name| ["--console-socket", name.as_str()]));
            words.push(&self.facts.id);
            let call = streams.give(container.runtime.call(words))?;
            exec.starting = true;
            Ok((call, streams))
        };
        begin().map_err(|error: io::Error| {
            files.remove();
            Refusal::unknown(format!("failed to create init process I/O: {error}"))
        })
    }

    fn exec_ran(&mut self, reply: Reply, exec: String, streams: Streams, result: Result<(), Failure>) {
        let files = Files::of(&exec);
        let started = result.map_err(|failure| failure.told("OCI runtime exec failed")).and_then(|()| {
            let pid = pid_file(files.pid.as_ref())
                .map_err(|error| format!("failed to retrieve OCI runtime exec pid: {error}"))?;
            streams.settle().map(|(held, carriers)| (pid, held, carriers)).inspect_err(|_| self.children.kill(pid))
        });
        files.remove();
        match started {
            Ok((pid, held, carriers)) => {
                let carriers = self.add_carriers(carriers);
                if let Some(process) = self.exec_process(&exec) {
                    (process.pid, process.held, process.carriers) = (pid, held, carriers);
                }
                let pid = pid.unsigned_abs();
                self.publish(&TaskExecStarted { container_id: self.facts.id.clone(), exec_id: exec, pid });
                self.answer(reply, Ok(Started { pid }.encode_to_vec()));
            }
            Err(text) => {
                self.exec_never_ran(&exec);
                self.refuse(reply, Refusal::unknown(text));
            }
        }
        self.start_is_over();
    }

    fn exec_process(&mut self, exec: &str) -> Option<&mut Process> {
        let exec = self.container.as_mut()?.execs.get_mut(exec)?;
        exec.starting = false;
        exec.spec = Vec::new();
        Some(&mut exec.process)
    }

    fn exec_never_ran(&mut self, exec: &str) {
        let waiters = self.exec_process(exec).map(|process| {
            process.reaped = true;
            process.exit = Some((NEVER_RAN, super::now()));
            std::mem::take(&mut process.waiters)
        });
        for waiter in waiters.unwrap_or_default() {
            self.answer(waiter, Ok(Waited { exit_status: NEVER_RAN, exited_at: None }.encode_to_vec()));
        }
    }
}

/// OCI's `Process` as the runtime is to have it: the terminal is as the request says.
fn with_terminal(spec: &[u8], terminal: bool) -> serde_json::Result<Vec<u8>> {
    let mut spec: serde_json::Map<String, Value> = serde_json::from_slice(spec)?;
    spec.insert("terminal".to_owned(), Value::Bool(terminal));
    serde_json::to_vec(&spec)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_terminal_of_an_exec_is_as_its_request_says() {
        let spec = with_terminal(br#"{"args":["sh"],"rlimits":[{"hard":18446744073709551615}]}"#, true).unwrap();
        let text = String::from_utf8(spec).unwrap();
        assert!(text.contains(r#""terminal":true"#) && text.contains("18446744073709551615"), "{text}");
    }
}
