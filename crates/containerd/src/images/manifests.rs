//! Every manifest that an image's index names, also those that are not here: what `docker image ls --tree` draws.

use std::collections::HashSet;

use gantry_domain::{
    Result,
    image::{Descriptor, ManifestEntry, ManifestKind, PlatformImage},
};

use super::{
    content::Content,
    documents::{self, Document, Manifest},
    platforms::{self, Found},
};

pub async fn manifests(content: &Content, target: &Descriptor) -> Result<Vec<ManifestEntry>> {
    let found = platforms::walk(content, target).await?;
    let here = platforms::platforms(content, target).await?;
    let mut entries = Vec::new();
    for descriptor in named(target, &found) {
        let manifest = found.iter().find_map(|one| match &one.document {
            Document::Manifest(manifest) if one.descriptor.digest == descriptor.digest => Some(manifest.as_ref()),
            _ => None,
        });
        let image = here.iter().find(|image| image.manifest.digest == descriptor.digest).cloned();
        entries.push(entry(content, descriptor, manifest, image).await?);
    }
    Ok(entries)
}

/// In the order of the indexes, each once.
fn named(target: &Descriptor, found: &[Found]) -> Vec<Descriptor> {
    if documents::is_manifest(&target.media_type) {
        return vec![target.clone()];
    }
    let mut seen = HashSet::new();
    let children = found.iter().filter_map(|one| match &one.document {
        Document::Index(children) => Some(children),
        Document::Manifest(_) => None,
    });
    let manifests = children.flatten().filter(|child| documents::is_manifest(&child.media_type));
    manifests.filter(|child| seen.insert(child.digest.clone())).cloned().collect()
}

async fn entry(
    content: &Content,
    descriptor: Descriptor,
    manifest: Option<&Manifest>,
    image: Option<PlatformImage>,
) -> Result<ManifestEntry> {
    let (mut bytes, mut available) = (0, manifest.is_some());
    if let Some(manifest) = manifest {
        bytes += descriptor.size;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            match content.size(&blob.digest).await? {
                Some(size) => bytes += size as i64,
                None => available = false,
            }
        }
    }
    let kind = match documents::attested(&descriptor) {
        Some(subject) => ManifestKind::Attestation(subject),
        // One that is not here says nothing against being an image.
        None if image.is_some() || !available => ManifestKind::Image,
        None => ManifestKind::Unknown,
    };
    Ok(ManifestEntry { descriptor, kind, available, content: bytes, image })
}
