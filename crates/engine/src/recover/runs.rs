//! The runs that an earlier gantryd left: joined, worked off or undone; and those that the policies begin.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::FutureExt as _;
use gantry_domain::{
    ContainerId,
    container::{ContainerRecord, Exit, record::Desired, restart},
    ports::{TaskInfo, TaskStatus},
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    Engine,
    container::{Starts, UNSEEN, await_donors, owner::Handle},
};

impl Engine {
    /// A shim that did not answer in time. Taken for dead, its container would be killed.
    pub(super) fn may_be_alive(&self, task: &TaskInfo, record: &ContainerRecord) -> bool {
        let same_boot = record.run.as_ref().is_some_and(|run| run.boot_id == self.parts.boot_id && run.pid != 0);
        task.status == TaskStatus::Unknown && was_running(record) && same_boot
    }

    /// A container that ran on while gantryd was dead.
    pub(super) async fn rejoin(&self, handle: &Arc<Handle>, task: TaskInfo) {
        let id = handle.id.clone();
        let joined = handle.run(move |owner| async move { owner.rejoin(&task).await }.boxed()).await;
        if let Err(error) = joined {
            self.parts.warn(format!("WARNING: container {} runs but could not be joined whole: {error}", id.short()));
        }
    }

    /// A run whose end is on record, and that a kill kept from being taken away.
    pub(super) async fn clear_away(&self, handle: &Arc<Handle>) {
        let cleared = handle.run(|owner| owner.clear_away().boxed()).await;
        if let Err(error) = cleared {
            tracing::warn!(container = %handle.id, %error, "an ended run is left for the next verb");
        }
    }

    pub(super) async fn work_off(&self, handle: &Arc<Handle>, exit: Exit) {
        let number = handle.snapshot().record.run.as_ref().map_or(0, |run| run.number);
        let worked = handle.run(move |owner| owner.exited_unseen(number, exit).boxed()).await;
        if let Err(error) = worked {
            tracing::warn!(container = %handle.id, %error, "an exit is left for the reconciliation");
        }
    }

    /// Starts that were cut off before they were written down: their ports and namespaces are given back, or the next
    /// start would find them taken.
    pub(super) async fn undo_cut_off_starts(&self) {
        let ports = &self.parts.ports;
        let made = [ports.network.sandboxes().await, ports.stdio.sessions().await, ports.volumes.part_users().await];
        let mut made: HashSet<ContainerId> = made.into_iter().flat_map(Result::unwrap_or_default).collect();
        // Runs that are over and whose plugins were not told.
        let marked = |record: &ContainerRecord| {
            record.run.iter().flat_map(|run| run.endpoints.values()).any(|endpoint| endpoint.lent.is_some())
        };
        let snapshots = self.parts.snapshots().into_iter();
        made.extend(snapshots.filter(|found| marked(&found.record)).map(|found| found.record.id.clone()));
        for id in made {
            let Some(handle) = self.parts.containers.read().get(&id).cloned() else { continue };
            let undone = handle.run(|owner| owner.undo_unwritten_start().boxed()).await;
            if let Err(error) = undone {
                tracing::warn!(container = %id, %error, "a start that was cut off is left");
            }
        }
    }

    /// `always` and `unless-stopped` at the engine's start; what needs another container waits for that one's start.
    pub(super) fn start_policies(&self, tasks: &HashMap<ContainerId, TaskInfo>) {
        let mut handles: Vec<Arc<Handle>> = self.parts.containers.read().values().cloned().collect();
        handles.retain(|handle| !tasks.get(&handle.id).is_some_and(is_alive) && starts_at_boot(handle));
        let starts: Starts = handles.iter().map(|handle| (handle.id.clone(), CancellationToken::new())).collect();
        let starts = Arc::new(starts);
        for handle in handles {
            let over = starts[&handle.id].clone().drop_guard();
            let (parts, starts) = (self.parts.clone(), starts.clone());
            // Ends with the start; failures are in the container's state.
            tokio::spawn(async move {
                await_donors(&parts, &handle.snapshot().record, &starts).await;
                if let Err(error) = handle.run_unless_hurried(|owner| owner.start_at_boot().boxed()).await {
                    tracing::warn!(container = %handle.id, %error, "the start at boot failed");
                }
                drop(over);
            });
        }
    }
}

fn starts_at_boot(handle: &Handle) -> bool {
    let snapshot = handle.snapshot();
    let record = &snapshot.record;
    let exit = record.run.as_ref().and_then(|run| run.exit).map(|exit| exit.code);
    let was_running = record.desired == Desired::Running;
    let policy = &record.host_config.restart_policy;
    !snapshot.status.is_running()
        && record.runs > 0
        && restart::should_start_at_boot(policy, exit, was_running, record.manually_stopped)
}

pub(super) fn was_running(record: &ContainerRecord) -> bool {
    record.run.as_ref().is_some_and(|run| run.exit.is_none())
}

pub(super) fn is_alive(task: &TaskInfo) -> bool {
    matches!(task.status, TaskStatus::Running | TaskStatus::Paused)
}

pub(super) fn unseen() -> Exit {
    Exit { code: UNSEEN, at: Timestamp::now(), oom_killed: false }
}
