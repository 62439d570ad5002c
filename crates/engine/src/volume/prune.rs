//! `POST /volumes/prune`.

use gantry_domain::{Error, Result, container::validate::ApiVersion, event::EventType, filter::Filters, volume::LOCAL};

use crate::{Engine, container::Pruned};

/// From this version on only anonymous volumes go, unless `all` is asked for.
const ANONYMOUS_ONLY: ApiVersion = ApiVersion(1, 42);

impl Engine {
    /// Removes volumes that no container has. One of a plugin, or with driver options, is never pruned, as in
    /// dockerd.
    pub async fn volume_prune(&self, filters: &Filters, api: ApiVersion) -> Result<Pruned> {
        filters.check_keys(if api >= ANONYMOUS_ONLY { &["label", "label!", "all"] } else { &["label", "label!"] })?;
        let all = api < ANONYMOUS_ONLY || filters.bool_or("all", false)?;
        let _one = self
            .parts
            .pruning
            .volumes
            .try_lock()
            .map_err(|_| Error::conflict("a prune operation is already running"))?;
        let volumes: Vec<_> = self.parts.claims.lock().volumes.values().cloned().collect();
        let mut pruned = Pruned::default();
        for volume in volumes {
            let labels = volume.labels.clone().unwrap_or_default();
            let has_options = volume.options.as_ref().is_some_and(|options| !options.is_empty());
            let chosen = volume.driver == LOCAL
                && (all || volume.is_anonymous())
                && crate::image::prune_labels_match(filters, &labels);
            if !chosen || has_options || !self.parts.claims.lock().volume_users(&volume.name).is_empty() {
                continue;
            }
            let size = self.parts.ports.volumes.usage(&volume).await.unwrap_or_default();
            match super::remove(&self.parts, &volume.name).await {
                Ok(()) => {
                    pruned.deleted.push(volume.name);
                    pruned.reclaimed += size;
                }
                Err(error) => tracing::warn!(volume = %volume.name, %error, "not pruned"),
            }
        }
        crate::system::prune_event(&self.parts, EventType::Volume, pruned.reclaimed);
        Ok(pruned)
    }
}
