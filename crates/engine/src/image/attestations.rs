//! `GET /images/{name}/attestations`: what BuildKit and its like say of an image, from the manifests beside it.

use gantry_domain::{
    Digest, Error, ErrorKind, Result,
    image::{Descriptor, ManifestEntry, ManifestKind},
    platform::Platform,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{AttestationStatement, ImageAttestations, catalog};
use crate::Engine;

/// Annotation of a layer that is a statement.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
}

impl Engine {
    /// Empty where there are none; `NotFound` for a platform that the image has not, or a statement that was asked for
    /// whole and is not here.
    pub async fn image_attestations(&self, name: &str, wanted: ImageAttestations) -> Result<Vec<AttestationStatement>> {
        let target = self.parts.catalog.resolve(name).await?;
        let entries = self.parts.ports.images.manifests(&target).await?;
        // A manifest by itself has nothing beside it.
        if entries.iter().any(|entry| entry.descriptor.digest == target.digest) {
            return Ok(Vec::new());
        }
        let platform = wanted.platform.clone().unwrap_or_else(Platform::host);
        let image = entries.iter().find(|entry| is_for(entry, &platform)).ok_or_else(|| {
            Error::not_found(format!("resolving image manifest for platform {platform}: no manifest found: not found"))
        })?;
        let about = ManifestKind::Attestation(image.descriptor.digest.clone());
        let Some(attestation) = entries.iter().find(|entry| entry.kind == about) else { return Ok(Vec::new()) };
        let bytes = self.parts.ports.images.blob(&attestation.descriptor.digest).await?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| {
            Error::system(format!("unmarshaling manifest {}: {error}", attestation.descriptor.digest))
        })?;
        let mut statements = Vec::new();
        for layer in manifest.layers {
            let Some(predicate_type) = predicate_type(&layer, &wanted.types) else { continue };
            let statement = if wanted.statement { Some(self.statement(&layer.digest).await?) } else { None };
            statements.push(AttestationStatement { descriptor: layer, predicate_type, statement });
        }
        Ok(statements)
    }

    async fn statement(&self, digest: &Digest) -> Result<Box<RawValue>> {
        let bytes = self.parts.ports.images.blob(digest).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.context(format!("attestation statement {digest} is not available locally")),
            _ => error.context(format!("failed to read attestation statement {digest}")),
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::system(format!("attestation statement {digest} is no JSON: {error}")))
    }
}

fn is_for(entry: &ManifestEntry, platform: &Platform) -> bool {
    let have = entry.image.as_ref().map(|image| &image.platform).or(entry.descriptor.platform.as_ref());
    entry.kind == ManifestKind::Image && have.is_some_and(|have| catalog::fits(have, platform))
}

/// What a layer states, if it is one of the statements that are wanted.
fn predicate_type(layer: &Descriptor, wanted: &[String]) -> Option<String> {
    let kind = layer.annotations.as_ref()?.get(PREDICATE_TYPE).filter(|kind| !kind.is_empty())?;
    (wanted.is_empty() || wanted.contains(kind)).then(|| kind.clone())
}
