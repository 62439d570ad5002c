//! `docker commit`: the layers of an image, one more on top, and a config, become a new image.

use bytes::Bytes;
use gantry_domain::{
    Digest, Error, Result,
    image::{Descriptor, PlatformImage},
    ports::{ByteStream, LeaseGuard},
};
use serde_json::{Map, Value, json};

use super::{
    ContainerdImages,
    documents::{self, Manifest},
    import::{parse_config, take_layer},
    leases,
    limits::MAX_LAYERS,
    load::write_manifest,
    platforms,
    unpack::{StagedLayers, Unpacker},
};

impl ContainerdImages {
    pub(super) async fn commit_image(
        &self,
        parent: Option<Descriptor>,
        layer: Option<ByteStream>,
        config: Bytes,
    ) -> Result<(Descriptor, LeaseGuard)> {
        let config = parse_config(&config)?;
        let lease = leases::create(self.client(), "commit").await?;
        match self.commit_under(&lease, parent, layer, config).await {
            Ok(target) => Ok((target, LeaseGuard(lease))),
            Err(error) => {
                self.abandon(&lease).await;
                Err(error)
            }
        }
    }

    async fn commit_under(
        &self,
        lease: &str,
        parent: Option<Descriptor>,
        layer: Option<ByteStream>,
        config: Map<String, Value>,
    ) -> Result<Descriptor> {
        let unpacker = self.unpacker(lease)?;
        let (mut layers, mut diff_ids) = match parent {
            Some(parent) => parent_layers(&unpacker, &parent).await?,
            None => (Vec::new(), Vec::new()),
        };
        let mut staged = StagedLayers::new();
        if let Some(layer) = layer {
            if layers.len() >= MAX_LAYERS {
                return Err(Error::invalid("max depth exceeded"));
            }
            let (taken, extracted) = take_layer(&unpacker, layer).await?;
            claim(&unpacker, &taken.digest).await?;
            // It is stored as it is: its digest is its diff id.
            diff_ids.push(taken.digest.clone());
            layers.push(taken);
            staged = extracted;
        }
        let target = write(&unpacker, layers, &diff_ids, config).await?;
        for image in platforms::platforms(&unpacker.content, &target).await?.iter() {
            unpacker.unpack(image, &mut staged).await?;
        }
        Ok(target)
    }
}

async fn write(
    unpacker: &Unpacker,
    layers: Vec<Descriptor>,
    diff_ids: &[Digest],
    mut config: Map<String, Value>,
) -> Result<Descriptor> {
    config.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let config = serde_json::to_vec(&config).map_err(|error| Error::system(error.to_string()))?;
    let size = config.len() as u64;
    let config = unpacker.content.write(config.into()).await?;
    let config = documents::descriptor(documents::OCI_CONFIG, config, size);
    let manifest = Manifest { config, layers };
    let target = write_manifest(&unpacker.content, documents::OCI_MANIFEST, manifest).await?;
    let found = platforms::walk(&unpacker.content, &target).await?;
    for (digest, labels) in platforms::gc_labels(&found) {
        unpacker.content.set_labels(&digest, &labels).await?;
    }
    Ok(target)
}

/// The layers below, under our lease: should their image be removed meanwhile, they stay for the new one.
async fn parent_layers(unpacker: &Unpacker, parent: &Descriptor) -> Result<(Vec<Descriptor>, Vec<Digest>)> {
    let found = platforms::platforms(&unpacker.content, parent).await?;
    let image: &PlatformImage =
        found.first().ok_or_else(|| Error::not_found(format!("content digest {}: not found", parent.digest)))?;
    for layer in &image.layers {
        claim(unpacker, &layer.digest).await?;
    }
    Ok((image.layers.clone(), image.config.rootfs.diff_ids.clone()))
}

async fn claim(unpacker: &Unpacker, digest: &Digest) -> Result<()> {
    if unpacker.content.claim(digest).await? {
        return Ok(());
    }
    Err(Error::not_found(format!("content digest {digest}: not found")))
}
