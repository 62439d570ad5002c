//! The records that were found: their claims, half-done removals and creations, and what a damaged store has lost.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use gantry_domain::{
    container::{ContainerRecord, Status},
    ports::{Loaded, Write},
    volume::ANONYMOUS_LABEL,
};

use crate::{
    Engine,
    container::retake,
    parts::{Parts, within},
};

/// What a start waits for removals that were decided before it.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);
const REMOVALS: usize = 8;

impl Engine {
    /// Tombstones that were found: the removal is done again, whole.
    pub(super) async fn finish_removals(&self, loaded: &Loaded) {
        let removals = loaded.container_tombstones.iter().map(|id| async move {
            // One that hangs holds nobody up: its name and addresses are free.
            let taken = within(REMOVAL_LIMIT, "finishing a removal", self.parts.take_away(id)).await;
            if let Err(error) = taken {
                tracing::warn!(container = %id, %error, "a removal is gone on with");
                crate::sweep::finish_removal(self.parts.clone(), id.clone(), Vec::new());
            }
        });
        futures::stream::iter(removals).for_each_concurrent(REMOVALS, |removal| removal).await;
        for name in &loaded.volume_tombstones {
            self.parts.claims.lock().going_volumes.insert(name.clone(), "local".to_owned());
            if let Err(error) = crate::volume::finish(&self.parts, name).await {
                tracing::warn!(volume = %name, %error, "a removal is left for the reconciliation");
            }
        }
        crate::network::recover::finish_removals(&self.parts, loaded).await;
    }

    /// Volumes whose folder is whole and whose record was cut off by a kill: they are made whole, but for those that
    /// were made for a container alone, which is gone too.
    pub(super) async fn adopt_volumes(&self, loaded: &Loaded) {
        // A log that was lost or damaged says nothing on what there was.
        let complete = loaded.damage.is_empty() && !loaded.networks.is_empty();
        for volume in self.parts.ports.volumes.found().await.unwrap_or_default() {
            let known = {
                let claims = self.parts.claims.lock();
                claims.volumes.contains_key(&volume.name) || claims.kept.has_volume(&volume.name)
            };
            if known || loaded.volume_tombstones.contains(&volume.name) {
                continue;
            }
            if complete && volume.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS_LABEL)) {
                if let Err(error) = self.parts.ports.volumes.remove(&volume.name).await {
                    tracing::warn!(volume = %volume.name, %error, "half a volume is left");
                }
            } else if self.parts.ports.store.commit(vec![Write::Volume(volume.clone())]).await.is_ok() {
                self.parts.claims.lock().volumes.insert(volume.name.clone(), volume);
            }
        }
    }

    /// After damage: containers that containerd knows and the store does not.
    pub(super) async fn rebuild(&self, loaded: &Loaded) {
        // An engine that ever ran has its networks on record: with nothing at all the records are lost.
        let lost = loaded.networks.is_empty() && loaded.containers.is_empty();
        if loaded.damage.is_empty() && !lost {
            return;
        }
        let mut taken = 0;
        let copies = self.parts.ports.runtime.containers().await.unwrap_or_default();
        for copy in copies {
            if self.parts.claims.lock().kept.has_container(&copy.id) {
                let held = copy.record.unwrap_or_default();
                crate::kept::claim_held(&mut self.parts.claims.lock(), &copy.id, &held);
                continue;
            }
            let known =
                self.parts.containers.read().contains_key(&copy.id) || loaded.container_tombstones.contains(&copy.id);
            let record = copy.record.and_then(|bytes| serde_json::from_slice::<ContainerRecord>(&bytes).ok());
            let Some(record) = record.filter(|record| record.id == copy.id) else { continue };
            let owner = self.parts.containers.read().get(&copy.id).cloned();
            if let Some(owner) = owner {
                let status = status_at_rest(&record);
                if let Err(error) = owner.run(move |owner| owner.take_newer(record, status).boxed()).await {
                    tracing::warn!(container = %copy.id, %error, "a newer copy of its record is not taken");
                }
                continue;
            }
            if known {
                continue;
            }
            if self.parts.ports.store.commit(vec![Write::Container(Box::new(record.clone()))]).await.is_ok() {
                claim_container(&self.parts, &record);
                self.adopt_record(record);
                taken += 1;
            }
        }
        if taken > 0 {
            self.parts
                .warn(format!("WARNING: the records of {taken} container(s) were lost and taken from containerd"));
        }
    }
}

pub(super) fn claim(parts: &Parts, loaded: &Loaded) {
    {
        let mut claims = parts.claims.lock();
        claims.volumes.extend(loaded.volumes.iter().map(|volume| (volume.name.clone(), volume.clone())));
        claims.networks.extend(loaded.networks.iter().map(|network| (network.id.clone(), network.clone())));
    }
    for record in &loaded.containers {
        claim_container(parts, record);
    }
    loaded.kept.iter().for_each(|kept| crate::kept::claim(&mut parts.claims.lock(), kept));
}

fn claim_container(parts: &Parts, record: &ContainerRecord) {
    let mut claims = parts.claims.lock();
    if let Err(error) = claims.take_name(&record.name, &record.id) {
        tracing::error!(container = %record.id, %error, "two records have one name");
    }
    for point in record.mounts.iter().filter(|point| point.kind == "volume") {
        claims.use_volume(&point.name, &record.id);
    }
    claims.use_level(&record.process_label, &record.id);
    if let Some(image) = &record.image.id {
        claims.use_image(image, &record.id);
    }
    for image in crate::container::mounted_images(record) {
        claims.use_image(&image, &record.id);
    }
    if let Some(run) = record.run.as_ref().filter(|run| run.exit.is_none()) {
        retake(&mut claims, &record.id, &run.endpoints);
    }
}

/// The status of a record before anybody has looked at containerd.
pub(super) fn status_at_rest(record: &ContainerRecord) -> Status {
    match &record.run {
        _ if record.dead => Status::Dead,
        _ if record.runs > 0 => Status::Exited,
        Some(run) if run.exit.is_none() && !run.started.is_zero() => Status::Exited,
        _ => Status::Created,
    }
}
