//! `POST /images/create?fromSrc=-`: an archive becomes the one layer of a new image.

use bytes::Bytes;
use gantry_domain::{
    Digest, Result,
    image::{ImageRunConfig, changes},
    platform::Platform,
    ports::ByteStream,
};
use serde_json::json;

use super::{ImageImport, catalog, tag};
use crate::Engine;

impl Engine {
    /// Returns the new image's id.
    pub async fn image_import(&self, archive: ByteStream, request: ImageImport) -> Result<Digest> {
        let name = if request.repo.is_empty() { None } else { Some(tag::new_reference(&request.repo, &request.tag)?) };
        let mut run = ImageRunConfig::default();
        changes::apply_all(&mut run, &request.changes)?;
        let config = config(&run, &request)?;
        let (target, lease) = self.parts.ports.images.import(archive, config).await?;
        let stored = match &name {
            Some(name) => name.canonical(),
            None => catalog::dangling_name(&target.digest),
        };
        let named = tag::point(&self.parts, &stored, &target).await;
        let released = self.parts.ports.images.release_lease(lease).await;
        named.and(released)?;
        let shown = name.map_or_else(|| target.digest.to_string(), |name| name.familiar());
        tag::publish(&self.parts, "import", target.digest.as_str(), &shown);
        Ok(target.digest)
    }
}

fn config(run: &ImageRunConfig, request: &ImageImport) -> Result<Bytes> {
    let platform = request.platform.clone().unwrap_or_else(Platform::host);
    let now = jiff::Timestamp::now().to_string();
    let comment = if request.message.is_empty() { "Imported from -" } else { &request.message };
    let mut config = json!({
        "created": now,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": changes::as_json(run),
        "rootfs": { "type": "layers", "diff_ids": [] },
        "history": [{ "created": now, "comment": comment }],
    });
    if !platform.variant.is_empty() {
        config["variant"] = platform.variant.into();
    }
    Ok(Bytes::from(config.to_string()))
}
