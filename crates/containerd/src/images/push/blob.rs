//! One blob on its way to a registry: not at all where it is there, by a mount where it is next door, else in an upload
//! that is gone on with when the network breaks.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use gantry_domain::{
    Error, ErrorKind, Result,
    image::Descriptor,
    ports::{ByteStream, PushProgress, PushStep},
};
use gantry_registry::{Repository, Sent, Upload};

use super::Progress;
use crate::images::{content::Content, sources};

/// Time between two lines of one layer.
const STEP: Duration = Duration::from_millis(100);
/// The longest wait before a transfer is begun again.
const MAX_WAIT: u64 = 16;

pub struct Sender<'a> {
    repository: &'a Repository,
    content: Content,
    progress: &'a Progress,
}

impl<'a> Sender<'a> {
    pub fn new(repository: &'a Repository, content: Content, progress: &'a Progress) -> Self {
        Self { repository, content, progress }
    }

    /// A slow client misses a line and delays nothing.
    pub fn tell(&self, layer: &Descriptor, step: PushStep) {
        let _ = self.progress.try_send(Ok(PushProgress::Layer { id: short(layer), step }));
    }

    /// What must arrive; nobody may be listening any more.
    pub async fn end(&self, item: PushProgress) {
        let _ = self.progress.send(Ok(item)).await;
    }

    /// Configs go unseen, as under dockerd.
    pub async fn send(&self, blob: &Descriptor, shown: bool) -> Result<()> {
        let step = self.sent(blob, shown).await?;
        if shown {
            self.tell(blob, step);
        }
        sources::add(&self.content, &blob.digest, self.repository.place()).await
    }

    async fn sent(&self, blob: &Descriptor, shown: bool) -> Result<PushStep> {
        let attempts = self.repository.config().attempts.max(1);
        let mut failures = 0;
        loop {
            let error = match self.once(blob, shown).await {
                Ok(step) => return Ok(step),
                Err(error) => error,
            };
            failures += 1;
            if error.kind() != ErrorKind::System || failures >= attempts {
                return Err(error);
            }
            tracing::info!(blob = %blob.digest, failures, %error, "an upload was cut");
            self.wait(failures, blob, shown).await;
        }
    }

    async fn once(&self, blob: &Descriptor, shown: bool) -> Result<PushStep> {
        if self.repository.has_blob(&blob.digest).await? {
            return Ok(PushStep::Exists);
        }
        let (host, path) = self.repository.place();
        let known = sources::of(&self.content, &blob.digest, host).await?;
        let from = known.iter().find(|known| *known != path).map(String::as_str);
        match self.repository.begin(&blob.digest, from).await? {
            Sent::Mounted { from } => Ok(PushStep::Mounted { from }),
            Sent::Begun(upload) => {
                self.upload(blob, upload, shown).await?;
                Ok(PushStep::Pushed)
            }
        }
    }

    async fn upload(&self, blob: &Descriptor, mut upload: Upload, shown: bool) -> Result<()> {
        let total = blob.size.max(0) as u64;
        let (mut offset, mut failures) = (0, 0);
        while offset < total {
            let body = self.body(blob, offset, total, shown).await?;
            let error = match self.repository.append(&mut upload, offset, total - offset, body).await {
                Ok(()) => break,
                Err(error) if error.kind() != ErrorKind::System => return Err(error),
                Err(error) => error,
            };
            failures += 1;
            self.wait(failures, blob, shown).await;
            // A registry that does not know the upload any more gets a new one.
            let received = self.repository.received(&mut upload).await.map_err(|_| error)?;
            if received > total {
                return Err(Error::system("the registry has more bytes than were sent"));
            }
            if received > offset {
                failures = 0;
            }
            if failures >= self.repository.config().attempts.max(1) {
                return Err(Error::system("the registry does not take the blob"));
            }
            offset = received;
        }
        self.repository.finish(upload, &blob.digest).await
    }

    async fn body(&self, blob: &Descriptor, offset: u64, total: u64, shown: bool) -> Result<ByteStream> {
        let stream = self.content.stream_from(&blob.digest, offset).await?;
        let (progress, id) = (self.progress.clone(), short(blob));
        let (mut current, mut told) = (offset, Instant::now());
        Ok(stream
            .map(move |piece| {
                let piece = piece?;
                current += piece.len() as u64;
                if shown && (told.elapsed() >= STEP || current == total) {
                    told = Instant::now();
                    let step = PushStep::Pushing { current, total };
                    let _ = progress.try_send(Ok(PushProgress::Layer { id: id.clone(), step }));
                }
                Ok(piece)
            })
            .boxed())
    }

    async fn wait(&self, failures: u32, blob: &Descriptor, shown: bool) {
        let seconds = (1u64 << failures.saturating_sub(1).min(10)).min(MAX_WAIT);
        for left in (1..=seconds).rev() {
            if shown {
                self.tell(blob, PushStep::Retrying { seconds: left });
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

fn short(layer: &Descriptor) -> String {
    layer.digest.hex().chars().take(12).collect()
}
