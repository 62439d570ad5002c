//! Delete: of an exec that has ended, or of the container with its cgroup and its mount.

use std::{
    io,
    time::{Duration, Instant},
};

use prost::Message as _;

use super::{Container, Process, no_container, no_process};
use crate::{
    daemon::{Daemon, Reply},
    host::{mounts, process},
    proto::{
        events::TaskDelete,
        task::{Deleted, OfProcess, Status},
        ttrpc::Refusal,
    },
    runc::Failure,
};

/// How long a reader may take for what is left.
const DRAINING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

impl Daemon {
    pub(crate) fn delete(&mut self, reply: Reply, request: OfProcess) {
        if request.exec_id.is_empty() {
            self.in_turn(move |daemon| daemon.delete_init(reply));
        } else {
            self.delete_exec(reply, request.exec_id);
        }
    }

    fn delete_exec(&mut self, reply: Reply, exec: String) {
        let found = self.container.as_ref().ok_or_else(no_container);
        let carriers = found
            .and_then(|container| container.execs.get(&exec).ok_or_else(|| no_process(&exec)))
            .and_then(|exec| match exec.process.status() {
                Status::Running => Err(Refusal::unknown("cannot delete a running process")),
                _ if exec.starting => Err(Refusal::unknown("cannot delete a running process")),
                _ => Ok(exec.process.carriers.clone()),
            });
        match carriers {
            Ok(carriers) => self.when_drained(carriers, Instant::now() + DRAINING, move |daemon| {
                // Another call may have been faster.
                let removed = daemon.container.as_mut().and_then(|container| container.execs.remove(&exec));
                let removed = removed.ok_or_else(|| no_process(&exec));
                daemon.answer(reply, removed.map(|exec| deleted(&exec.process).encode_to_vec()));
            }),
            Err(refusal) => self.refuse(reply, refusal),
        }
    }

    fn delete_init(&mut self, reply: Reply) {
        let allowed = match &self.container {
            None => Err(no_container()),
            Some(container) => container.state.may_delete().map_err(Refusal::unknown),
        };
        match allowed {
            // Those of its execs too: after this nobody would carry what is left.
            Ok(()) => {
                let carriers = self.carriers.keys().copied().collect();
                self.when_drained(carriers, Instant::now() + DRAINING, move |daemon| daemon.delete_runtime(reply));
            }
            Err(refusal) => self.end_delete(reply, Err(refusal)),
        }
    }

    /// Goes on when all output is carried, or nobody takes it in time.
    fn when_drained(&mut self, mut carriers: Vec<u32>, until: Instant, then: impl FnOnce(&mut Self) + 'static) {
        carriers.retain(|carrier| self.carriers.contains_key(carrier));
        if !carriers.is_empty() && Instant::now() < until {
            return self.after(PAUSE, move |daemon| daemon.when_drained(carriers, until, then));
        }
        for carrier in carriers {
            self.carriers.remove(&carrier);
        }
        then(self);
    }

    fn delete_runtime(&mut self, reply: Reply) {
        let call = match &self.container {
            None => Err(no_container()),
            Some(container) => {
                let call = container.runtime.call(["delete", self.facts.id.as_str()]).keeping_output();
                call.map_err(|error| Refusal::unknown(error.to_string()))
            }
        };
        match call {
            Ok(call) => self.run(call, move |daemon, result| daemon.runtime_deleted(reply, result)),
            Err(refusal) => self.end_delete(reply, Err(refusal)),
        }
    }

    fn runtime_deleted(&mut self, reply: Reply, result: Result<String, Failure>) {
        let result = match result {
            Err(failure) if !failure.text().contains("does not exist") => {
                Err(Refusal::unknown(failure.told("failed to delete task")))
            }
            _ => Ok(()),
        };
        self.memory = None;
        let mounted = self.container.as_mut().is_some_and(|container| {
            container.init.held = Default::default();
            container.mounted
        });
        if !mounted {
            return self.end_delete(reply, result);
        }
        // It may take long, or for ever: the shim goes on answering.
        let root = self.facts.bundle.join("rootfs");
        match process::aside(move || mounts::unmount_all(&root)) {
            Ok(pid) => self.watch(pid, move |daemon, status| daemon.end_delete(reply, result.and(unmounted(status)))),
            Err(error) => self.end_delete(reply, Err(Refusal::unknown(format!("failed rootfs umount: {error}")))),
        }
    }

    fn end_delete(&mut self, reply: Reply, result: Result<(), Refusal>) {
        let container = if result.is_ok() { self.container.take() } else { None };
        match result {
            Ok(()) => {
                let deleted = container.as_ref().map(|container| deleted(&container.init)).unwrap_or_default();
                self.publish(&TaskDelete {
                    container_id: self.facts.id.clone(),
                    pid: deleted.pid,
                    exit_status: deleted.exit_status,
                    exited_at: deleted.exited_at,
                });
                self.answer(reply, Ok(deleted.encode_to_vec()));
            }
            Err(refusal) => self.refuse(reply, refusal),
        }
        self.dismiss_waiters(container);
        self.turn_over();
    }

    /// Nobody learns any more how these have ended.
    fn dismiss_waiters(&mut self, container: Option<Container>) {
        let Some(mut container) = container else { return };
        let mut waiters = std::mem::take(&mut container.init.waiters);
        waiters.extend(container.execs.values_mut().flat_map(|exec| std::mem::take(&mut exec.process.waiters)));
        for waiter in waiters {
            self.refuse(waiter, no_container());
        }
    }
}

fn deleted(process: &Process) -> Deleted {
    let exit = process.exit;
    Deleted {
        pid: process.pid.unsigned_abs(),
        exit_status: exit.map_or(0, |(status, _)| status),
        exited_at: exit.map(|(_, at)| at),
    }
}

/// The child's exit code is an error number.
fn unmounted(status: u32) -> Result<(), Refusal> {
    let number = i32::try_from(status).unwrap_or(libc::EIO);
    match number {
        0 => Ok(()),
        number => Err(Refusal::unknown(format!("failed rootfs umount: {}", io::Error::from_raw_os_error(number)))),
    }
}
