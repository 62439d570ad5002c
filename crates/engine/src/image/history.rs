//! `GET /images/{name}/history`.

use gantry_domain::{Error, Result, platform::Platform};

use super::{ImageHistory, catalog};
use crate::Engine;

impl Engine {
    /// Newest first; a layer's size is what it holds unpacked.
    pub async fn image_history(&self, name: &str, platform: Option<Platform>) -> Result<Vec<ImageHistory>> {
        let details = self.image_details(name, platform).await?;
        let image = details.image.ok_or_else(|| Error::not_found(format!("No such image: {name}")))?;
        let layers = self.parts.catalog.layers().await?;
        let top = self.parts.ports.images.chain_id(&image);
        let mut sizes: Vec<i64> = catalog::chain(&layers, &top).iter().map(|layer| layer.size as i64).collect();
        let mut lines: Vec<ImageHistory> = Vec::new();
        for entry in image.config.history.iter().rev() {
            let size = if entry.empty_layer || sizes.is_empty() { 0 } else { sizes.remove(0) };
            lines.push(ImageHistory {
                id: "<missing>".into(),
                created: entry.created.map_or(0, gantry_domain::GoTime::unix),
                created_by: entry.created_by.clone(),
                tags: None,
                size,
                comment: entry.comment.clone(),
            });
        }
        if let Some(first) = lines.first_mut() {
            first.id = details.id.to_string();
            first.tags = Some(details.repo_tags).filter(|tags| !tags.is_empty());
        }
        Ok(lines)
    }
}
