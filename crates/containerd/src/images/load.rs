//! `docker load`: one pass over the archive, blobs and layers taken as they come, names at the very end.
//!
//! ```text
//! body ─► pipe ─► take (thread): decompress, tar, hash ─┬─► content store      (task, one a blob)
//!                                                       └─► extraction         (thread, one a layer)
//! end of the archive ─► index.json or manifest.json ─► documents checked ─► layers adopted ─► labels ─► names
//! ```
//!
//! Everything is made under one lease. On failure the lease goes, and with it all that nobody else holds.

mod resolve;
mod take;

pub use self::resolve::write_manifest;

use std::sync::Arc;

use futures::StreamExt as _;
use gantry_domain::{
    Error, Result,
    image::{Descriptor, PlatformImage},
    platform::Platform,
    ports::{BoxStream, ByteStream, LoadProgress},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use self::{resolve::Resolved, take::Archive};
use super::{
    ContainerdImages, chunks,
    leases::{self, Collect},
    names, platforms, threads,
    unpack::{StagedLayers, Unpacker},
};

/// Progress lines that may wait for a slow client; the load itself then waits too.
const PROGRESS: usize = 64;

pub type Progress = mpsc::Sender<Result<LoadProgress>>;

impl ContainerdImages {
    pub(super) async fn load_archive(
        &self,
        archive: ByteStream,
        platforms: Vec<Platform>,
    ) -> Result<BoxStream<Result<LoadProgress>>> {
        let lease = leases::create(self.client(), "load").await?;
        let (progress, items) = mpsc::channel(PROGRESS);
        let stop = CancellationToken::new();
        // A client that hangs up drops the stream: what is under way ends and is cleared away.
        let guard = stop.clone().drop_guard();
        let images = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = images.load_under(&lease, archive, platforms, &progress, stop).await {
                images.abandon(&lease).await;
                // A client that is gone needs no error.
                let _ = progress.send(Err(error)).await;
            }
        });
        let items = ReceiverStream::new(items).map(move |item| {
            let _held = &guard;
            item
        });
        Ok(items.boxed())
    }

    async fn load_under(
        &self,
        lease: &str,
        body: ByteStream,
        wanted: Vec<Platform>,
        progress: &Progress,
        stop: CancellationToken,
    ) -> Result<()> {
        let unpacker = self.unpacker(lease)?;
        let (sender, source) = chunks::pipe();
        let taker = take::Taker::new(unpacker.clone(), tokio::runtime::Handle::current(), progress.clone());
        let extractions = taker.extractions();
        let taking = threads::run("gantry-load", move || taker.take(source));
        let (taken, ()) = tokio::join!(taking, chunks::feed(body, sender, stop.clone()));
        if taken.is_err() {
            // Nobody writes into a snapshot any more when it is cleared away.
            extractions.ended().await;
        }
        let finish = self.finish_load(&unpacker, taken?, &wanted);
        let loaded = tokio::select! {
            loaded = finish => loaded?,
            () = stop.cancelled() => return Err(Error::cancelled("the client went away")),
        };
        leases::delete(self.client(), lease, Collect::Later).await?;
        for item in loaded {
            // Nobody may be listening any more; the images are there all the same.
            let _ = progress.send(Ok(item)).await;
        }
        Ok(())
    }

    /// From a whole archive to names.
    async fn finish_load(
        &self,
        unpacker: &Unpacker,
        mut archive: Archive,
        wanted: &[Platform],
    ) -> Result<Vec<LoadProgress>> {
        archive.stored(&unpacker.content).await?;
        let mut staged = archive.staged().await;
        let resolved = resolve::images(&unpacker.content, &archive).await?;
        for image in &resolved {
            self.unpack_loaded(unpacker, image, wanted, &mut staged).await?;
        }
        // What was extracted and not needed, as its snapshot was here already.
        for layer in staged.into_values() {
            unpacker.snapshots.remove(&layer.key).await?;
        }
        let mut loaded = Vec::new();
        for image in resolved {
            loaded.extend(self.name_loaded(image).await?);
        }
        Ok(loaded)
    }

    async fn unpack_loaded(
        &self,
        unpacker: &Unpacker,
        image: &Resolved,
        wanted: &[Platform],
        staged: &mut StagedLayers,
    ) -> Result<()> {
        let found = platforms::walk(&unpacker.content, &image.target).await?;
        let here = platforms::platforms(&unpacker.content, &image.target).await?;
        check_platforms(&here, wanted)?;
        for (digest, labels) in platforms::gc_labels(&found) {
            unpacker.content.set_labels(&digest, &labels).await?;
        }
        let host = [Platform::host()];
        let unpack = if wanted.is_empty() { &host[..] } else { wanted };
        for image in here.iter().filter(|image| unpack.iter().any(|wanted| platforms::matches(&image.platform, wanted)))
        {
            if image.complete {
                unpacker.unpack(image, staged).await?;
            }
        }
        Ok(())
    }

    async fn name_loaded(&self, image: Resolved) -> Result<Vec<LoadProgress>> {
        if image.names.is_empty() {
            let name = names::dangling(&image.target.digest);
            if self.targets(&image.target).await?.is_empty() {
                self.set_image(&name, &image.target).await?;
            }
            return Ok(vec![LoadProgress::Loaded { name: None, target: Box::new(image.target) }]);
        }
        let mut loaded = Vec::new();
        for name in image.names {
            self.keep_replaced(&name, &image.target).await?;
            self.set_image(&name, &image.target).await?;
            loaded.push(LoadProgress::Loaded {
                name: Some(names::familiar(&name)),
                target: Box::new(image.target.clone()),
            });
        }
        Ok(loaded)
    }

    /// The image that is about to lose its last name gets the one of a nameless image, as dockerd does.
    pub(super) async fn keep_replaced(&self, name: &str, target: &Descriptor) -> Result<()> {
        let Some(old) = self.image(name).await? else { return Ok(()) };
        if old.target.digest == target.digest {
            return Ok(());
        }
        if self.targets(&old.target).await?.iter().all(|other| other == name) {
            self.set_image(&names::dangling(&old.target.digest), &old.target).await?;
        }
        Ok(())
    }

    /// Ends a failed operation's lease; what only it kept is gone when this returns.
    pub(super) async fn abandon(&self, lease: &str) {
        self.content.cache().forget();
        if let Err(error) = leases::delete(self.client(), lease, Collect::Now).await {
            tracing::warn!(lease, %error, "a lease stays until it expires");
        }
    }
}

fn check_platforms(here: &Arc<Vec<PlatformImage>>, wanted: &[Platform]) -> Result<()> {
    if !here.iter().any(|image| image.complete) {
        return Err(Error::invalid("archive holds no complete image: a manifest, a config or a layer is missing"));
    }
    for wanted in wanted {
        if !here.iter().any(|image| image.complete && platforms::matches(&image.platform, wanted)) {
            return Err(Error::not_found(format!(
                "requested platform ({wanted}) not found: image might be filtered out"
            )));
        }
    }
    Ok(())
}
