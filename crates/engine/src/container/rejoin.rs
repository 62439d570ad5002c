//! A container that ran on, or ended, while gantryd was dead.

use std::time::Duration;

use gantry_domain::{
    ErrorKind, GoTime, Result,
    container::{Exit, Run, Status, log_shipment::LogShipment, record::Desired},
    ports::{TaskInfo, TaskStatus},
};
use jiff::Timestamp;

use super::owner::Owner;
use crate::parts::within;

/// What the companion had not yet read when gantryd came back.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
const TASK_LIMIT: Duration = Duration::from_secs(5);

impl Owner {
    /// Takes a living task back under care: companion, sandbox, exit.
    pub(crate) async fn rejoin(&mut self, task: &TaskInfo) -> Result<()> {
        self.has_run = true;
        let now = Timestamp::now();
        let boot_id = self.parts.boot_id.clone();
        let run = self.record.run.get_or_insert_with(|| Run { number: 1, boot_id, ..Run::default() });
        if run.started.is_zero() {
            // Killed between Tasks.Start and the write of it.
            run.started = GoTime::from(now);
        }
        run.exit = None;
        // A shim that does not answer leaves it at what was known.
        if task.status != TaskStatus::Unknown {
            run.pid = task.pid;
            run.paused = task.status == TaskStatus::Paused;
        }
        let pid = run.pid;
        self.record.runs = self.record.runs.max(run.number);
        self.record.desired = Desired::Running;
        self.pid = pid;
        self.status = if run.paused { Status::Paused } else { Status::Running };
        if self.status == Status::Running {
            self.watch_health();
        }
        self.publish();
        self.advance(|progress| progress.running = true);
        // Whatever is missing, the exit is waited for.
        let stdio = self.parts.ports.stdio.adopt(&self.stdio_setup()).await;
        let shipped = match LogShipment::of(&self.record) {
            Ok(Some(shipment)) => self.parts.ports.files.ship_log(&shipment).await,
            _ => Ok(()),
        };
        if let Err(error) = self.mend_lent().await {
            tracing::warn!(container = %self.record.id, %error, "half a connection to a plugin's network is left");
        }
        let sandbox = match self.sandbox_setup() {
            Ok(Some(setup)) => match self.parts.ports.network.adopt_sandbox(&setup).await {
                Ok(()) => self.resolve_rejoined().await,
                failed => failed,
            },
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.supervise();
        stdio.and(sandbox).and(shipped)?;
        if self.record.run.as_ref().is_some_and(|run| run.paused_by_commit) {
            // The commit that paused it died with the gantryd before this one.
            return self.unpause_after_commit().await;
        }
        self.save().await
    }

    /// The end of the run is durable, what it has was not taken away yet: that is done now, and auto-remove obeyed.
    pub(crate) async fn clear_away(&mut self) -> Result<()> {
        self.tear_down().await;
        if self.status == Status::Exited && self.record.host_config.auto_remove {
            self.remove_quietly().await;
        }
        Ok(())
    }

    /// An exit that nobody saw. A run that never began its process is a start that was cut off: it is undone.
    pub(crate) async fn exited_unseen(&mut self, number: u64, exit: Exit) -> Result<()> {
        self.has_run = true;
        let setup = self.stdio_setup();
        let began = self.record.run.as_ref().is_some_and(|run| !run.started.is_zero());
        let task = within(TASK_LIMIT, "looking for the task", self.parts.ports.runtime.task(&self.record.id)).await;
        let has_process = match task {
            // It was not in the list, or did not answer in time: that is no end.
            Ok(Some(task)) if matches!(task.status, TaskStatus::Running | TaskStatus::Paused) => {
                return self.rejoin(&task).await;
            }
            // A task that was made and not started has no process of the container's yet.
            Ok(task) => task.is_some_and(|task| task.status != TaskStatus::Created),
            // There is one that does not answer.
            Err(error) if error.kind() == ErrorKind::Cancelled => true,
            Err(error) => return Err(error),
        };
        if !began && !has_process {
            return self.undo_cut_off_start().await;
        }
        self.record.runs = self.record.runs.max(number);
        self.status = Status::Running;
        if let Some(run) = self.record.run.as_mut()
            && run.started.is_zero()
        {
            run.started = GoTime::from(exit.at);
        }
        let same_boot = self.record.run.as_ref().is_some_and(|run| run.boot_id == self.parts.boot_id);
        if same_boot {
            let drained = async {
                self.parts.ports.stdio.adopt(&setup).await?;
                self.parts.ports.stdio.drained(&self.record.id).await
            };
            if let Err(error) = within(DRAIN_LIMIT, "reading the last output", drained).await {
                tracing::warn!(container = %self.record.id, %error, "output may be missing");
            }
        }
        self.exited(number, exit).await
    }

    async fn undo_cut_off_start(&mut self) -> Result<()> {
        self.tear_down().await;
        self.record.run = self.record.run.take().filter(|run| run.endpoints.values().any(|at| at.lent.is_some()));
        self.record.desired = Desired::Stopped;
        self.status = if self.record.runs > 0 { Status::Exited } else { Status::Created };
        self.publish();
        self.save().await
    }

    /// A start that was cut off before its record was written: what it made is taken away.
    pub(crate) async fn undo_unwritten_start(&mut self) -> Result<()> {
        if matches!(self.status, Status::Created | Status::Exited) {
            self.tear_down().await;
        }
        Ok(())
    }

    /// The companion died while the container runs.
    pub(crate) async fn readopt_stdio(&mut self) -> Result<()> {
        if !self.status.has_process() {
            return Ok(());
        }
        self.parts.ports.stdio.adopt(&self.stdio_setup()).await
    }

    /// A client's input has ended (`StdinOnce`).
    pub(crate) async fn close_stdin(&mut self) -> Result<()> {
        if !self.status.has_process() {
            return Ok(());
        }
        self.parts.ports.runtime.close_stdin(&self.record.id, None).await
    }

    /// The kernel killed a process of the container for want of memory.
    pub(crate) async fn out_of_memory(&mut self) -> Result<()> {
        // Of a run that is over the exit has said it already.
        if !std::mem::replace(&mut self.out_of_memory, true) || self.status.has_process() {
            self.event("oom", &[]);
        }
        Ok(())
    }
}
