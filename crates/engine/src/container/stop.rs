//! `POST /containers/{id}/stop`: the stop signal, a time to obey it, then SIGKILL.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use gantry_domain::{
    ErrorKind, Result,
    container::{ContainerRecord, Status},
    signal,
};

use super::{
    Outcome,
    kill::{give_up, kill_and_wait},
    owner::{Handle, Hurry},
};
use crate::{Engine, parts::detached};

/// Seconds that a container gets when nobody says otherwise.
pub(crate) const DEFAULT_TIMEOUT: i64 = 10;
/// What is left of the time when the signal could not be sent.
const UNSENT_TIMEOUT: i64 = 2;
/// What a run leaves is cleared away in less, unless something hangs.
const CLEARING: Duration = Duration::from_secs(3);

impl Engine {
    /// Stops a running container; one that does not run is `Unchanged`. A client's hang-up does not cut it short.
    /// `timeout` is seconds; negative waits for ever.
    pub async fn container_stop(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<Outcome> {
        let signal = signal.filter(|text| !text.is_empty()).map(signal::parse).transpose()?;
        let handle = self.parts.container(name)?;
        handle.settled().await;
        if handle.snapshot().may_stop() == Outcome::Unchanged {
            return Ok(Outcome::Unchanged);
        }
        let prefix = format!("cannot stop container: {name}");
        let work = async move { stop(&handle, signal, timeout).await.map_err(|error| error.context(prefix)) };
        detached(work).await?;
        Ok(Outcome::Changed)
    }
}

/// Stops, and publishes `stop`.
pub(crate) async fn stop(handle: &Arc<Handle>, signal: Option<u32>, timeout: Option<i64>) -> Result<()> {
    let record = handle.snapshot().record;
    let signal = signal.unwrap_or_else(|| stop_signal(&record));
    let mut seconds = timeout.or(record.config.stop_timeout).unwrap_or(DEFAULT_TIMEOUT);
    let mut progress = handle.progress();
    let before = progress.borrow_and_update().exits;
    // The back-off may end between the look and the word: then there is a process to signal.
    let in_backoff = handle.snapshot().status == Status::Restarting;
    let hurry = Hurry::new(handle);
    let cancelled = in_backoff && handle.run(|owner| owner.cancel_restart().boxed()).await.is_ok();
    if !cancelled && handle.snapshot().status.is_running() {
        let sent = handle.run(move |owner| owner.stop_signal(signal).boxed()).await;
        // Whoever waits for the container to obey is in no hurry.
        drop(hurry);
        let hangs = sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::Cancelled);
        if let Err(error) = sent {
            tracing::debug!(container = %record.id, %error, "the stop signal was not sent");
            seconds = if seconds < 0 { UNSENT_TIMEOUT } else { seconds.min(UNSENT_TIMEOUT) };
        }
        let over = progress.wait_for(|now| now.exits > before || !now.running);
        let obeyed = match u64::try_from(seconds) {
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), over).await.is_ok(),
            Err(_) => over.await.is_ok(),
        };
        if !obeyed && handle.snapshot().status.is_running() {
            let ended = if hangs { give_up(handle).await } else { kill_and_wait(handle).await };
            // One that ended by itself just before the kill is stopped all the same.
            ended.or_else(|error| if handle.snapshot().status.is_running() { Err(error) } else { Ok(()) })?;
        }
    }
    let stopped = handle.run(|owner| owner.stopped().boxed());
    tokio::pin!(stopped);
    let stopped = match tokio::time::timeout(CLEARING, &mut stopped).await {
        Ok(stopped) => stopped,
        Err(_) => {
            let _hurry = Hurry::new(handle);
            stopped.await
        }
    };
    stopped.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

/// `Config.StopSignal`, else SIGTERM.
pub(crate) fn stop_signal(record: &ContainerRecord) -> u32 {
    signal::parse(&record.config.stop_signal).unwrap_or(signal::SIGTERM)
}

impl super::owner::Owner {
    /// Comes after the exit was worked off: ports and addresses are free.
    async fn stopped(&mut self) -> Result<()> {
        self.event("stop", &[]);
        Ok(())
    }

    /// The signal of a stop: whatever it is, the restart policy does not apply to the exit.
    async fn stop_signal(&mut self, number: u32) -> Result<()> {
        if let Some(run) = self.record.run.as_mut() {
            run.stop_requested = true;
        }
        self.signal(number).await
    }
}

/// A stop because the host goes down: the restart policy stays in force for the next boot.
pub(crate) async fn stop_for_shutdown(handle: &Arc<Handle>) -> Result<()> {
    let told = handle.run(|owner| {
        async move {
            owner.host_goes_down = true;
            Ok(())
        }
        .boxed()
    });
    told.await?;
    stop(handle, None, None).await
}
