//! A health check's exec: run, listened to, and ended by force when it takes too long or is wanted no more.
//!
//! Nothing of it stays: not in the table (a check a second would fill it), and a gantryd that finds one of a gantryd
//! before it ends it, for nobody waits for its result.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use gantry_domain::{
    ExecId, GoTime, Result,
    container::{
        ContainerRecord,
        health::{HealthcheckResult, NO_EXIT, ProbeOutput},
        record::ExecRecord,
    },
    exec::ExecConfig,
    ports::{BoxStream, OutputChunk},
    signal, text,
};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    ExecStart,
    start::start,
    table::{Exec, Phase},
};
use crate::{
    container::Attached,
    parts::{Parts, within},
};

/// What it takes to begin is no part of the check's own time; beyond this something hangs.
const START_LIMIT: Duration = Duration::from_secs(30);
/// A call of containerd that ends a check.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// From SIGKILL to the exit.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// Runs the checks of one container, one after the other.
#[derive(Default)]
pub(crate) struct Prober {
    /// A start that hangs, as with its shim: the next check does not add to it.
    hung: Option<JoinHandle<()>>,
}

/// Why a check was not heard to its end.
enum Cut {
    TooLong,
    Stopped,
}

impl Prober {
    /// One check; `None` when it was stopped.
    pub async fn probe(
        &mut self,
        parts: &Arc<Parts>,
        record: &Arc<ContainerRecord>,
        command: Vec<String>,
        stop: &CancellationToken,
    ) -> Option<HealthcheckResult> {
        let began = Timestamp::now();
        let ended = |exit_code, output| {
            let (start, end) = (GoTime::from(began), GoTime::from(Timestamp::now()));
            Some(HealthcheckResult { start, end, exit_code, output })
        };
        if self.hung.as_ref().is_some_and(|hung| !hung.is_finished()) {
            return ended(NO_EXIT, too_slow(record));
        }
        let exec = announce(parts, record, command);
        let (starter, started) = (parts.clone(), exec.clone());
        let mut starting = tokio::spawn(async move { start(&starter, &started, ExecStart::default()).await });
        let begun = tokio::select! {
            begun = &mut starting => begun,
            () = tokio::time::sleep(START_LIMIT) => {
                self.hung = Some(end_when_begun(parts, exec, starting));
                return ended(NO_EXIT, too_slow(record));
            }
            () = stop.cancelled() => {
                self.hung = Some(end_when_begun(parts, exec, starting));
                return None;
            }
        };
        let attached = match begun {
            Ok(Ok(Some(attached))) => attached,
            Ok(Ok(None)) => return ended(NO_EXIT, "the check has no output".to_owned()),
            Ok(Err(error)) => {
                parts.execs.remove(&exec.id);
                return ended(NO_EXIT, error.message().to_owned());
            }
            Err(panicked) => return ended(NO_EXIT, panicked.to_string()),
        };
        let timeout = record.config.healthcheck.as_ref().map_or(START_LIMIT, |check| check.probe_timeout());
        let (output, cut) = listen(attached, timeout, stop).await;
        if cut.is_some() {
            end(parts, &exec).await;
        }
        parts.execs.remove(&exec.id);
        match cut {
            Some(Cut::Stopped) => None,
            Some(Cut::TooLong) => ended(NO_EXIT, exceeded(timeout, &output)),
            None => match exec.phase() {
                Phase::Ended { code } => ended(i64::from(code), output),
                _ => ended(NO_EXIT, format!("healthcheck for container {} has no exit code", record.id)),
            },
        }
    }
}

fn too_slow(record: &ContainerRecord) -> String {
    format!("timed out starting health check for container {}", record.id)
}

fn exceeded(timeout: Duration, output: &str) -> String {
    let text = format!("Health check exceeded timeout ({})", text::go_duration(timeout));
    if output.is_empty() { text } else { format!("{text}: {output}") }
}

/// The exec of a check, as `docker events` and `ExecIDs` show it.
fn announce(parts: &Parts, record: &Arc<ContainerRecord>, command: Vec<String>) -> Arc<Exec> {
    let action = super::action("exec_create", &command);
    let config = ExecConfig {
        cmd: Some(command),
        user: record.config.user.clone(),
        working_dir: record.config.working_dir.clone(),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecConfig::default()
    };
    let exec = Arc::new(Exec::probe(ExecId::random(), record.id.clone(), config));
    parts.execs.insert(exec.clone());
    super::publish(parts, record, action, &exec.id, None);
    exec
}

/// Reads to the end, which comes with the exit code.
async fn listen(attached: Attached, timeout: Duration, stop: &CancellationToken) -> (String, Option<Cut>) {
    let mut kept = ProbeOutput::default();
    let mut output: BoxStream<Result<OutputChunk>> = attached.output;
    let reading = async {
        while let Some(Ok(chunk)) = output.next().await {
            kept.push(&chunk.data);
        }
    };
    let cut = tokio::select! {
        () = reading => None,
        () = tokio::time::sleep(timeout) => Some(Cut::TooLong),
        () = stop.cancelled() => Some(Cut::Stopped),
    };
    (kept.text(), cut)
}

/// A start that nobody waits for any more is ended as soon as it is through.
fn end_when_begun(
    parts: &Arc<Parts>,
    exec: Arc<Exec>,
    starting: JoinHandle<Result<Option<Attached>>>,
) -> JoinHandle<()> {
    let parts = parts.clone();
    // Owned by the prober, which begins nothing before this has ended; ends with the container's shim.
    tokio::spawn(async move {
        if let Ok(Ok(_)) = starting.await {
            end(&parts, &exec).await;
        }
        parts.execs.remove(&exec.id);
    })
}

/// SIGKILL, and the exit, so that dying checks do not pile up.
async fn end(parts: &Parts, exec: &Exec) {
    let kill = parts.ports.runtime.kill(&exec.container, Some(&exec.id), signal::SIGKILL, false);
    match within(KILL_LIMIT, "ending a health check", kill).await {
        Err(error) if !error.is_not_found() => {
            tracing::warn!(container = %exec.container, exec = %exec.id, %error, "a health check goes on");
        }
        _ => {
            let mut phase = exec.watch();
            let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended { .. }));
            let _ = tokio::time::timeout(EXIT_LIMIT, ended).await;
        }
    }
}

/// Ends a check that a gantryd before this one has begun.
pub(crate) async fn end_found(parts: &Parts, note: &ExecRecord) -> Result<()> {
    let kill = parts.ports.runtime.kill(&note.container, Some(&note.id), signal::SIGKILL, false);
    match within(KILL_LIMIT, "ending a health check", kill).await {
        Err(error) if !error.is_not_found() => return Err(error),
        Err(_) => {}
        Ok(()) => {
            let exit = parts.ports.runtime.wait(&note.container, Some(&note.id));
            let _ = within(EXIT_LIMIT, "the end of a health check", exit).await;
        }
    }
    let taken = parts.ports.runtime.delete_task(&note.container, Some(&note.id));
    within(KILL_LIMIT, "taking a health check away", taken).await?;
    parts.ports.execs.remove(&note.id).await
}
