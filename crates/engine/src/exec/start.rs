//! `POST /exec/{id}/start`.
//!
//! The exit is published before the stream ends: the CLI reads the stream to its end and then asks for the code.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use gantry_domain::{
    Error, Result,
    container::{ContainerRecord, record::ExecRecord},
    ports::{BoxStream, ExecSetup, OutputChunk},
};

use super::{
    ExecStart,
    table::{Exec, Phase},
};
use crate::{
    Engine,
    container::Attached,
    parts::{Parts, detached},
};

/// After the last byte, the exit is on its way.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
/// dockerd's code for an exec that could not be started.
const NOT_STARTED: u32 = 126;

impl Engine {
    /// Runs the exec; `None` when detached.
    pub async fn exec_start(&self, id: &str, request: ExecStart) -> Result<Option<Attached>> {
        let exec = self.parts.execs.get(id)?;
        let handle = self.parts.container(exec.container.as_str())?;
        handle.snapshot().may_exec(handle.id.as_str())?;
        exec.begin()?;
        let parts = self.parts.clone();
        let started = exec.clone();
        detached(async move { start(&parts, &started, request).await }).await
    }
}

pub(super) async fn start(parts: &Arc<Parts>, exec: &Arc<Exec>, request: ExecStart) -> Result<Option<Attached>> {
    match try_start(parts, exec, request).await {
        Ok(attached) => Ok(attached),
        Err(error) => {
            exec.set(Phase::Ended { code: exit_code(&error) });
            if let Err(left) = parts.ports.execs.remove(&exec.id).await {
                tracing::warn!(exec = %exec.id, error = %left, "an exec's note is left");
            }
            Err(error)
        }
    }
}

async fn try_start(parts: &Arc<Parts>, exec: &Arc<Exec>, request: ExecStart) -> Result<Option<Attached>> {
    let handle = parts.container(exec.container.as_str())?;
    let snapshot = handle.snapshot();
    let record = snapshot.record.clone();
    // That of an image counts from the root, and is a check's; what a client asks for goes to runc as it is.
    if !exec.probe && !matches!(exec.config.working_dir.as_bytes(), [] | [b'/', ..]) {
        return Err(Error::system("OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown"));
    }
    let user = crate::container::exec_user(parts, &record, snapshot.pid, &exec.config.user).await?;
    let console_size = request.console_size.or(exec.config.console_size).filter(|size| *size != [0, 0]);
    let process = crate::container::exec_process(parts, &record, &exec.config, &user, console_size).await?;
    let note = ExecRecord {
        id: exec.id.clone(),
        container: exec.container.clone(),
        boot_id: parts.boot_id.clone(),
        config: exec.config.clone(),
        pid: 0,
        exit: None,
        probe: exec.probe,
    };
    parts.ports.execs.put(&note).await?;
    let setup = ExecSetup {
        container: exec.container.clone(),
        exec: exec.id.clone(),
        process,
        terminal: exec.config.tty,
        stdin: exec.config.attach_stdin && !request.detach,
        output: !request.detach && (exec.config.attach_stdout || exec.config.attach_stderr),
        console_size,
    };
    let started = parts.ports.runtime.exec(&setup).await?;
    exec.set(Phase::Running { pid: started.pid });
    let action = super::action("exec_start", exec.config.cmd.as_deref().unwrap_or_default());
    super::publish(parts, &record, action, &exec.id, None);
    supervise(parts, exec, record.clone());
    if request.detach {
        return Ok(None);
    }
    let output = started.output.unwrap_or_else(|| Box::pin(stream::empty()));
    Ok(Some(Attached {
        id: exec.container.clone(),
        terminal: exec.config.tty,
        output: until_known(chosen(output, exec), exec.clone()),
        stdin: started.stdin,
    }))
}

/// Only the outputs that were asked for.
fn chosen(output: BoxStream<Result<OutputChunk>>, exec: &Exec) -> BoxStream<Result<OutputChunk>> {
    use gantry_domain::log::Stream;
    let (stdout, stderr) = (exec.config.attach_stdout, exec.config.attach_stderr);
    Box::pin(output.filter(move |chunk| {
        std::future::ready(match chunk {
            Ok(chunk) if chunk.stream == Stream::Stderr => stderr,
            Ok(_) => stdout,
            Err(_) => true,
        })
    }))
}

/// Holds the end of the stream back until the exit code is known.
fn until_known(output: BoxStream<Result<OutputChunk>>, exec: Arc<Exec>) -> BoxStream<Result<OutputChunk>> {
    let end = stream::once(async move {
        let mut phase = exec.watch();
        let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended { .. }));
        // The task's own watcher sets it; beyond the limit the client is let go without.
        let _ = tokio::time::timeout(EXIT_LIMIT, ended).await;
    });
    Box::pin(output.chain(end.filter_map(|()| std::future::ready(None))))
}

/// Waits for the exec's exit, outside of any client's connection.
pub(crate) fn supervise(parts: &Arc<Parts>, exec: &Arc<Exec>, record: Arc<ContainerRecord>) {
    let (parts, exec) = (parts.clone(), exec.clone());
    // Ends with the exec; containerd ends the exec with its container.
    tokio::spawn(async move {
        let code = match parts.ports.runtime.wait(&exec.container, Some(&exec.id)).await {
            Ok(exit) => exit.code,
            Err(error) if error.is_not_found() => 137,
            Err(error) => {
                tracing::warn!(exec = %exec.id, %error, "the exec's exit was not seen");
                crate::container::UNSEEN
            }
        };
        exec.set(Phase::Ended { code });
        super::publish(&parts, &record, "exec_die".into(), &exec.id, Some(code));
        if let Err(error) = parts.ports.runtime.delete_task(&exec.container, Some(&exec.id)).await {
            tracing::debug!(exec = %exec.id, %error, "the exec went with its container");
        }
        if let Err(error) = parts.ports.execs.remove(&exec.id).await {
            tracing::warn!(exec = %exec.id, %error, "an exec's note is left");
        }
    });
}

/// 127 for a missing program, 126 for anything else, as dockerd says.
fn exit_code(error: &Error) -> u32 {
    let text = error.message();
    let missing = text.contains("executable file not found") || text.contains("no such file or directory");
    if missing { 127 } else { NOT_STARTED }
}
