//! `GET /distribution/{name}/json`: what a name leads to in its registry.

use gantry_domain::{
    Error, Result,
    image::Descriptor,
    platform::Platform,
    reference::Reference,
    registry::{Distribution, RegistryAuth},
};
use serde::Deserialize;

use crate::{Registries, repository::Document};

/// A config is small.
const MAX_CONFIG: u64 = 8 << 20;

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
}

impl Registries {
    pub(crate) async fn inspect(&self, reference: &Reference, auth: &RegistryAuth) -> Result<Distribution> {
        let repository = self.repository(reference, auth).await?;
        let tag = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag.as_str(),
            (None, None) => "latest",
        };
        let Document { media_type, digest, bytes } = repository.manifest(tag).await?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("invalid manifest: {error}")))?;
        let size = bytes.len() as i64;
        let descriptor = Descriptor { media_type, digest, size, urls: None, annotations: None, platform: None };
        let mut platforms: Vec<Platform> = manifest.manifests.into_iter().filter_map(|one| one.platform).collect();
        if let Some(config) = manifest.config {
            let bytes = repository.small_blob(&config.digest, MAX_CONFIG).await?;
            // A chart has a config too, and no platform.
            platforms.extend(serde_json::from_slice::<Platform>(&bytes).ok().filter(|one| !one.os.is_empty()));
        }
        Ok(Distribution { descriptor, platforms })
    }
}
