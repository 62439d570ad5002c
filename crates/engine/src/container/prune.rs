//! `POST /containers/prune`: every container that does not run and that the filters let through.

use gantry_domain::{Error, Result, container::Status, filter::Filters};

use super::{ContainerDelete, Pruned};
use crate::Engine;

impl Engine {
    pub async fn container_prune(&self, filters: &Filters) -> Result<Pruned> {
        filters.check_keys(&["label", "label!", "until"])?;
        let until = crate::image::until(filters)?;
        let _one = self
            .parts
            .pruning
            .containers
            .try_lock()
            .map_err(|_| Error::conflict("a prune operation is already running"))?;
        let mut pruned = Pruned::default();
        for snapshot in self.snapshots() {
            let record = &snapshot.record;
            let labels = record.config.labels.clone().unwrap_or_default();
            let stopped = matches!(snapshot.status, Status::Created | Status::Exited | Status::Dead);
            let old = until.is_none_or(|until| record.created < until);
            if !stopped || !old || !crate::image::prune_labels_match(filters, &labels) {
                continue;
            }
            let size = self.parts.ports.runtime.root_usage(&record.id).await.unwrap_or_default();
            match self.container_delete(record.id.as_str(), ContainerDelete::default()).await {
                Ok(()) => {
                    pruned.deleted.push(record.id.to_string());
                    pruned.reclaimed += size;
                }
                Err(error) => tracing::warn!(container = %record.id, %error, "not pruned"),
            }
        }
        crate::system::prune_event(&self.parts, gantry_domain::event::EventType::Container, pruned.reclaimed);
        Ok(pruned)
    }
}
