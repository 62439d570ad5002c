//! `docker push`: blobs that the registry lacks, then manifests from the inside out, the tag last.

mod blob;
mod plan;

use futures::StreamExt as _;
use gantry_domain::{
    Error, Result,
    image::{Descriptor, NamedImage},
    platform::Platform,
    ports::{BoxStream, PushProgress, PushRequest, PushStep},
    reference::Reference,
};
use gantry_registry::Repository;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use self::{blob::Sender, plan::Plan};
use super::{
    ContainerdImages,
    leases::{self, Collect},
};

/// Progress lines that may wait for a slow client; more are left out.
const PROGRESS: usize = 1024;

type Progress = mpsc::Sender<Result<PushProgress>>;

impl ContainerdImages {
    pub(super) async fn push_image(&self, request: PushRequest) -> Result<BoxStream<Result<PushProgress>>> {
        let PushRequest { reference, platform, auth } = request;
        let images = self.to_push(&reference).await?;
        let repository = self.registries.repository(&reference, &auth).await?;
        let (progress, items) = mpsc::channel(PROGRESS);
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let store = self.clone();
        self.tasks.spawn(async move {
            let pushing = store.push_all(&repository, images, platform.as_ref(), &progress);
            let pushed = tokio::select! {
                pushed = pushing => pushed,
                () = stop.cancelled() => return,
            };
            if let Err(error) = pushed {
                let _ = progress.send(Err(error)).await;
            }
        });
        let items = ReceiverStream::new(items).map(move |item| {
            let _held = &guard;
            item
        });
        Ok(items.boxed())
    }

    /// The image of a tag, or each tag of the repository.
    async fn to_push(&self, reference: &Reference) -> Result<Vec<(Reference, Descriptor)>> {
        if reference.digest.is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        if reference.tag.is_some() {
            let found = self.image(&reference.canonical()).await?;
            let found =
                found.ok_or_else(|| Error::not_found(format!("tag does not exist: {}", reference.familiar())))?;
            return Ok(vec![(reference.clone(), found.target)]);
        }
        let tagged = |named: NamedImage| {
            let known = Reference::parse(&named.name).ok()?;
            let same = known.domain == reference.domain && known.path == reference.path && known.tag.is_some();
            same.then_some((known, named.target))
        };
        let found: Vec<_> = self.list_images(Vec::new()).await?.into_iter().filter_map(tagged).collect();
        if found.is_empty() {
            let name = reference.familiar_name();
            return Err(Error::not_found(format!("An image does not exist locally with the tag: {name}")));
        }
        Ok(found)
    }

    async fn push_all(
        &self,
        repository: &Repository,
        images: Vec<(Reference, Descriptor)>,
        platform: Option<&Platform>,
        progress: &Progress,
    ) -> Result<()> {
        // What is sent stays until it has been, whoever removes the image meanwhile.
        let lease = leases::create(self.client(), "push").await?;
        let pushing = async {
            let content = self.content.with_lease(&lease)?;
            for (reference, target) in images {
                let plan = Plan::make(&content, &target, platform).await;
                if plan.as_ref().is_err_and(Error::is_not_found) && platform.is_none() {
                    // Nobody may be listening any more.
                    let _ = progress.send(Ok(PushProgress::Missing { target: Box::new(target.clone()) })).await;
                }
                let plan = plan?;
                self.push_one(repository, &reference, plan, &Sender::new(repository, content.clone(), progress))
                    .await?;
            }
            Ok(())
        };
        let pushed = pushing.await;
        let ended = leases::delete(self.client(), &lease, Collect::Later).await;
        pushed.and(ended)
    }

    async fn push_one(
        &self,
        repository: &Repository,
        reference: &Reference,
        plan: Plan,
        sender: &Sender<'_>,
    ) -> Result<()> {
        // A registry that is not there, or that lets nobody in, says so once and not for each blob again and again.
        repository.has_manifest(&plan.target.digest).await?;
        let slots = repository.config().uploads.max(1);
        for layer in &plan.layers {
            sender.tell(layer, PushStep::Preparing);
        }
        for layer in plan.layers.iter().skip(slots) {
            sender.tell(layer, PushStep::Waiting);
        }
        let mut transfers = Vec::new();
        for (blobs, shown) in [(&plan.layers, true), (&plan.configs, false)] {
            for blob in blobs {
                transfers.push(sender.send(blob, shown));
            }
        }
        let mut sending = futures::stream::iter(transfers).buffer_unordered(slots);
        while let Some(sent) = sending.next().await {
            sent?;
        }
        drop(sending);
        for manifest in &plan.inner {
            let bytes = self.content.read(&manifest.digest).await?;
            repository.put_manifest(manifest.digest.as_str(), &manifest.media_type, bytes).await?;
        }
        let tag = reference.tag.as_deref().unwrap_or("latest");
        let bytes = self.content.read(&plan.target.digest).await?;
        repository.put_manifest(tag, &plan.target.media_type, bytes).await?;
        if let Some(index) = plan.instead_of {
            let (index, manifest) = (Box::new(index), Box::new(plan.target.clone()));
            sender.end(PushProgress::Instead { index, manifest }).await;
        }
        let (reference, target) = (reference.clone(), Box::new(plan.target));
        sender.end(PushProgress::Pushed { reference, target }).await;
        Ok(())
    }
}
