//! `DELETE /containers/{id}`: a durable tombstone, then everything the container has, then the 2xx.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::FutureExt as _;
use gantry_domain::{ErrorKind, Result, container::Status, ports::Write, volume::VolumeRecord};

use super::{
    ContainerDelete,
    kill::kill_and_wait,
    owner::{Handle, Hurry, Owner, Removal},
};
use crate::{Engine, parts::detached};

/// Each step of a removal; one that hangs is gone on with after the answer.
const STEP_LIMIT: Duration = Duration::from_secs(15);

impl Engine {
    /// Removes a container; with `force` a running one is killed first. A client's hang-up does not cut it short.
    pub async fn container_delete(&self, name: &str, request: ContainerDelete) -> Result<()> {
        if request.link {
            return self.link_delete(name).await;
        }
        let handle = self.parts.container(name)?;
        let typed = name.to_owned();
        let work = async move {
            // One that asks first gives way to a restart under way.
            let _removal = request.force.then(|| Removal::new(&handle));
            let _hurry = request.force.then(|| Hurry::new(&handle));
            let status = handle.snapshot().status;
            if status == Status::Removing {
                return handle.snapshot().may_remove(&typed);
            }
            if !request.force {
                handle.snapshot().may_remove(&typed)?;
            } else if status == Status::Restarting {
                // The back-off may end meanwhile; then there is a process, and it is killed below. Where the end of the
                // back-off cannot be written (a full disk) the removal ends it.
                let _ = handle.run(|owner| owner.cancel_restart().boxed()).await;
            }
            let removed = loop {
                if request.force && handle.snapshot().status.has_process() {
                    kill(&handle, &typed).await?;
                }
                let typed = typed.clone();
                let tried = handle.run(move |owner| owner.remove_by_request(typed, request).boxed()).await;
                // A start that was queued before the removal came.
                if tried.is_ok() || !(request.force && handle.snapshot().status.has_process()) {
                    break tried;
                }
            };
            match removed {
                // Auto-remove or another client was first: it is gone, as was asked.
                Err(error) if error.is_not_found() => Ok(()),
                other => other,
            }
        };
        detached(work).await
    }
}

async fn kill(handle: &Arc<Handle>, typed: &str) -> Result<()> {
    match kill_and_wait(handle).await {
        Err(error) if handle.snapshot().status.has_process() => {
            Err(error.context(format!("cannot remove container \"{typed}\": could not kill container")))
        }
        _ => Ok(()),
    }
}

impl Owner {
    async fn remove_by_request(&mut self, typed: String, request: ContainerDelete) -> Result<()> {
        if !(request.force && self.status == Status::Restarting) {
            self.snapshot().may_remove(&typed)?;
        }
        self.remove(request.volumes).await
    }

    /// Removes the container. After the tombstone there is no way back: what fails is tried again by the sweeps.
    pub(crate) async fn remove(&mut self, volumes: bool) -> Result<()> {
        let before = self.status;
        self.status = Status::Removing;
        self.publish();
        let id = self.record.id.clone();
        let store = self.parts.ports.store.clone();
        let doomed = match self.decide_removal(volumes).await {
            Ok(doomed) => doomed,
            Err(error) => {
                self.status = before;
                self.publish();
                return Err(error);
            }
        };
        for task in [self.supervisor.take(), self.restart_timer.take(), self.exit_timer.take()].into_iter().flatten() {
            task.abort();
        }
        let mut hangs = false;
        self.end_copies(Duration::ZERO).await;
        if self.has_run || !self.parts.debts.of_container(&id).is_empty() {
            self.tear_down().await;
            hangs = !self.unmount(&doomed).await || self.has_run;
        }
        if let Some(timer) = self.leftover_timer.take() {
            timer.abort();
        }
        // What hangs (a process that no signal ends, a mount) keeps neither the name nor the addresses: it is gone on
        // with, by the tombstone, and everything that bears the id with it.
        hangs = hangs || self.taken_away().await?;
        self.parts.claims.lock().release(&id);
        for volume in doomed.iter().filter(|_| !hangs) {
            if let Err(error) = crate::volume::finish(&self.parts, &volume.name).await {
                tracing::warn!(container = %id, volume = %volume.name, %error, "left for the reconciliation");
            }
        }
        if hangs {
            crate::sweep::finish_removal(self.parts.clone(), id, doomed);
        } else if !self.parts.unfinished.lock().contains(&id) {
            // Not waited for: a tombstone that is found again has nothing left to do.
            tokio::spawn(async move {
                if let Err(error) = store.commit(vec![Write::ContainerGone { id }]).await {
                    tracing::debug!(%error, "the tombstone stays");
                }
            });
        }
        super::health::forget(&self.parts, &self.record.id).await;
        self.parts.execs.container_removed(&self.record.id);
        self.parts.containers.write().remove(&self.record.id);
        self.pending.clear();
        self.removed = true;
        self.event("destroy", &[]);
        self.advance(|now| {
            now.running = false;
            now.removed = true;
        });
        Ok(())
    }

    /// A removal that failed, once more; one that a client has asked for again meanwhile is no longer dead.
    pub(crate) async fn remove_dead(&mut self) -> Result<()> {
        if self.status == Status::Dead { self.remove(false).await } else { Ok(()) }
    }

    /// Whether a step hangs; one that fails makes the container `dead`.
    async fn taken_away(&mut self) -> Result<bool> {
        match self.take_away().await {
            Ok(()) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                tracing::warn!(container = %self.record.id, %error, "the removal is finished after its answer");
                Ok(true)
            }
            // containerd needs room to take something out of its database. The container has ended, and its name is
            // free: making room must not need room.
            Err(error) if error.is_no_space() => {
                tracing::warn!(container = %self.record.id, %error, "taken away when there is room");
                self.parts.unfinished.lock().insert(self.record.id.clone());
                Ok(false)
            }
            Err(error) => {
                self.record.dead = true;
                self.status = Status::Dead;
                self.publish();
                Err(error.context(format!("cannot remove container \"/{}\"", self.record.name)))
            }
        }
    }

    /// Root file system and files.
    async fn take_away(&self) -> Result<()> {
        let id = &self.record.id;
        let (ports, handle) = (&self.parts.ports, &self.handle);
        let (container, files) = tokio::join!(
            handle.bounded(STEP_LIMIT, "removing the root file system", ports.runtime.delete_container(id)),
            handle.bounded(STEP_LIMIT, "removing the container's files", ports.files.remove(id)),
        );
        container.and(files)
    }

    /// Volumes that are claimed no more, and so are no part of the tear-down. Whether all went well.
    async fn unmount(&self, volumes: &[VolumeRecord]) -> bool {
        let mut all = true;
        for volume in volumes {
            let unmounted = self.parts.ports.volumes.unmount(volume, &self.record.id);
            if let Err(error) = self.handle.bounded(STEP_LIMIT, "unmounting a volume", unmounted).await {
                tracing::warn!(container = %self.record.id, volume = %volume.name, %error, "a volume is left mounted");
                all = false;
            }
        }
        all
    }

    /// The tombstones, in one write: of the container, and of the anonymous volumes that no other container has.
    async fn decide_removal(&mut self, volumes: bool) -> Result<Vec<VolumeRecord>> {
        let points = self.record.mounts.iter().filter(|point| volumes && point.anonymous);
        let names: BTreeSet<&String> = points.map(|point| &point.name).collect();
        // Nobody else takes one of them before the tombstones are durable.
        let mut turns = Vec::new();
        for name in &names {
            turns.push(self.parts.volume_turns.take(name).await);
        }
        let doomed: Vec<VolumeRecord> = {
            let claims = self.parts.claims.lock();
            let alone = |name: &&&String| claims.volume_users(name).iter().all(|user| *user == self.record.id);
            names.iter().filter(alone).filter_map(|name| claims.volumes.get(*name)).cloned().collect()
        };
        let mut writes = vec![Write::ContainerTombstone { id: self.record.id.clone() }];
        writes.extend(doomed.iter().map(|volume| Write::VolumeTombstone { name: volume.name.clone() }));
        // What plugins have lent outlives the record as a debt.
        self.parts.owe(self.marked(), writes).await?;
        self.unmark();
        let mut claims = self.parts.claims.lock();
        doomed.iter().for_each(|volume| claims.volume_goes(&volume.name));
        Ok(doomed)
    }
}
