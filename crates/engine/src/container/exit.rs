//! The end of a run: one path for every exit, in the order in which clients rely on.
//!
//! record → snapshot → `die` → waiters → durable → task, sandbox and streams taken away → restart policy or auto-remove.

use std::time::Duration;

use futures::FutureExt as _;
use gantry_domain::{
    Error, Result,
    container::{Exit, Status, log_shipment::LogShipment, record::Desired, restart},
    network::NetworkRecord,
};
use jiff::Timestamp;

use super::{
    donors::{Starts, await_donors},
    owner::Owner,
};

/// The companion reads what is left in the FIFOs; more than this it does not get.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// Taking a dead task away: the shim unmounts and goes.
const DELETE_LIMIT: Duration = Duration::from_secs(10);
/// Until what a tear-down had to leave is tried again.
const AGAIN: Duration = Duration::from_secs(15);
/// Nobody saw how the run ended.
pub(crate) const UNSEEN: u32 = 255;

impl Owner {
    /// Waits for the exit of the current run, outside of the mailbox.
    pub(crate) fn supervise(&mut self) {
        let handle = self.handle.clone();
        let ports = self.parts.ports.clone();
        let number = self.record.run.as_ref().map_or(0, |run| run.number);
        // Owned by this owner: ended by the next run or with the container.
        let watcher = tokio::spawn(async move {
            let exit = loop {
                match ports.runtime.wait(&handle.id, None).await {
                    Ok(exit) => break exit,
                    Err(error) if error.is_not_found() => {
                        break Exit { code: UNSEEN, at: Timestamp::now(), oom_killed: false };
                    }
                    Err(error) => {
                        tracing::warn!(container = %handle.id, %error, "waiting for the exit again");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            };
            let drained = ports.stdio.drained(&handle.id);
            if let Err(error) = handle.bounded(DRAIN_LIMIT, "reading the last output", drained).await {
                tracing::warn!(container = %handle.id, %error, "output may be missing");
            }
            let ended = handle.run(move |owner| owner.exited(number, exit).boxed()).await;
            if let Err(error) = ended
                && !error.is_not_found()
            {
                tracing::error!(container = %handle.id, %error, "the exit was not worked off");
            }
        });
        if let Some(before) = self.supervisor.replace(watcher.abort_handle()) {
            before.abort();
        }
    }

    /// Works off an exit; a second word of the same one is ignored.
    pub(crate) async fn exited(&mut self, number: u64, mut exit: Exit) -> Result<()> {
        let Some(run) = self.record.run.as_mut().filter(|run| run.number == number && run.exit.is_none()) else {
            return Ok(());
        };
        let told = self.out_of_memory;
        self.out_of_memory |= exit.oom_killed;
        exit.oom_killed = self.out_of_memory;
        run.exit = Some(exit);
        run.paused = false;
        let ran_for = run.started.0.map_or(Duration::ZERO, |started| between(started, exit.at));
        let again = !self.handle.is_restarting_by_request() && self.policy_wants(exit.code);
        self.pid = 0;
        self.rest_health();
        self.status = if again { Status::Restarting } else { Status::Exited };
        let wanted = again || self.host_goes_down;
        self.record.desired = if wanted { Desired::Running } else { Desired::Stopped };
        if again {
            self.record.restart_count += 1;
        }
        self.publish();
        let attributes = [("exitCode", exit.code.to_string()), ("execDuration", ran_for.as_secs().to_string())];
        if exit.oom_killed && !told {
            self.event_at("oom", &[], exit.at);
        }
        self.event_at("die", &attributes, exit.at);
        self.parts.execs.container_exited(&self.record.id);
        // Waiters need not wait for it; who wants what the run has, does.
        self.set_clearing(true);
        self.advance(|now| {
            now.exits += 1;
            now.running = again;
            now.code = exit.code;
            now.error = None;
        });
        self.finish_exit(number).await;
        Ok(())
    }

    /// Makes the exit durable, then takes the run away, then obeys the restart policy or auto-remove. While the exit
    /// cannot be written (a full disk) the task stays, so that a later gantryd would find it; it is tried again.
    pub(crate) async fn finish_exit(&mut self, number: u64) {
        let Some(run) = self.record.run.as_ref().filter(|run| run.number == number) else { return };
        let Some(exit) = run.exit else { return };
        let ran_for = run.started.0.map_or(Duration::ZERO, |started| between(started, exit.at));
        if let Err(error) = self.save().await {
            tracing::error!(container = %self.record.id, %error, "the exit could not be recorded yet");
            self.set_clearing(false);
            return self.finish_exit_later(number);
        }
        self.exit_timer = None;
        self.network_events("disconnect");
        self.tear_down().await;
        if self.status == Status::Restarting {
            self.run_again_later(ran_for);
        } else if self.status == Status::Exited
            && self.record.host_config.auto_remove
            && !self.handle.is_restarting_by_request()
        {
            self.remove_quietly().await;
        }
    }

    fn finish_exit_later(&mut self, number: u64) {
        let handle = self.handle.clone();
        // Owned by this owner: ended by a start or a removal, which take the run away themselves.
        let timer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // A container that is gone meanwhile has nothing left to finish.
            let _ = handle.run(move |owner| owner.finish_exit(number).map(Ok).boxed()).await;
        });
        if let Some(before) = self.exit_timer.replace(timer.abort_handle()) {
            before.abort();
        }
    }

    /// Takes away what a run has: task, sandbox, ports, streams, mounts. Collects errors and goes on; what it has to
    /// leave is tried again later.
    pub(crate) async fn tear_down(&mut self) {
        let owed = self.owe_lent().await;
        self.return_interfaces().await;
        let id = &self.record.id;
        let (ports, handle) = (&self.parts.ports, &self.handle);
        let (task, sandbox, released, stdio, volumes) = tokio::join!(
            self.take_task_away(),
            handle.bounded(DELETE_LIMIT, "taking the namespace away", ports.network.delete_sandbox(id)),
            handle.bounded(DELETE_LIMIT, "giving the ports back", ports.network.release_ports(id)),
            handle.bounded(DELETE_LIMIT, "closing the streams", ports.stdio.close(id)),
            handle.bounded(
                DELETE_LIMIT,
                "unmounting volumes",
                super::mounts::unmount_volumes(&self.parts, &self.record)
            ),
        );
        // After the streams: the log is whole now.
        let shipment = match LogShipment::of(&self.record) {
            Ok(Some(_)) => handle.bounded(DELETE_LIMIT, "ending the log's shipment", ports.files.end_log(id)).await,
            _ => Ok(()),
        };
        let errors =
            [owed.err(), task.err(), sandbox.err(), released.err(), stdio.err(), volumes.err(), shipment.err()];
        self.has_run = false;
        for error in errors.into_iter().flatten() {
            tracing::warn!(container = %id, %error, "left of a run; it is tried again");
            self.has_run = true;
        }
        self.parts.claims.lock().leave_networks(id);
        // Who waits for what the run had does not wait for a plugin.
        self.set_clearing(false);
        self.let_go();
        self.settle_lent().await;
        self.abandoned = false;
        if self.has_run {
            self.tear_down_later();
        }
    }

    /// The shim of a run that is over; by force where it does not do as it is told.
    async fn take_task_away(&self) -> Result<()> {
        let (id, runtime) = (&self.record.id, &self.parts.ports.runtime);
        let deleted = async {
            let taken = runtime.delete_task(id, None);
            self.handle.bounded(DELETE_LIMIT, "taking the task away", taken).await.map(drop)
        };
        if self.abandoned {
            // What could be done by force was done; this asks whether it is gone.
            return match self.handle.bounded(DELETE_LIMIT, "looking for the task", runtime.task(id)).await {
                Ok(Some(_)) | Err(_) => deleted.await,
                Ok(None) => Ok(()),
            };
        }
        let Err(error) = deleted.await else { return Ok(()) };
        tracing::warn!(container = %id, %error, "the task is taken away by force");
        self.handle.bounded(DELETE_LIMIT, "giving the shim up", runtime.abandon_task(id)).await
    }

    fn tear_down_later(&mut self) {
        let handle = self.handle.clone();
        // Owned by this owner: ended by the next one of its kind, and with the container.
        let timer = tokio::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            // A container that is gone meanwhile has nothing left.
            let _ = handle.run(|owner| owner.clear_leftovers().boxed()).await;
        });
        if let Some(before) = self.leftover_timer.replace(timer.abort_handle()) {
            before.abort();
        }
    }

    async fn clear_leftovers(&mut self) -> Result<()> {
        if self.has_run && !self.status.has_process() && self.status != Status::Removing {
            self.tear_down().await;
        }
        Ok(())
    }

    /// Starts again after the back-off.
    pub(crate) fn run_again_later(&mut self, ran_for: Duration) {
        let wait = restart::next_backoff(self.backoff, ran_for);
        self.backoff = Some(wait);
        let (handle, parts) = (self.handle.clone(), self.parts.clone());
        // Owned by this owner: ended by a stop, a start or a removal.
        let timer = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            await_donors(&parts, &handle.snapshot().record, &Starts::default()).await;
            let started = handle.run_unless_hurried(|owner| owner.start_by_policy().boxed()).await;
            if let Err(error) = started {
                tracing::info!(container = %handle.id, %error, "the restart policy's start failed");
            }
        });
        if let Some(before) = self.restart_timer.replace(timer.abort_handle()) {
            before.abort();
        }
    }

    /// `connect` and `disconnect` of each network of the run.
    pub(crate) fn network_events(&self, action: &str) {
        let Some(run) = &self.record.run else { return };
        let networks: Vec<NetworkRecord> = {
            let claims = self.parts.claims.lock();
            let ids = run.endpoints.values().filter_map(|endpoint| endpoint.network_id.as_ref());
            ids.filter_map(|id| claims.networks.get(id)).cloned().collect()
        };
        networks.iter().for_each(|network| self.network_event(network, action));
    }

    pub(crate) fn network_event(&self, network: &NetworkRecord, action: &str) {
        let container = [("container", self.record.id.to_string())];
        crate::network::publish(&self.parts, network, action, &container);
    }

    /// Auto-remove: there is no client to tell.
    pub(crate) async fn remove_quietly(&mut self) {
        let removed: Result<(), Error> = self.remove(true).await;
        if let Err(error) = removed {
            tracing::warn!(container = %self.record.id, %error, "auto-remove is left for the reconciliation");
        }
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
