//! `POST /images/prune`: images without a name, or all that no container uses.

use gantry_domain::{Error, Result, event::EventType, filter::Filters};

use super::{
    ImageList, ImagesPruned,
    delete::prune_one,
    list::{prune_labels_match, until},
};
use crate::Engine;

impl Engine {
    pub async fn image_prune(&self, filters: &Filters) -> Result<ImagesPruned> {
        filters.check_keys(&["dangling", "label", "label!", "until"])?;
        let dangling_only = filters.bool_or("dangling", true)?;
        let until = until(filters)?;
        let _one = self
            .parts
            .pruning
            .images
            .try_lock()
            .map_err(|_| Error::conflict("a prune operation is already running"))?;
        let before = self.parts.catalog.total_size().await?;
        let mut pruned = ImagesPruned::default();
        for image in self.image_list(ImageList::default()).await? {
            let labels = image.image.as_ref().and_then(|image| image.config.config.labels.clone()).unwrap_or_default();
            let chosen = image.containers == 0
                && (!dangling_only || image.is_dangling())
                && until.is_none_or(|until| image.last_tagged.0.is_some_and(|named| named < until))
                && prune_labels_match(filters, &labels);
            if !chosen {
                continue;
            }
            // Names first, so that a name that was given meanwhile keeps the image; then what only a digest names.
            let names = image.repo_tags.iter().chain(&image.repo_digests).map(String::as_str);
            for target in names.chain([image.id.as_str()]) {
                match prune_one(&self.parts, target).await {
                    Ok(lines) => pruned.deleted.extend(lines),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => tracing::info!(image = target, %error, "not pruned"),
                }
            }
        }
        if until.is_none() && !filters.contains("label") && !filters.contains("label!") {
            pruned.reclaimed = self.parts.ports.images.forget_partial_pulls().await?;
        }
        let after = self.parts.catalog.total_size().await?;
        pruned.reclaimed += u64::try_from(before - after).unwrap_or(0);
        crate::system::prune_event(&self.parts, EventType::Image, pruned.reclaimed);
        Ok(pruned)
    }
}
