//! `docker pull`: manifests first, then every missing layer, stored and extracted while it comes; names at the very end.
//!
//! ```text
//! tag ─► manifest or index ─► the platform's manifest ─► config
//!                                                          └─► each layer: registry ─┬─► content store, by its digest
//!                                                                                    └─► extraction (thread)
//! all layers ─► adopted on their parents ─► labels ─► name
//! ```
//!
//! Two leases: what is extracted goes with a pull that fails; blobs, whole or half, stay a day for the next one.

mod choose;
mod layer;
mod progress;

use futures::StreamExt as _;
use gantry_domain::{
    Digest, Error, Result,
    image::{Descriptor, PlatformImage},
    platform::Platform,
    ports::{BoxStream, PullProgress, PullRequest},
    reference::Reference,
};
use gantry_registry::Repository;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{choose::Chosen, progress::Teller};
use super::{
    ContainerdImages, documents,
    leases::{self, Collect, Resumable},
    names, platforms, sources,
    unpack::{StagedLayers, Step, Unpacker},
};

/// Progress lines that may wait for a slow client; more are left out.
const PROGRESS: usize = 1024;

/// One pull.
struct Job {
    repository: Repository,
    /// Blobs are kept by a lease that outlives a failure.
    unpacker: Unpacker,
    platform: Option<Platform>,
    /// Threads that extract.
    extractions: TaskTracker,
    leases: Leases,
}

struct Leases {
    unpack: String,
    blobs: Resumable,
}

/// What a name leads to.
struct Found {
    reference: Reference,
    target: Descriptor,
    chosen: Chosen,
}

impl ContainerdImages {
    pub(super) async fn pull_image(&self, request: PullRequest) -> Result<BoxStream<Result<PullProgress>>> {
        let images = self.clone();
        // The leases it makes are ended by it, also when the client leaves before the first byte.
        self.detached(async move { images.begin_pull(request).await }).await
    }

    async fn begin_pull(&self, request: PullRequest) -> Result<BoxStream<Result<PullProgress>>> {
        let PullRequest { reference, platform, auth } = request;
        let repository = self.registries.repository(&reference, &auth).await?;
        let references = references(&repository, &reference).await?;
        let leases = Leases {
            blobs: self.resumables.create(self.client(), &reference.canonical()).await?,
            unpack: leases::create(self.client(), "pull").await?,
        };
        let content = self.content.with_lease(&leases.blobs.id)?;
        let unpacker = Unpacker { content, ..self.unpacker(&leases.unpack)? };
        let job = Job { repository, unpacker, platform, extractions: TaskTracker::new(), leases };
        let mut found = None;
        if let [only] = references.as_slice() {
            match job.find(only).await {
                Ok(image) => found = Some(image),
                Err(error) => {
                    self.abandon_pull(job).await;
                    return Err(error);
                }
            }
        }
        Ok(self.run_pull(job, references, found))
    }

    fn run_pull(
        &self,
        job: Job,
        references: Vec<Reference>,
        mut found: Option<Found>,
    ) -> BoxStream<Result<PullProgress>> {
        let (progress, items) = mpsc::channel(PROGRESS);
        let stop = CancellationToken::new();
        // A client that hangs up drops the stream: what is under way ends, and the blobs so far stay.
        let guard = stop.clone().drop_guard();
        let images = self.clone();
        self.tasks.spawn(async move {
            let teller = Teller::new(progress);
            let pulling = async {
                for reference in references {
                    match found.take() {
                        Some(found) => images.pull_found(&job, found, &teller).await?,
                        None => images
                            .pull_tag(&job, &reference, &teller)
                            .await
                            .map_err(|error| error.context(format!("error pulling {}", reference.canonical())))?,
                    }
                }
                Ok(())
            };
            let pulled = tokio::select! {
                pulled = pulling => pulled,
                never = teller.count_seconds() => match never {},
                () = stop.cancelled() => Err(Error::cancelled("the client went away")),
            };
            images.end_pull(job, pulled.is_ok()).await;
            if let Err(error) = pulled {
                teller.end(Err(error)).await;
            }
        });
        ReceiverStream::new(items)
            .map(move |item| {
                let _held = &guard;
                item
            })
            .boxed()
    }

    /// Of a pull that found no image there is nothing to go on from; its claims would keep what others bring.
    async fn abandon_pull(&self, job: Job) {
        self.resumables.keep(job.leases.blobs.clone());
        self.abandon(&job.leases.unpack).await;
        self.abandon(&job.leases.blobs.id).await;
    }

    async fn end_pull(&self, job: Job, whole: bool) {
        // Nobody writes into a snapshot any more when it is cleared away.
        job.extractions.close();
        job.extractions.wait().await;
        let Leases { unpack, blobs } = job.leases;
        if !whole {
            self.abandon(&unpack).await;
            return self.resumables.keep(blobs);
        }
        let ended = async {
            leases::delete(self.client(), &unpack, Collect::Later).await?;
            self.resumables.end(self.client(), blobs).await
        };
        if let Err(error) = ended.await {
            tracing::warn!(%error, "a lease stays until it expires");
        }
    }

    async fn pull_tag(&self, job: &Job, reference: &Reference, teller: &Teller) -> Result<()> {
        let found = job.find(reference).await?;
        self.pull_found(job, found, teller).await
    }

    async fn pull_found(&self, job: &Job, found: Found, teller: &Teller) -> Result<()> {
        let Found { reference, target, chosen } = found;
        let tag = reference.digest.as_ref().map(ToString::to_string).or_else(|| reference.tag.clone());
        teller.tell(PullProgress::Begun { tag: tag.unwrap_or_default() });
        let name = reference.canonical();
        let before = self.image(&name).await?;
        let (staged, fetched) = self.layers(job, &chosen, teller).await?;
        self.unpack_pulled(job, &target, &chosen, staged, teller).await?;
        self.keep_replaced(&name, &target).await?;
        self.set_image(&name, &target).await?;
        self.drop_dangling(&target).await?;
        let newer = fetched || before.is_none_or(|before| before.target.digest != target.digest);
        teller.end(Ok(PullProgress::Pulled { reference, target: Box::new(target), newer })).await;
        Ok(())
    }

    async fn unpack_pulled(
        &self,
        job: &Job,
        target: &Descriptor,
        chosen: &Chosen,
        mut staged: StagedLayers,
        teller: &Teller,
    ) -> Result<()> {
        let content = &job.unpacker.content;
        // What was missing may have been looked for before.
        content.cache().forget();
        let documents = platforms::walk(content, target).await?;
        for (digest, labels) in platforms::gc_labels(&documents) {
            content.set_labels(&digest, &labels).await?;
        }
        let here = platforms::platforms(content, target).await?;
        let image = here
            .iter()
            .find(|image| image.manifest.digest == chosen.descriptor.digest)
            .ok_or_else(|| Error::system("the manifest came and went"))?;
        let done = |step: Step, layer: &Descriptor| match step {
            Step::Begun => teller.extracting(layer),
            Step::Done => teller.complete(layer),
        };
        job.unpacker.unpack_with(image, &mut staged, &done).await?;
        self.note_source(job, image).await?;
        // What was extracted and not needed, as its snapshot was here already.
        for layer in staged.into_values() {
            job.unpacker.snapshots.remove(&layer.key).await?;
        }
        Ok(())
    }

    async fn note_source(&self, job: &Job, image: &PlatformImage) -> Result<()> {
        for layer in &image.layers {
            sources::add(&job.unpacker.content, &layer.digest, job.repository.place()).await?;
        }
        Ok(())
    }

    /// An image that has a name needs the nameless one no more.
    async fn drop_dangling(&self, target: &Descriptor) -> Result<()> {
        let nameless = names::dangling(&target.digest);
        if self.image(&nameless).await?.is_some() {
            self.remove_image(&nameless, false).await?;
        }
        Ok(())
    }
}

/// One reference, or each tag of the repository.
async fn references(repository: &Repository, reference: &Reference) -> Result<Vec<Reference>> {
    if reference.tag.is_some() || reference.digest.is_some() {
        return Ok(vec![reference.clone()]);
    }
    let tags = repository.tags().await?;
    if tags.is_empty() {
        return Err(Error::not_found(format!("No tags found for {}", reference.familiar_name())));
    }
    Ok(tags.iter().filter_map(|tag| tagged(reference, tag)).collect())
}

/// A registry's tags are text like any other.
fn tagged(reference: &Reference, tag: &str) -> Option<Reference> {
    let parsed = Reference::parse(&format!("{}:{tag}", reference.canonical()));
    let tagged = parsed.ok().filter(|parsed| parsed.tag.as_deref() == Some(tag) && parsed.digest.is_none());
    if tagged.is_none() {
        tracing::warn!(repository = reference.canonical(), tag, "invalid tag, won't pull");
    }
    tagged
}

impl Job {
    /// From a name to the manifest that is wanted; the documents on the way are stored.
    async fn find(&self, reference: &Reference) -> Result<Found> {
        let tag = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        };
        let target = self.target(&tag).await?;
        let chosen = self.choose(&target).await?;
        let digest = reference.digest.clone();
        // A digest says all: a tag beside it would only be claimed.
        let tag = reference.tag.clone().filter(|_| digest.is_none());
        Ok(Found { reference: Reference { tag, digest, ..reference.clone() }, target, chosen })
    }

    async fn target(&self, tag: &str) -> Result<Descriptor> {
        let content = &self.unpacker.content;
        // What is here need not be sent; registries count what they send.
        if let Some((media_type, digest, size)) = self.repository.head(tag).await
            && content.claim(&digest).await?
            && content.size(&digest).await? == Some(size)
        {
            return Ok(documents::descriptor(&media_type, digest, size));
        }
        let document = self.repository.manifest(tag).await?;
        documents::parse(&document.media_type, &document.bytes)?;
        let size = document.bytes.len() as u64;
        content.write(document.bytes).await?;
        Ok(documents::descriptor(&document.media_type, document.digest, size))
    }

    /// A manifest below an index.
    async fn document(&self, descriptor: &Descriptor) -> Result<documents::Document> {
        let content = &self.unpacker.content;
        if !content.claim(&descriptor.digest).await? {
            let document = self.repository.manifest(descriptor.digest.as_str()).await?;
            check_size(descriptor, document.bytes.len() as u64)?;
            documents::parse(&descriptor.media_type, &document.bytes)?;
            content.write(document.bytes).await?;
        }
        let bytes = content.read(&descriptor.digest).await?;
        check_size(descriptor, bytes.len() as u64)?;
        documents::parse(&descriptor.media_type, &bytes)
    }

    /// A small blob, whole.
    async fn config(&self, descriptor: &Descriptor) -> Result<bytes::Bytes> {
        let content = &self.unpacker.content;
        if !content.claim(&descriptor.digest).await? {
            if descriptor.size as u64 > super::limits::MAX_DOCUMENT {
                return Err(Error::invalid("image config is too large"));
            }
            let bytes = self.repository.small_blob(&descriptor.digest, descriptor.size as u64).await?;
            check_size(descriptor, bytes.len() as u64)?;
            let found = Digest::from_sha256(&<sha2::Sha256 as sha2::Digest>::digest(&bytes));
            if found != descriptor.digest {
                return Err(Error::invalid(format!(
                    "image config verification failed for digest {}",
                    descriptor.digest
                )));
            }
            content.write(bytes).await?;
        }
        content.read(&descriptor.digest).await
    }
}

fn check_size(descriptor: &Descriptor, length: u64) -> Result<()> {
    if descriptor.size as u64 == length {
        return Ok(());
    }
    Err(Error::invalid(format!("{} has not the {} bytes that its descriptor says", descriptor.digest, descriptor.size)))
}
