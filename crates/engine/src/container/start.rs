//! `POST /containers/{id}/start`: from a record to a running process.
//!
//! ```text
//! rule ─► addresses, ports ─► ┬ intent durable ┐
//!                             ├ files, stdio   ├─► clients join ─► Tasks.Create ─► Tasks.Start ─► snapshot, event, 204
//!                             └ sandbox, spec  ┘
//! ```
//!
//! With a user namespace the sandbox comes between Create and Start (`user_namespace.rs`).
//! What plugins lend is taken with the addresses; their interfaces join when the sandbox is there.
//!
//! Whatever fails, `tear_down` takes away what was made; every removal accepts that there is nothing.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use gantry_domain::{
    Error, GoTime, Result,
    container::{Exit, Run, Status, log_shipment::LogShipment, record::Desired, restart},
    ports::{StdioPaths, TaskSetup},
};
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::{Outcome, failed_start, owner::Owner};
use crate::{
    Engine,
    lent::Holding,
    parts::{detached, within},
};

/// runc and the shim together; beyond it something hangs.
const TASK_LIMIT: Duration = Duration::from_secs(120);
/// Until a failed start is recorded where there was no room for it.
const AGAIN: Duration = Duration::from_secs(1);

impl Engine {
    /// Starts a container that does not run; one that does is `Unchanged`.
    pub async fn container_start(&self, name: &str) -> Result<Outcome> {
        let handle = self.parts.container(name)?;
        detached(async move { handle.run_unless_hurried(|owner| owner.start_by_request().boxed()).await }).await
    }
}

impl Owner {
    async fn start_by_request(&mut self) -> Result<Outcome> {
        if self.snapshot().may_start()? == Outcome::Unchanged {
            return Ok(Outcome::Unchanged);
        }
        self.handle.may_be_started()?;
        for timer in [self.restart_timer.take(), self.exit_timer.take()].into_iter().flatten() {
            timer.abort();
        }
        self.begin_anew();
        self.start().await?;
        Ok(Outcome::Changed)
    }

    /// A start at boot, by the restart policy.
    pub(crate) async fn start_at_boot(&mut self) -> Result<()> {
        // A client may have been faster.
        if self.snapshot().may_start()? == Outcome::Unchanged || self.status == Status::Restarting {
            return Ok(());
        }
        self.begin_anew();
        self.start().await
    }

    /// What a start does not take over from the runs before it, unless it is a restart by the policy.
    pub(crate) fn begin_anew(&mut self) {
        self.record.manually_stopped = false;
        self.record.restart_count = 0;
        self.backoff = None;
    }

    /// A start by the restart policy, when its back-off is over.
    pub(crate) async fn start_by_policy(&mut self) -> Result<()> {
        if self.status != Status::Restarting {
            return Ok(());
        }
        self.start().await
    }

    /// Starts, or undoes and records why not.
    pub(crate) async fn start(&mut self) -> Result<()> {
        if self.status.has_process() {
            return Ok(());
        }
        self.set_starting(true);
        let started = match self.try_start().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.start_failed(error).await),
        };
        self.set_starting(false);
        started
    }

    /// A job was dropped in the middle, for somebody ends the container by force. What else it was than a start left
    /// the container as it is.
    pub(crate) async fn cut_off(&mut self) -> Error {
        let error = Error::conflict(format!("container {} is being ended by another request", self.record.id));
        if !self.set_starting(false) {
            return error;
        }
        tracing::warn!(container = %self.record.id, "a start that did not end is cut off");
        // containerd may be making the task still: only the end of its shim ends that.
        self.abandon_task().await;
        self.start_failed(error).await
    }

    async fn try_start(&mut self) -> Result<()> {
        self.end_copies(super::lend::PATIENCE).await;
        if self.has_run {
            self.tear_down().await;
        }
        // Marks that could not become debts then: the run to come would forget them.
        self.owe_lent().await?;
        self.has_run = true;
        self.abandoned = false;
        // What was not there at the create may be by now.
        super::create::resolve_modes(&self.parts, &mut self.record.host_config);
        self.reserve_in_turn().await?;
        self.record.desired = Desired::Running;
        self.record.error.clear();
        let paths = self.prepare().await?;
        self.tell_linking_containers().await;
        self.join_pending().await?;
        let pid = self.create_task(paths).await?;
        self.wire_network(pid).await?;
        within(TASK_LIMIT, "starting the task", self.parts.ports.runtime.start_task(&self.record.id)).await?;
        if let Err(error) = super::mounts::unmount_parts(&self.parts, &self.record).await {
            tracing::warn!(container = %self.record.id, %error, "parts of volumes stay mounted until the run ends");
        }
        // A start that was answered has happened, also after a power cut.
        let _ = self.running(pid).await;
        Ok(())
    }

    /// Everything that the task needs; what does not depend on each other goes side by side.
    async fn prepare(&mut self) -> Result<StdioPaths> {
        let spec = self.checked_spec().await?;
        let files = self.files().await?;
        let stdio = self.stdio_setup();
        let shipment = LogShipment::of(&self.record)?;
        let remapping = self.remapping();
        let sandbox = self.sandbox_setup()?.filter(|_| remapping.is_none());
        let resolver = self.resolver_setup().await?;
        self.record.generation += 1;
        let mut intent = vec![gantry_domain::ports::Write::Container(Box::new(self.record.clone()))];
        intent.extend(self.takings.iter().map(Holding::gone));
        let changed_spec = (self.spec.as_ref() != Some(&spec)).then(|| spec.clone());
        // With its run: should the store lose it, a container that runs on keeps its addresses and ports.
        let copy = Bytes::from(serde_json::to_vec(&self.record).expect("a record is plain data"));
        let parts = &self.parts;
        let id = &self.record.id;
        let make_sandbox = async {
            match &sandbox {
                Some(setup) => super::resolver::open_sandbox(parts, setup, resolver.as_ref(), None).await,
                None => Ok(()),
            }
        };
        let tell_spec = async {
            match changed_spec {
                Some(spec) => parts.ports.runtime.update_container(id, Some(spec), Some(copy)).await,
                None => Ok(()),
            }
        };
        // The log lies in the folder that the first write makes, also where there is no file to write.
        let open_stdio = async {
            parts.ports.files.write(id, files).await?;
            if let Some(shipment) = &shipment {
                parts.ports.files.ship_log(shipment).await?;
            }
            parts.ports.stdio.open(&stdio).await
        };
        let mounts = super::mounts::mount_volumes(parts, &self.record);
        let commit = parts.ports.store.commit(intent);
        // All of them to their end, also where one fails: none may be at work any more when they are undone.
        let (commit, sandbox, told, mounts, paths) = tokio::join!(commit, make_sandbox, tell_spec, mounts, open_stdio);
        if commit.is_ok() {
            self.takings.drain(..).for_each(Holding::settled);
        }
        commit.and(sandbox).and(told).and(mounts)?;
        let paths = paths?;
        super::selinux::relabel(parts, &self.record).await?;
        if remapping.is_none() {
            self.join_lent().await?;
        }
        self.spec = Some(spec);
        Ok(paths)
    }

    async fn create_task(&mut self, paths: StdioPaths) -> Result<u32> {
        let setup = TaskSetup {
            id: self.record.id.clone(),
            terminal: self.record.config.tty,
            stdin: paths.stdin,
            stdout: paths.stdout,
            stderr: paths.stderr,
            runtime: self.record.host_config.runtime.clone(),
            mount_label: self.record.mount_label.clone(),
            stdio_owner: self.remapping().map_or((0, 0), |maps| maps.root()),
            console_size: console_size(self.record.host_config.console_size),
        };
        let create = || within(TASK_LIMIT, "creating the task", self.parts.ports.runtime.create_task(&setup));
        match create().await {
            // What an earlier gantryd left of a run that is over: it is in the way, and nobody's any more.
            Err(error) if error.is_conflict() => {
                if self.parts.ports.runtime.delete_task(&self.record.id, None).await.is_err() {
                    self.parts.ports.runtime.abandon_task(&self.record.id).await?;
                }
                create().await
            }
            created => created,
        }
    }

    /// The process runs: make it known.
    fn running(&mut self, pid: u32) -> JoinHandle<()> {
        let started = Timestamp::now();
        self.record.runs += 1;
        if let Some(run) = self.record.run.as_mut() {
            run.pid = pid;
            run.started = GoTime::from(started);
        }
        self.status = Status::Running;
        self.pid = pid;
        self.out_of_memory = false;
        self.begin_health();
        self.publish();
        self.advance(|now| {
            now.running = true;
            now.error = None;
        });
        self.supervise();
        self.network_events("connect");
        self.event("start", &[]);
        self.save_later()
    }

    /// Writes the record without making the client wait: what it adds can be read back from containerd.
    ///
    /// Ends with its one write; who has promised something waits for it.
    pub(crate) fn save_later(&mut self) -> JoinHandle<()> {
        self.record.generation += 1;
        let write = vec![gantry_domain::ports::Write::Container(Box::new(self.record.clone()))];
        let store = self.parts.ports.store.clone();
        let id = self.record.id.clone();
        // An older generation never replaces a newer one.
        tokio::spawn(async move {
            // A conflict is a newer generation that was faster, as of a container that ended at once.
            if let Err(error) = store.commit(write).await
                && !error.is_conflict()
            {
                tracing::warn!(container = %id, %error, "the start could not be recorded");
            }
        })
    }

    /// Undoes a start and records it as dockerd does: exit code 126, 127 or 128, `State.Error`.
    async fn start_failed(&mut self, error: Error) -> Error {
        let (code, error) = failed_start::classify(error);
        tracing::info!(container = %self.record.id, %error, "the start failed");
        self.tear_down().await;
        let was_restarting = self.status == Status::Restarting;
        let exit = Exit { code, at: Timestamp::now(), oom_killed: false };
        // Cut off before it had a run of its own: the run before it ended as it did.
        let run = self.record.run.clone().filter(|run| run.exit.is_none()).unwrap_or_else(|| self.next_run());
        // What could not be made a debt stays marked.
        let endpoints = self.record.run.iter().flat_map(|run| run.endpoints.clone());
        let endpoints = endpoints.filter(|(_, endpoint)| endpoint.lent.is_some()).collect();
        self.record.run = Some(Run { exit: Some(exit), endpoints, ports: Vec::new(), ..run });
        self.record.error = error.message().to_owned();
        self.record.desired = Desired::Stopped;
        self.status = if self.record.runs > 0 { Status::Exited } else { Status::Created };
        let again = was_restarting && self.policy_wants(code);
        if again {
            self.status = Status::Restarting;
            self.record.desired = Desired::Running;
            self.record.restart_count += 1;
        }
        self.pid = 0;
        self.publish();
        let message = error.message().to_owned();
        self.advance(|now| {
            // A run that never was has no exit: who waits for the next one goes on waiting, as under dockerd.
            now.exits += u64::from(was_restarting);
            now.running = again;
            now.code = code;
            now.error = Some(message);
        });
        if let Err(failed) = self.save().await {
            tracing::warn!(container = %self.record.id, error = %failed, "the failed start could not be recorded yet");
            self.record_later();
        }
        if again {
            self.run_again_later(Duration::ZERO);
        } else if self.record.host_config.auto_remove {
            self.remove_quietly().await;
        }
        error
    }

    /// On a full disk: a gantryd that comes next goes by what is written, and its policy would start the container.
    fn record_later(&mut self) {
        let handle = self.handle.clone();
        // Owned by this owner: ended by a start or a removal, which write the record themselves.
        let timer = tokio::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            // A container that is gone meanwhile has no record.
            let _ = handle.run(|owner| owner.record_failed_start().map(Ok).boxed()).await;
        });
        if let Some(before) = self.exit_timer.replace(timer.abort_handle()) {
            before.abort();
        }
    }

    async fn record_failed_start(&mut self) {
        let at_rest = !self.status.has_process() && self.status != Status::Removing;
        if at_rest && self.save().await.is_err() {
            self.record_later();
        }
    }

    pub(crate) fn policy_wants(&self, code: u32) -> bool {
        let stopped = self.record.run.as_ref().is_some_and(|run| run.stop_requested);
        restart::should_restart(&self.record.host_config.restart_policy, code, stopped, self.record.restart_count)
    }
}

fn console_size(size: [u32; 2]) -> Option<[u32; 2]> {
    (size != [0, 0]).then_some(size)
}
