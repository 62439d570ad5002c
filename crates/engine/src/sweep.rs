//! The reconciliation: every few minutes the host is compared with the records, and what nobody claims is removed.
//!
//! Only what bears our engine id is looked at. It goes when it has a tombstone, or was unclaimed in two passes, and
//! never in the first pass.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::FutureExt as _;
use gantry_domain::{ContainerId, Result, container::Status, ports::Write, volume::VolumeRecord};
use tokio::time::Instant;

use crate::{
    Engine,
    parts::{Parts, within},
};

/// The first two passes follow each other soon: what a killed gantryd left half made is gone seconds after the start.
const FIRST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
const EVERY: Duration = Duration::from_secs(180);
/// How often a removal that found the disk full is tried again.
const UNFINISHED: Duration = Duration::from_secs(5);

/// Each step of taking something away; large root file systems take their time.
const STEP_LIMIT: Duration = Duration::from_secs(15);
const REMOVE_LIMIT: Duration = Duration::from_secs(120);
/// Between two tries to finish a removal whose client has its answer.
const RETRY: Duration = Duration::from_secs(10);

/// A removal that is decided and durable, and in which something hangs: gone on with until it is through, `volumes`
/// that go with the container included.
pub(crate) fn finish_removal(parts: Arc<Parts>, id: ContainerId, volumes: Vec<VolumeRecord>) {
    // Ends with the removal. With the process the tombstones stay, for the next gantryd.
    tokio::spawn(async move {
        while let Err(error) = parts.take_away_with(&id, &volumes).await {
            tracing::warn!(container = %id, %error, "a removal is not through yet");
            tokio::time::sleep(RETRY).await;
        }
        tracing::info!(container = %id, "a removal that hung is through");
    });
}

impl Engine {
    /// Runs for as long as it is awaited.
    pub(crate) async fn sweep(&self) {
        let mut suspects = HashSet::new();
        let waits = FIRST.into_iter().chain(std::iter::repeat(EVERY));
        for wait in waits {
            let next = Instant::now() + wait;
            while Instant::now() < next {
                tokio::time::sleep_until(next.min(Instant::now() + UNFINISHED)).await;
                self.parts.finish_removals().await;
                self.finish_leaving().await;
                crate::network::recover::finish_going(&self.parts).await;
            }
            match self.sweep_once(&suspects).await {
                Ok(found) => suspects = found,
                Err(error) => tracing::warn!(%error, "the reconciliation did not finish"),
            }
            self.parts.execs.forget_stale();
        }
    }

    /// One pass: removes what was a suspect before and is unclaimed still; returns the suspects of this pass.
    pub async fn sweep_once(&self, suspects: &HashSet<ContainerId>) -> Result<HashSet<ContainerId>> {
        self.parts.finish_volumes().await;
        crate::network::recover::finish_going(&self.parts).await;
        self.finish_dead();
        let found = self.parts.unclaimed().await?;
        for id in found.intersection(suspects) {
            tracing::warn!(container = %id, "nobody claims what is left of it: removed");
            if let Err(error) = self.parts.take_away(id).await {
                tracing::warn!(container = %id, %error, "left for the next pass");
            }
        }
        Ok(found)
    }
}

impl Engine {
    /// Containers that are half in a network that they have left.
    async fn finish_leaving(&self) {
        let ids = self.parts.claims.lock().leaving();
        for id in ids {
            let Some(handle) = self.parts.containers.read().get(&id).cloned() else { continue };
            let left = handle.run(|owner| owner.finish_leaving().boxed());
            if let Err(error) = within(STEP_LIMIT, "leaving a network", left).await {
                tracing::debug!(container = %id, %error, "still half in a network");
            }
        }
    }

    /// Containers whose removal failed. Each is a job of its own: nobody waits for one that hangs.
    fn finish_dead(&self) {
        let containers = self.parts.containers.read();
        for handle in containers.values().filter(|handle| handle.snapshot().status == Status::Dead) {
            let handle = handle.clone();
            // Ends with its one job.
            tokio::spawn(async move {
                let removed = handle.run(|owner| owner.remove_dead().boxed()).await;
                if let Err(error) = removed
                    && !error.is_not_found()
                {
                    tracing::warn!(container = %handle.id, %error, "left for the next pass");
                }
            });
        }
    }
}

impl Parts {
    /// Volumes whose removal was decided and did not come to its end.
    async fn finish_volumes(&self) {
        let going: Vec<String> = self.claims.lock().going_volumes.keys().cloned().collect();
        for name in going {
            if let Err(error) = within(REMOVE_LIMIT, "removing a volume", crate::volume::finish(self, &name)).await {
                tracing::warn!(volume = %name, %error, "its removal is left for the next pass");
            }
        }
    }

    /// Takes away what removals had to leave.
    async fn finish_removals(&self) {
        let ids: Vec<ContainerId> = self.unfinished.lock().iter().cloned().collect();
        for id in ids {
            match self.take_away(&id).await {
                Ok(()) => drop(self.unfinished.lock().remove(&id)),
                Err(error) => tracing::debug!(container = %id, %error, "still no room to take it away"),
            }
        }
    }

    /// Ids under which something exists that no record claims.
    async fn unclaimed(&self) -> Result<HashSet<ContainerId>> {
        let ports = &self.ports;
        let (containers, snapshots, sandboxes, sessions, folders, parts) = tokio::try_join!(
            ports.runtime.containers(),
            ports.runtime.container_snapshots(),
            ports.network.sandboxes(),
            ports.stdio.sessions(),
            ports.files.list(),
            ports.volumes.part_users(),
        )?;
        let mut found: HashSet<ContainerId> = containers.into_iter().map(|container| container.id).collect();
        found.extend(snapshots.into_iter().chain(sandboxes).chain(sessions).chain(folders).chain(parts));
        // A container that is being made has its name already.
        let claimed = self.containers.read();
        let claims = self.claims.lock();
        found.retain(|id| !claimed.contains_key(id) && !claims.is_being_made(id) && !claims.kept.has_container(id));
        Ok(found)
    }

    async fn take_away_with(&self, id: &ContainerId, volumes: &[VolumeRecord]) -> Result<()> {
        for volume in volumes {
            within(STEP_LIMIT, "unmounting a volume", self.ports.volumes.unmount(volume, id)).await?;
            within(REMOVE_LIMIT, "removing a volume", crate::volume::finish(self, &volume.name)).await?;
        }
        self.take_away(id).await
    }

    /// Takes away everything that bears this id, and the tombstone with it. May be repeated. Ends also where a step
    /// hangs.
    pub(crate) async fn take_away(&self, id: &ContainerId) -> Result<()> {
        let ports = &self.ports;
        if within(STEP_LIMIT, "taking a task away", ports.runtime.delete_task(id, None)).await.is_err() {
            within(STEP_LIMIT, "giving a shim up", ports.runtime.abandon_task(id)).await?;
        }
        for debt in self.debts.of_container(id) {
            self.return_interface(&debt).await;
        }
        within(STEP_LIMIT, "taking a namespace away", ports.network.delete_sandbox(id)).await?;
        within(STEP_LIMIT, "giving ports back", ports.network.release_ports(id)).await?;
        within(STEP_LIMIT, "closing streams", ports.stdio.close(id)).await?;
        within(STEP_LIMIT, "unmounting parts of volumes", ports.volumes.unmount_parts(id)).await?;
        within(REMOVE_LIMIT, "removing a root file system", ports.runtime.delete_container(id)).await?;
        within(REMOVE_LIMIT, "removing a container's files", ports.files.remove(id)).await?;
        crate::container::forget_health(self, id).await;
        ports.store.commit(vec![Write::ContainerGone { id: id.clone() }]).await
    }
}
