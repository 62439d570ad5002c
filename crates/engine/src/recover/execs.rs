//! Execs of an earlier gantryd: those that run on are taken over, the others are over.

use std::sync::Arc;

use futures::StreamExt as _;
use gantry_domain::{ContainerId, container::ContainerRecord};

use crate::{
    Engine,
    container::UNSEEN,
    exec::table::{Exec, Phase},
};

impl Engine {
    /// Execs that run on, by their notes; the others are over.
    pub(super) async fn adopt_execs(&self) {
        for note in self.parts.ports.execs.list().await.unwrap_or_default() {
            let same_boot = note.boot_id == self.parts.boot_id;
            if note.probe && same_boot {
                self.end_probe(note).await;
                continue;
            }
            let pid = if same_boot { self.exec_pid(&note.container, &note.id).await } else { None };
            let record = self.parts.container(note.container.as_str()).map(|handle| handle.snapshot().record);
            // A check of another boot has ended, and nobody asks for it.
            let Some(record) = record.ok().filter(|_| !note.probe) else {
                let _ = self.parts.ports.execs.remove(&note.id).await;
                continue;
            };
            let Some(pid) = pid else {
                self.exec_ended_unseen(&note, &record).await;
                continue;
            };
            let exec = Arc::new(Exec::new(note.id, note.container, note.config, Phase::Running { pid }));
            self.drain_adopted(&exec).await;
            self.parts.execs.insert(exec.clone());
            crate::exec::supervise(&self.parts, &exec, record);
        }
    }

    /// Beside the start, which a check that hangs must not hold up.
    async fn end_probe(&self, note: gantry_domain::container::record::ExecRecord) {
        let parts = self.parts.clone();
        // Ends within its limits.
        tokio::spawn(async move {
            if let Err(error) = crate::exec::end_found(&parts, &note).await {
                tracing::warn!(exec = %note.id, %error, "a health check of before is left");
            }
        });
    }

    /// An exec that ended while gantryd was dead: containerd may still know how.
    async fn exec_ended_unseen(
        &self,
        note: &gantry_domain::container::record::ExecRecord,
        record: &Arc<ContainerRecord>,
    ) {
        let exit = self.parts.ports.runtime.delete_task(&note.container, Some(&note.id)).await.ok().flatten();
        let code = exit.map_or(UNSEEN, |exit| exit.code);
        let phase = Phase::Ended { code };
        let exec = Exec::new(note.id.clone(), note.container.clone(), note.config.clone(), Phase::Created);
        exec.set(phase);
        self.parts.execs.insert(Arc::new(exec));
        crate::exec::publish(&self.parts, record, "exec_die".into(), &note.id, Some(code));
        if let Err(error) = self.parts.ports.execs.remove(&note.id).await {
            tracing::warn!(exec = %note.id, %error, "an exec's note is left");
        }
    }

    /// The note was written before the process was made: only the runtime knows its id.
    async fn exec_pid(&self, container: &ContainerId, exec: &gantry_domain::ExecId) -> Option<u32> {
        match self.parts.ports.runtime.pids(container).await {
            Ok(pids) => pids.into_iter().find(|process| process.exec.as_ref() == Some(exec)).map(|process| process.pid),
            Err(error) if error.is_not_found() => None,
            Err(error) => {
                // The wait for its exit knows better than a call that failed once.
                tracing::warn!(%exec, %error, "taken for running");
                Some(0)
            }
        }
    }

    /// Nobody reads an adopted exec's output any more; it must not block for that.
    async fn drain_adopted(&self, exec: &Exec) {
        let setup = gantry_domain::ports::ExecSetup {
            container: exec.container.clone(),
            exec: exec.id.clone(),
            process: bytes::Bytes::new(),
            terminal: exec.config.tty,
            stdin: false,
            output: exec.config.attach_stdout || exec.config.attach_stderr,
            console_size: None,
        };
        match self.parts.ports.runtime.adopt_exec(&setup).await {
            Ok(started) => {
                if let Some(mut output) = started.output {
                    // Ends with the exec.
                    tokio::spawn(async move { while output.next().await.is_some() {} });
                }
            }
            Err(error) => tracing::warn!(exec = %exec.id, %error, "the exec's output could not be taken over"),
        }
    }
}
