//! From an image's target to the platforms that are here: a bounded walk over indexes.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use futures::future::try_join_all;
use gantry_domain::{
    Digest, Error, Result,
    image::{Descriptor, PlatformImage},
    platform::Platform,
};

use super::{
    content::Content,
    documents::{self, Document, Manifest},
    limits::{MAX_IMAGE_DOCUMENTS, MAX_INDEX_DEPTH, MAX_INDEX_DOCUMENTS},
};

/// A document that was found on the way, for labels and for saving.
#[derive(Debug, Clone)]
pub struct Found {
    pub descriptor: Descriptor,
    pub document: Document,
}

/// What reading one image may still cost; a small index can name many large documents.
struct Budget(u64);

impl Budget {
    fn spend(&mut self, bytes: usize) -> Result<()> {
        let left = self.0.checked_sub(bytes as u64);
        self.0 = left.ok_or_else(|| {
            Error::invalid(format!("image leads to more than {MAX_IMAGE_DOCUMENTS} bytes of documents"))
        })?;
        Ok(())
    }
}

/// Every document that `target` leads to and that is here, outer ones first. Attestations are among them.
pub async fn walk(content: &Content, target: &Descriptor) -> Result<Vec<Found>> {
    walk_within(content, target, &mut Budget(MAX_IMAGE_DOCUMENTS)).await
}

async fn walk_within(content: &Content, target: &Descriptor, budget: &mut Budget) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut level = vec![target.clone()];
    for _ in 0..=MAX_INDEX_DEPTH {
        let mut next = Vec::new();
        for descriptor in level {
            if !seen.insert(descriptor.digest.clone()) {
                continue;
            }
            if seen.len() > MAX_INDEX_DOCUMENTS {
                return Err(Error::invalid(format!("index leads to more than {MAX_INDEX_DOCUMENTS} documents")));
            }
            let Some(document) = read(content, &descriptor, budget).await? else { continue };
            if let Document::Index(children) = &document {
                next.extend(children.iter().cloned());
            }
            found.push(Found { descriptor, document });
        }
        if next.is_empty() {
            return Ok(found);
        }
        level = next;
    }
    Err(Error::invalid(format!("indexes are nested more than {MAX_INDEX_DEPTH} deep")))
}

/// `None` when the blob is not here, or is nothing that leads to an image.
async fn read(content: &Content, descriptor: &Descriptor, budget: &mut Budget) -> Result<Option<Document>> {
    if !documents::is_index(&descriptor.media_type) && !documents::is_manifest(&descriptor.media_type) {
        return Ok(None);
    }
    let bytes = match content.read(&descriptor.digest).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    check_size(descriptor, bytes.len())?;
    budget.spend(bytes.len())?;
    documents::parse(&descriptor.media_type, &bytes).map(Some)
}

fn check_size(descriptor: &Descriptor, length: usize) -> Result<()> {
    if descriptor.size == length as i64 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} has {length} bytes where its descriptor says {}",
        descriptor.digest, descriptor.size
    )))
}

/// Every platform of `target` that is here with manifest and config.
pub async fn platforms(content: &Content, target: &Descriptor) -> Result<Arc<Vec<PlatformImage>>> {
    if let Some(images) = content.cache().image(&target.digest) {
        return Ok(images);
    }
    let age = content.cache().age();
    let mut images = Vec::new();
    let mut budget = Budget(MAX_IMAGE_DOCUMENTS);
    for found in walk_within(content, target, &mut budget).await? {
        let Document::Manifest(manifest) = found.document else { continue };
        if documents::is_attestation(&found.descriptor) {
            continue;
        }
        images.extend(platform_image(content, found.descriptor, *manifest, &mut budget).await?);
    }
    let images = Arc::new(images);
    if !images.is_empty() && images.iter().all(|image| image.complete) {
        content.cache().put_image(target.digest.clone(), images.clone(), age);
    }
    Ok(images)
}

async fn platform_image(
    content: &Content,
    descriptor: Descriptor,
    manifest: Manifest,
    budget: &mut Budget,
) -> Result<Option<PlatformImage>> {
    let config_bytes = match content.read(&manifest.config.digest).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    check_size(&manifest.config, config_bytes.len())?;
    budget.spend(config_bytes.len())?;
    let known = matches!(&*manifest.config.media_type, documents::DOCKER_CONFIG | documents::OCI_CONFIG);
    let config = match documents::parse_config(&config_bytes) {
        Ok(config) => config,
        // A chart or a signature is no damaged image.
        Err(_) if !known => return Ok(None),
        Err(error) => return Err(error),
    };
    let sizes = try_join_all(manifest.layers.iter().map(|layer| content.size(&layer.digest))).await?;
    let platform = match &descriptor.platform {
        Some(platform) if !platform.os.is_empty() && !platform.architecture.is_empty() => platform.clone(),
        _ => config.platform(),
    };
    Ok(Some(PlatformImage {
        manifest: descriptor,
        platform,
        config_digest: manifest.config.digest,
        layers: manifest.layers,
        config,
        config_bytes,
        complete: sizes.iter().all(Option::is_some),
    }))
}

/// Whether an image of platform `have` is what was asked for; an absent variant fits any.
pub fn matches(have: &Platform, wanted: &Platform) -> bool {
    let variant = |platform: &Platform| match (&*platform.architecture, &*platform.variant) {
        ("arm64", "") => "v8".to_owned(),
        ("arm", "") => "v7".to_owned(),
        ("amd64", "v1") => String::new(),
        (_, variant) => variant.to_owned(),
    };
    have.os == wanted.os
        && have.architecture == wanted.architecture
        && (wanted.variant.is_empty() || variant(have) == variant(wanted))
}

/// Labels by which containerd's garbage collection walks from a target to all it needs: for each document its
/// children, as containerd's own client sets them.
pub fn gc_labels(found: &[Found]) -> Vec<(Digest, BTreeMap<String, String>)> {
    let children = |found: &Found| match &found.document {
        Document::Index(manifests) => numbered("m", manifests),
        Document::Manifest(manifest) => {
            let mut labels = numbered("l", &manifest.layers);
            labels.insert("containerd.io/gc.ref.content.config".into(), manifest.config.digest.to_string());
            labels
        }
    };
    found.iter().map(|found| (found.descriptor.digest.clone(), children(found))).collect()
}

fn numbered(kind: &str, descriptors: &[Descriptor]) -> BTreeMap<String, String> {
    let label = |at| format!("containerd.io/gc.ref.content.{kind}.{at}");
    descriptors.iter().enumerate().map(|(at, child)| (label(at), child.digest.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_large_documents_are_refused_before_they_fill_the_memory() {
        let mut budget = Budget(MAX_IMAGE_DOCUMENTS);
        let document = 8 << 20;
        assert!((0..4).all(|_| budget.spend(document).is_ok()));
        assert!(budget.spend(1).is_err_and(|error| error.message().contains("bytes of documents")));
    }

    #[test]
    fn an_absent_variant_fits_any() {
        let platform = |architecture: &str, variant: &str| Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.into(),
            ..Platform::default()
        };
        assert!(matches(&platform("arm64", "v8"), &platform("arm64", "")));
        assert!(matches(&platform("arm64", ""), &platform("arm64", "v8")));
        assert!(!matches(&platform("arm", "v6"), &platform("arm", "v7")));
        assert!(!matches(&platform("amd64", ""), &platform("arm64", "")));
    }
}
