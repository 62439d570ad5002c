//! `docker import`: a root file system becomes the one layer of a new image, stored and unpacked while it comes in.

use bytes::Bytes;
use gantry_domain::{
    Digest, Error, ErrorKind, Result,
    image::Descriptor,
    ports::{ByteStream, LeaseGuard},
};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    ContainerdImages,
    chunks::{self, Chunks, DEPTH, Pipe, PipeSender},
    compression::Decompressed,
    content::Part,
    documents::{self, Manifest},
    leases,
    limits::{Limits, MAX_DOCUMENT, Meter},
    load::write_manifest,
    platforms, threads,
    unpack::{StagedLayers, Unpacker},
};

impl ContainerdImages {
    pub(super) async fn import_archive(&self, body: ByteStream, config: Bytes) -> Result<(Descriptor, LeaseGuard)> {
        let config = parse_config(&config)?;
        let lease = leases::create(self.client(), "import").await?;
        match self.import_under(&lease, body, config).await {
            Ok(target) => Ok((target, LeaseGuard(lease))),
            Err(error) => {
                self.abandon(&lease).await;
                Err(error)
            }
        }
    }

    async fn import_under(&self, lease: &str, body: ByteStream, config: Map<String, Value>) -> Result<Descriptor> {
        let unpacker = self.unpacker(lease)?;
        let (layer, mut staged) = take_layer(&unpacker, body).await?;
        if !unpacker.content.claim(&layer.digest).await? {
            return Err(Error::system(format!("blob {} came and went", layer.digest)));
        }
        let config = fill_config(config, &layer.digest)?;
        let size = config.len() as u64;
        let config = unpacker.content.write(config.into()).await?;
        let config = documents::descriptor(documents::OCI_CONFIG, config, size);
        let manifest = Manifest { config, layers: vec![layer] };
        let target = write_manifest(&unpacker.content, documents::OCI_MANIFEST, manifest).await?;
        let found = platforms::walk(&unpacker.content, &target).await?;
        for (digest, labels) in platforms::gc_labels(&found) {
            unpacker.content.set_labels(&digest, &labels).await?;
        }
        for image in platforms::platforms(&unpacker.content, &target).await?.iter() {
            unpacker.unpack(image, &mut staged).await?;
        }
        Ok(target)
    }
}

pub(super) fn parse_config(config: &[u8]) -> Result<Map<String, Value>> {
    if config.len() as u64 > MAX_DOCUMENT {
        return Err(Error::invalid("image config is too large"));
    }
    serde_json::from_slice(config).map_err(|error| Error::invalid(format!("invalid image config: {error}")))
}

/// The layer is kept as it is read, uncompressed: its digest is its diff id, and nobody waits for a compressor.
pub(super) async fn take_layer(unpacker: &Unpacker, body: ByteStream) -> Result<(Descriptor, StagedLayers)> {
    let (body_sender, body_source) = chunks::pipe();
    let (parts, parts_receiver) = mpsc::channel(DEPTH);
    let extraction = unpacker.snapshots.is_overlay().then(chunks::pipe);
    let (extract_sender, extract_source) = extraction.unzip();
    let limits = unpacker.limits;
    let pouring = threads::run("gantry-import", move || pour(body_source, limits, &parts, extract_sender));
    let (poured, ingested, staged, ()) = tokio::join!(
        pouring,
        unpacker.content.ingest(parts_receiver),
        stage(unpacker, extract_source),
        chunks::feed(body, body_sender, CancellationToken::new())
    );
    // The first cause: a body that broke, a store that did not take it, an archive that cannot be extracted. An ingest
    // that was cut is the echo of another failure.
    let (digest, size) = poured?;
    ingested.or_else(|error| if error.kind() == ErrorKind::Cancelled { Ok(()) } else { Err(error) })?;
    let staged = staged?;
    let layer = documents::descriptor(documents::OCI_LAYER, digest.clone(), size);
    Ok((layer, staged.map(|staged| (digest, staged)).into_iter().collect()))
}

async fn stage(unpacker: &Unpacker, source: Option<Pipe>) -> Result<Option<super::snapshots::Staged>> {
    let Some(source) = source else { return Ok(None) };
    let (snapshots, limits, runtime) = (unpacker.snapshots.clone(), unpacker.limits, tokio::runtime::Handle::current());
    threads::run("gantry-extract", move || snapshots.stage(&runtime, source, limits)).await.map(Some)
}

fn pour(
    source: Pipe,
    limits: Limits,
    parts: &mpsc::Sender<Part>,
    extraction: Option<PipeSender>,
) -> Result<(Digest, u64)> {
    let (mut stream, _) = Decompressed::new(source)?;
    let (mut hash, mut size, mut meter) = (Sha256::new(), 0u64, Meter::new(limits));
    while let Some(data) = stream.next()? {
        size += data.len() as u64;
        meter.bytes(data.len() as u64, stream.packed())?;
        hash.update(&data);
        // Those that stopped listening tell why themselves.
        let wanted = extraction.as_ref().is_none_or(|extraction| extraction.send(data.clone()));
        if !wanted || parts.blocking_send(Part::Data(data)).is_err() {
            return Ok((Digest::from_sha256(&hash.finalize()), size));
        }
    }
    if size == 0 {
        return Err(Error::invalid("the archive is empty"));
    }
    let digest = Digest::from_sha256(&hash.finalize());
    if let Some(extraction) = extraction {
        extraction.end();
    }
    let _ = parts.blocking_send(Part::Commit { digest: digest.clone(), size });
    Ok((digest, size))
}

/// Adds what only the layer tells: the diff id, and the history where the caller gave none.
fn fill_config(mut config: Map<String, Value>, diff_id: &Digest) -> Result<Vec<u8>> {
    config.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": [diff_id] }));
    if config.get("history").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let mut entry = Map::new();
        for key in ["created", "comment"] {
            entry.extend(config.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        config.insert("history".into(), json!([entry]));
    }
    serde_json::to_vec(&config).map_err(|error| Error::system(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_config_gets_the_layer_and_a_history_and_keeps_the_rest() {
        let config = parse_config(br#"{"os":"linux","comment":"c","created":"2026-01-01T00:00:00Z"}"#).unwrap();
        let diff = Digest::from_sha256(&[1; 32]);
        let filled: Value = serde_json::from_slice(&fill_config(config, &diff).unwrap()).unwrap();
        assert_eq!(filled["rootfs"], json!({"type": "layers", "diff_ids": [diff]}));
        assert_eq!(filled["history"], json!([{"created": "2026-01-01T00:00:00Z", "comment": "c"}]));
        assert_eq!(filled["os"], "linux");
        assert!(parse_config(b"[]").is_err());
    }
}
