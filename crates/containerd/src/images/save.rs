//! `docker save`: one tar that is an OCI layout and a docker-archive at once. Documents come first, so that a reader
//! knows the layers when they come; blobs are streamed and never held.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use futures::StreamExt as _;
use gantry_domain::{
    Digest, Error, Result,
    image::{Descriptor, PlatformImage},
    platform::Platform,
    ports::ByteStream,
    reference::Reference,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    ContainerdImages,
    content::{Content, missing},
    documents::{self, Document},
    leases::{self, Collect},
    names::{self, Repositories},
    platforms::{self, Found},
};

/// Pieces that wait for a slow reader.
const DEPTH: usize = 4;
const BLOCK: u64 = 512;

/// What goes into the archive, decided before its first byte: errors up to here still have a status.
#[derive(Default)]
struct Plan {
    index: Vec<Descriptor>,
    /// Entries of `manifest.json`, by target.
    images: Vec<Image>,
    repositories: Repositories,
    /// In the order of the archive.
    blobs: Vec<(Digest, u64)>,
    seen: HashSet<Digest>,
}

struct Image {
    target: Digest,
    config: Digest,
    layers: Vec<Digest>,
    tags: BTreeSet<String>,
}

impl ContainerdImages {
    pub(super) async fn save_images(
        &self,
        images: Vec<(Option<String>, Descriptor)>,
        wanted: &[Platform],
    ) -> Result<ByteStream> {
        // What the archive is to hold stays until its last byte, whoever removes the image meanwhile.
        let lease = leases::create(self.client(), "save").await?;
        let content = self.content.with_lease(&lease)?;
        let plan = match Plan::of(&content, images, wanted).await {
            Ok(plan) => plan,
            Err(error) => {
                leases::delete(self.client(), &lease, Collect::Later).await?;
                return Err(error);
            }
        };
        let (sender, chunks) = mpsc::channel(DEPTH);
        let images = self.clone();
        self.tasks.spawn(async move {
            let written = tokio::select! {
                written = plan.write(&content, &sender) => written,
                // Nobody reads any more.
                () = sender.closed() => Ok(()),
            };
            if let Err(error) = leases::delete(images.client(), &lease, Collect::Later).await {
                tracing::warn!(lease, %error, "a lease stays until it expires");
            }
            if let Err(error) = written {
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(ReceiverStream::new(chunks).boxed())
    }
}

impl Plan {
    async fn of(content: &Content, images: Vec<(Option<String>, Descriptor)>, wanted: &[Platform]) -> Result<Self> {
        let mut plan = Self::default();
        for (name, target) in images {
            plan.add(content, name.as_deref(), target, wanted).await?;
        }
        Ok(plan)
    }

    async fn add(
        &mut self,
        content: &Content,
        name: Option<&str>,
        target: Descriptor,
        wanted: &[Platform],
    ) -> Result<()> {
        let found = platforms::walk(content, &target).await?;
        let here = platforms::platforms(content, &target).await?;
        let chosen: Vec<&PlatformImage> = here.iter().filter(|image| is_chosen(image, wanted)).collect();
        for platform in wanted {
            if !chosen.iter().any(|image| platforms::matches(&image.platform, platform)) {
                let name = name.map_or_else(|| target.digest.to_string(), names::familiar);
                return Err(Error::not_found(format!(
                    "image with reference {name} was found but does not provide the specified platform ({platform})"
                )));
            }
        }
        let host = Platform::host();
        let shown = chosen.iter().find(|image| platforms::matches(&image.platform, &host)).or(chosen.first());
        let shown = shown.ok_or_else(|| missing(&target.digest))?;
        self.list(name, &target, shown);
        self.collect(content, &found, &chosen, wanted.is_empty()).await
    }

    /// The names, in the three lists that readers know.
    fn list(&mut self, name: Option<&str>, target: &Descriptor, shown: &PlatformImage) {
        let entry = Descriptor { annotations: name.map(names::annotations), ..target.clone() };
        if !self.index.contains(&entry) {
            self.index.push(entry);
        }
        let at = self.images.iter().position(|image| image.target == target.digest).unwrap_or_else(|| {
            self.images.push(Image {
                target: target.digest.clone(),
                config: shown.config_digest.clone(),
                layers: shown.layers.iter().map(|layer| layer.digest.clone()).collect(),
                tags: BTreeSet::new(),
            });
            self.images.len() - 1
        });
        let Some(reference) = name.and_then(|name| Reference::parse(name).ok()) else { return };
        let Some(tag) = reference.tag.clone() else { return };
        self.images[at].tags.insert(reference.familiar());
        if let Some(top) = shown.layers.last() {
            self.repositories.entry(reference.familiar_name()).or_default().insert(tag, top.digest.hex().to_owned());
        }
    }

    /// Documents, then configs, then layers; of platforms that were not asked for, nothing.
    async fn collect(
        &mut self,
        content: &Content,
        found: &[Found],
        chosen: &[&PlatformImage],
        everything: bool,
    ) -> Result<()> {
        let (mut configs, mut layers) = (Vec::new(), Vec::new());
        for found in found {
            if let Document::Manifest(manifest) = &found.document {
                let known = chosen.iter().any(|image| image.manifest.digest == found.descriptor.digest);
                let beside = everything && documents::is_attestation(&found.descriptor);
                if !(known || beside) {
                    continue;
                }
                configs.push(&manifest.config.digest);
                layers.extend(manifest.layers.iter().map(|layer| &layer.digest));
            }
            self.blob(content, &found.descriptor.digest).await?;
        }
        for digest in configs.into_iter().chain(layers) {
            self.blob(content, digest).await?;
        }
        Ok(())
    }

    async fn blob(&mut self, content: &Content, digest: &Digest) -> Result<()> {
        if self.seen.insert(digest.clone()) {
            // An attestation may be here in part; the images that were chosen are complete.
            self.blobs.extend(content.claim_size(digest).await?.map(|size| (digest.clone(), size)));
        }
        Ok(())
    }

    async fn write(&self, content: &Content, out: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
        let index = json!({ "schemaVersion": 2, "mediaType": documents::OCI_INDEX, "manifests": self.index });
        let images: Vec<_> = self.images.iter().map(Image::entry).collect();
        document(out, "oci-layout", &json!({ "imageLayoutVersion": "1.0.0" })).await?;
        document(out, "index.json", &index).await?;
        document(out, "manifest.json", &json!(images)).await?;
        document(out, "repositories", &json!(self.repositories)).await?;
        for folder in ["blobs/", "blobs/sha256/"] {
            send(out, header(folder, tar::EntryType::Directory, 0)?).await?;
        }
        for (digest, size) in &self.blobs {
            write_blob(content, out, digest, *size).await?;
        }
        send(out, Bytes::from(vec![0; 2 * BLOCK as usize])).await
    }
}

impl Image {
    fn entry(&self) -> BTreeMap<&'static str, serde_json::Value> {
        let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        BTreeMap::from([
            ("Config", json!(path(&self.config))),
            ("RepoTags", if self.tags.is_empty() { json!(null) } else { json!(self.tags) }),
            ("Layers", json!(self.layers.iter().map(path).collect::<Vec<_>>())),
        ])
    }
}

fn is_chosen(image: &PlatformImage, wanted: &[Platform]) -> bool {
    image.complete && (wanted.is_empty() || wanted.iter().any(|platform| platforms::matches(&image.platform, platform)))
}

async fn document(out: &mpsc::Sender<Result<Bytes>>, path: &str, value: &serde_json::Value) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::system(error.to_string()))?;
    let size = bytes.len() as u64;
    send(out, header(path, tar::EntryType::Regular, size)?).await?;
    send(out, bytes.into()).await?;
    pad(out, size).await
}

async fn write_blob(content: &Content, out: &mpsc::Sender<Result<Bytes>>, digest: &Digest, size: u64) -> Result<()> {
    send(out, header(&format!("blobs/sha256/{}", digest.hex()), tar::EntryType::Regular, size)?).await?;
    let mut blob = content.stream(digest).await?;
    let mut sent = 0;
    while let Some(chunk) = blob.next().await {
        let chunk = chunk?;
        sent += chunk.len() as u64;
        send(out, chunk).await?;
    }
    if sent != size {
        return Err(Error::data_loss(format!("blob {digest} has {sent} bytes instead of {size}")));
    }
    pad(out, size).await
}

async fn pad(out: &mpsc::Sender<Result<Bytes>>, size: u64) -> Result<()> {
    let padding = size.next_multiple_of(BLOCK) - size;
    send(out, Bytes::from(vec![0; padding as usize])).await
}

async fn send(out: &mpsc::Sender<Result<Bytes>>, bytes: Bytes) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    out.send(Ok(bytes)).await.map_err(|_| Error::cancelled("nobody reads the archive any more"))
}

fn header(path: &str, kind: tar::EntryType, size: u64) -> Result<Bytes> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
    header.set_size(size);
    // The same images make the same archive.
    header.set_mtime(0);
    header.set_cksum();
    Ok(Bytes::copy_from_slice(header.as_bytes()))
}
