//! From what an archive held to images: by its OCI index, or by a manifest that is made for a docker-archive.

use gantry_domain::{Error, Result, image::Descriptor};
use serde::Serialize;

use super::take::{Archive, Blob};
use crate::images::{
    compression::Compression,
    content::Content,
    documents::{self, Document, Manifest},
    limits::MAX_LAYERS,
    names::{self, ArchiveImage},
    platforms,
};

/// One image of an archive and the names that it is to get.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    pub target: Descriptor,
    pub names: Vec<String>,
}

pub async fn images(content: &Content, archive: &Archive) -> Result<Vec<Resolved>> {
    let images = match (&archive.index, &archive.manifest) {
        (Some(index), _) => from_index(content, archive, index).await?,
        (None, Some(manifest)) => from_manifest(content, archive, manifest).await?,
        (None, None) => return Err(no_manifest(archive)),
    };
    if images.is_empty() {
        return Err(Error::invalid("the archive holds no image"));
    }
    Ok(images)
}

fn no_manifest(archive: &Archive) -> Error {
    match archive.repositories {
        Some(_) => Error::invalid("archives from before Docker 1.10 (without manifest.json) are not supported"),
        None => Error::invalid("invalid archive: neither index.json nor manifest.json"),
    }
}

async fn from_index(content: &Content, archive: &Archive, index: &[u8]) -> Result<Vec<Resolved>> {
    let Document::Index(entries) = documents::parse(documents::OCI_INDEX, index)? else {
        return Err(Error::invalid("index.json is no index"));
    };
    let mut images: Vec<Resolved> = Vec::new();
    for entry in entries.into_iter().filter(|entry| !documents::is_attestation(entry)) {
        let name = names::of_descriptor(&entry)?;
        let target = Descriptor { annotations: None, urls: None, ..entry };
        add(&mut images, target, name);
    }
    if let Some(manifest) = &archive.manifest {
        name_by_config(content, archive, manifest, &mut images).await?;
    }
    Ok(images)
}

/// One entry an image, whatever the number of its names.
fn add(images: &mut Vec<Resolved>, target: Descriptor, name: Option<String>) {
    let at = images.iter().position(|image| image.target.digest == target.digest).unwrap_or_else(|| {
        images.push(Resolved { target, names: Vec::new() });
        images.len() - 1
    });
    if let Some(name) = name.filter(|name| !images[at].names.contains(name)) {
        images[at].names.push(name);
    }
}

/// An index without names, beside a `manifest.json` with names: they are of the images with the same config.
async fn name_by_config(content: &Content, archive: &Archive, manifest: &[u8], images: &mut [Resolved]) -> Result<()> {
    let listed = archive_images(manifest)?;
    for image in images.iter_mut().filter(|image| image.names.is_empty()) {
        let found = platforms::walk(content, &image.target).await?;
        let configs: Vec<_> = found
            .iter()
            .filter_map(|found| match &found.document {
                Document::Manifest(manifest) => Some(&manifest.config.digest),
                Document::Index(_) => None,
            })
            .collect();
        for entry in &listed {
            let Ok(config) = blob(archive, &entry.config) else { continue };
            if configs.contains(&&config.digest) {
                image.names = canonical_names(entry)?;
            }
        }
    }
    Ok(())
}

async fn from_manifest(content: &Content, archive: &Archive, manifest: &[u8]) -> Result<Vec<Resolved>> {
    let mut images = Vec::new();
    for entry in archive_images(manifest)? {
        let target = make_manifest(content, archive, &entry).await?;
        let names = canonical_names(&entry)?;
        if names.is_empty() {
            add(&mut images, target, None);
            continue;
        }
        for name in names {
            add(&mut images, target.clone(), Some(name));
        }
    }
    Ok(images)
}

fn archive_images(manifest: &[u8]) -> Result<Vec<ArchiveImage>> {
    serde_json::from_slice(manifest).map_err(|error| Error::invalid(format!("invalid manifest.json: {error}")))
}

fn canonical_names(entry: &ArchiveImage) -> Result<Vec<String>> {
    entry.repo_tags.iter().flatten().map(|name| names::canonical(name)).collect()
}

/// The same archive makes the same bytes, so the same id, whenever and wherever it is loaded.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewManifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
}

async fn make_manifest(content: &Content, archive: &Archive, entry: &ArchiveImage) -> Result<Descriptor> {
    let layers = entry.layers.as_deref().unwrap_or_default();
    if layers.len() > MAX_LAYERS {
        return Err(Error::invalid(format!("image has more than {MAX_LAYERS} layers")));
    }
    let config = blob(archive, &entry.config)?;
    let config = documents::descriptor(documents::DOCKER_CONFIG, config.digest.clone(), config.size);
    let layers = layers.iter().map(|path| blob(archive, path).and_then(layer)).collect::<Result<Vec<_>>>()?;
    write_manifest(content, documents::DOCKER_MANIFEST, Manifest { config, layers }).await
}

/// Writes a manifest of ours and returns what points to it.
pub async fn write_manifest(content: &Content, media_type: &str, manifest: Manifest) -> Result<Descriptor> {
    let Manifest { config, layers } = manifest;
    let document = NewManifest { schema_version: 2, media_type, config: &config, layers: &layers };
    let bytes = serde_json::to_vec(&document).map_err(|error| Error::system(error.to_string()))?;
    let size = bytes.len() as u64;
    let digest = content.write(bytes.into()).await?;
    Ok(documents::descriptor(media_type, digest, size))
}

fn layer(blob: &Blob) -> Result<Descriptor> {
    let media_type = match blob.compression {
        Compression::None => documents::DOCKER_LAYER,
        Compression::Gzip => documents::DOCKER_LAYER_GZIP,
        Compression::Zstd => documents::OCI_LAYER_ZSTD,
        Compression::Xz | Compression::Bzip2 => {
            return Err(Error::invalid("layer is compressed in a way that images do not know"));
        }
    };
    Ok(documents::descriptor(media_type, blob.digest.clone(), blob.size))
}

/// A member by the path that `manifest.json` gives, through at most one link.
fn blob<'a>(archive: &'a Archive, path: &str) -> Result<&'a Blob> {
    let path = String::from_utf8_lossy(&crate::images::extract::clean(path.as_bytes())?).into_owned();
    let path = archive.links.get(&path).unwrap_or(&path);
    archive.members.get(path).ok_or_else(|| Error::invalid(format!("invalid archive: {path} is missing")))
}
