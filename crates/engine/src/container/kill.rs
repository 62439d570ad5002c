//! `POST /containers/{id}/kill`, and the signals that stop and remove send.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use gantry_domain::{
    Error, ErrorKind, Result,
    container::{ContainerRecord, Status, record::Desired},
    ports::TaskStatus,
    signal,
};

use super::owner::{Handle, Hurry, Owner};
use crate::{Engine, parts::detached};

/// How long after SIGKILL an exit may take before the shim is given up. With the steps that follow it stays below 15 s.
const KILL_GRACE: Duration = Duration::from_secs(6);
/// How long the exit may take when SIGKILL could not be sent.
const UNSENT_GRACE: Duration = Duration::from_secs(2);
/// Ending what is left of a shim that was given up.
const ABANDON_LIMIT: Duration = Duration::from_secs(5);
/// Writing down that a signal is sent.
const RECORD_LIMIT: Duration = Duration::from_secs(2);
/// A call of containerd that sends a signal.
const SIGNAL_LIMIT: Duration = Duration::from_secs(5);

impl Engine {
    /// Sends a signal; without one, SIGKILL, and waits for the exit.
    pub async fn container_kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let prefix = format!("cannot kill container: {name}");
        let signal = signal.filter(|text| !text.is_empty()).map(signal_of).transpose();
        let signal = signal.map_err(|error| error.context(&prefix))?;
        let handle = self.parts.container(name).map_err(|error| error.context(&prefix))?;
        let work = async move {
            handle.settled().await;
            handle.snapshot().may_kill().map_err(|error| error.context(&prefix))?;
            match signal {
                None | Some(signal::SIGKILL) => {
                    let killed = kill_and_wait(&handle).await;
                    handle.cleared().await;
                    killed
                }
                Some(signal) => {
                    let _hurry = Hurry::new(&handle);
                    handle.run(move |owner| owner.signal(signal).boxed()).await
                }
            }
            .map_err(|error| error.context(&prefix))
        };
        detached(work).await
    }
}

/// A number that no signal has is told otherwise than a name.
fn signal_of(text: &str) -> Result<u32> {
    signal::parse(text).map_err(|error| match text.parse::<u32>() {
        Ok(1..) => Error::invalid(format!("the linux daemon does not support signal {text}")),
        _ => error,
    })
}

/// SIGKILL, and the exit; when none comes, what is left of the task is abandoned (T53).
pub(crate) async fn kill_and_wait(handle: &Arc<Handle>) -> Result<()> {
    let _hurry = Hurry::new(handle);
    let mut progress = handle.progress();
    let before = progress.borrow_and_update().exits;
    let grace = match handle.run(|owner| owner.signal(signal::SIGKILL).boxed()).await {
        Ok(()) => KILL_GRACE,
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => return Err(error),
        // The shim does not even take the signal, or it is gone: then word of the exit is on its way.
        Err(error) => {
            tracing::warn!(container = %handle.id, %error, "SIGKILL was not sent");
            if error.kind() == ErrorKind::Cancelled { Duration::ZERO } else { UNSENT_GRACE }
        }
    };
    let over = progress.wait_for(|now| now.exits > before || !now.running);
    if tokio::time::timeout(grace, over).await.is_ok() {
        return Ok(());
    }
    give_up(handle).await
}

/// Ends by force what does not even take a signal.
pub(crate) async fn give_up(handle: &Arc<Handle>) -> Result<()> {
    let _hurry = Hurry::new(handle);
    handle.run(|owner| owner.abandon().boxed()).await
}

impl Owner {
    /// Sends a signal that was asked for, and notes what it means for restarts.
    pub(crate) async fn signal(&mut self, number: u32) -> Result<()> {
        let number_text = number.to_string();
        if self.status == Status::Restarting {
            self.cancel_restart().await?;
            return Ok(());
        }
        self.snapshot().may_kill()?;
        self.note_stop_request(number).await;
        let paused = self.status == Status::Paused;
        if paused {
            self.send(number).await?;
            self.thaw().await?;
            self.status = Status::Running;
            self.watch_health();
        } else {
            self.send(number).await?;
        }
        self.publish();
        self.event("kill", &[("signal", number_text)]);
        // What SIGKILL ends does not go on.
        if paused && number != signal::SIGKILL {
            self.event("unpause", &[]);
        }
        Ok(())
    }

    /// Lets a paused container go on, so that it can take its signal. SIGKILL may have thawed or ended it already.
    async fn thaw(&self) -> Result<()> {
        let runtime = &self.parts.ports.runtime;
        let resumed = self.handle.bounded(SIGNAL_LIMIT, "resuming the container", runtime.resume(self.id())).await;
        let Err(error) = resumed else { return Ok(()) };
        if error.message().contains("not paused") {
            return Ok(());
        }
        match self.handle.bounded(SIGNAL_LIMIT, "looking at the task", runtime.task(self.id())).await {
            Ok(Some(task)) if task.status == TaskStatus::Paused => Err(error),
            Ok(_) => Ok(()),
            Err(_) => Err(error),
        }
    }

    async fn send(&self, number: u32) -> Result<()> {
        let call = self.parts.ports.runtime.kill(self.id(), None, number, false);
        match self.handle.bounded(SIGNAL_LIMIT, "sending the signal", call).await {
            // The process is gone and its exit on the way.
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// dockerd's rule: any signal is a manual stop; the restart policy is off for this exit if the signal ends the
    /// container by intent.
    ///
    /// Durable before the signal: a gantryd that dies with the container must not take its end for one of its own.
    async fn note_stop_request(&mut self, number: u32) {
        let noted = |record: &ContainerRecord| {
            (record.manually_stopped, record.run.as_ref().is_some_and(|run| run.stop_requested))
        };
        let before = noted(&self.record);
        self.record.manually_stopped |= !self.host_goes_down;
        let configured = &self.record.config.stop_signal;
        let ends = number == signal::SIGKILL
            || configured.is_empty()
            || signal::parse(configured).is_ok_and(|stop| stop == number);
        if ends && let Some(run) = self.record.run.as_mut() {
            run.stop_requested = true;
        }
        if before == noted(&self.record) {
            return;
        }
        // On a full disk, or one that hangs, a container can be ended all the same.
        let handle = self.handle.clone();
        if let Err(error) = handle.bounded(RECORD_LIMIT, "recording the signal", self.save()).await {
            tracing::warn!(container = %self.record.id, %error, "the signal is sent without a record of it");
        }
    }

    /// Gives up a shim that no longer answers: what is left is ended by force, and the exit is made known.
    pub(crate) async fn abandon(&mut self) -> Result<()> {
        if !self.status.has_process() {
            return Ok(());
        }
        tracing::warn!(container = %self.record.id, "the shim does not answer: it is given up");
        self.abandon_task().await;
        let number = self.record.run.as_ref().map_or(0, |run| run.number);
        let exit = gantry_domain::container::Exit { code: 137, at: jiff::Timestamp::now(), oom_killed: false };
        self.exited(number, exit).await
    }

    /// Shim, processes and mounts of the run. What does not end even so is looked for again by `tear_down`.
    pub(crate) async fn abandon_task(&mut self) {
        self.abandoned = true;
        let ended = self.parts.ports.runtime.abandon_task(self.id());
        if let Err(error) = crate::parts::within(ABANDON_LIMIT, "giving the shim up", ended).await {
            tracing::warn!(container = %self.record.id, %error, "the shim could not be ended in order");
        }
    }

    /// Ends a container in its back-off: there is no process to signal. When that cannot be written the back-off goes on.
    pub(crate) async fn cancel_restart(&mut self) -> Result<()> {
        if self.status != Status::Restarting {
            return Err(Error::conflict(format!("container {} is not running", self.record.id)));
        }
        let before = (self.record.manually_stopped, self.record.desired);
        if !self.host_goes_down {
            (self.record.manually_stopped, self.record.desired) = (true, Desired::Stopped);
        }
        if let Err(error) = self.save().await {
            (self.record.manually_stopped, self.record.desired) = before;
            return Err(error);
        }
        if let Some(timer) = self.restart_timer.take() {
            timer.abort();
        }
        self.status = Status::Exited;
        self.publish();
        self.advance(|now| now.running = false);
        Ok(())
    }
}
