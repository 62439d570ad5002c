//! `POST /images/create?fromSrc=`: an archive, of the client's or from a URL, becomes the one layer of a new image.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use gantry_domain::{
    Digest, Error, Result,
    image::{ImageRunConfig, changes},
    platform::Platform,
    ports::{ByteStream, Fetched},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{ImageImport, ImportStep, catalog, tag};
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
        tag::publish_labelled(&self.parts, "import", target.digest.as_str(), &shown, &target).await;
        Ok(target.digest)
    }
}

impl Engine {
    /// The archive is read from a URL. What can be known before the first byte is the error of this call. The import
    /// ends with the stream: who goes away does not want it.
    pub async fn image_import_url(
        &self,
        url: &str,
        request: ImageImport,
    ) -> Result<impl Stream<Item = Result<ImportStep>> + Send + use<>> {
        let fetched = self.parts.ports.registry.fetch(url).await?;
        let (steps, told) = mpsc::channel(4);
        let archive = counted(fetched, steps.clone());
        let engine = self.clone();
        // Ends with its archive, which ends when nobody listens any more.
        tokio::spawn(async move {
            let imported = engine.image_import(archive, request).await.map(ImportStep::Imported);
            let _ = steps.send(imported).await;
        });
        Ok(ReceiverStream::new(told))
    }
}

/// Tells how far it is; a listener that is slow misses some of it.
fn counted(fetched: Fetched, steps: mpsc::Sender<Result<ImportStep>>) -> ByteStream {
    let (mut current, total) = (0, fetched.length.unwrap_or(0));
    let body = fetched.body.map(move |piece| {
        let piece = piece?;
        current += piece.len() as u64;
        match steps.try_send(Ok(ImportStep::Read { current, total })) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::cancelled("the client went away")),
            _ => Ok(piece),
        }
    });
    body.boxed()
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
