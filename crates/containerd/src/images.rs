//! The image port on containerd: names, blobs, unpacked layers; archives in and out.

mod cache;
mod commit;
mod content;
mod documents;
mod import;
mod leases;
mod limits;
mod load;
mod manifests;
mod names;
mod platforms;
mod pull;
mod push;
mod save;
mod snapshots;
mod sources;
mod unpack;
mod writer;

pub use self::limits::Limits;

use std::sync::Arc;

use gantry_archive::{chunks, compression, extract, reader as archive, threads, weighed};

use async_trait::async_trait;
use bytes::Bytes;
use containerd_client::{
    services::v1::{
        CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, ListImagesRequest, UpdateImageRequest,
    },
    types,
};
use gantry_domain::{
    Digest, Error, GoTime, Result,
    id_maps::IdMaps,
    image::{Descriptor, ManifestEntry, NamedImage, PlatformImage},
    platform::Platform,
    ports::{
        BoxStream, ByteStream, ImageStore, ImageView, LayerUsage, LeaseGuard, LoadProgress, PullProgress, PullRequest,
        PushProgress, PushRequest,
    },
};
use gantry_registry::Registries;
use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use self::{
    content::Content,
    leases::{Collect, Resumables},
    snapshots::Snapshots,
    unpack::{ChainLocks, StagedLayers, Unpacker},
};
use crate::client::{self, Client};

/// The image store in containerd. Cheap to clone.
#[derive(Clone)]
pub struct ContainerdImages {
    content: Content,
    snapshots: Snapshots,
    limits: Limits,
    locks: ChainLocks,
    registries: Arc<Registries>,
    /// Blobs that are on their way here, by digest.
    transfers: ChainLocks,
    resumables: Resumables,
    /// Loads, imports and unpackings go on to their proper end, or to clearing away, when their request is dropped.
    tasks: TaskTracker,
}

impl ContainerdImages {
    pub fn new(client: Client) -> Self {
        Self::with_limits(client, gantry_domain::settings::SNAPSHOTTER, Limits::default())
    }

    pub fn with_limits(client: Client, snapshotter: &str, limits: Limits) -> Self {
        let content = Content::new(client);
        Self {
            snapshots: Snapshots::new(content.clone(), snapshotter),
            content,
            limits,
            locks: ChainLocks::default(),
            registries: Arc::default(),
            transfers: ChainLocks::default(),
            resumables: Resumables::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Pulls and pushes by these.
    #[must_use]
    pub fn with_registries(self, registries: Arc<Registries>) -> Self {
        Self { registries, ..self }
    }

    /// Files of layers belong to these users of the host.
    #[must_use]
    pub fn with_id_maps(self, maps: Arc<IdMaps>) -> Self {
        Self { snapshots: self.snapshots.with_id_maps(maps), ..self }
    }

    /// Waits for what is under way; for an orderly end of the process.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn client(&self) -> &Client {
        self.content.client()
    }

    fn unpacker(&self, lease: &str) -> Result<Unpacker> {
        Ok(Unpacker {
            content: self.content.with_lease(lease)?,
            snapshots: self.snapshots.with_lease(lease)?,
            limits: self.limits,
            locks: self.locks.clone(),
        })
    }

    /// Runs work that must come to its own end even if its caller goes away.
    async fn detached<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.tasks.spawn(work).await.map_err(|error| Error::system(format!("work on images stopped: {error}")))?
    }

    async fn image(&self, name: &str) -> Result<Option<NamedImage>> {
        let request = GetImageRequest { name: name.to_owned() };
        let found = client::retry(|| {
            let request = request.clone();
            async move { self.client().images().get(request).await }
        });
        match found.await {
            Ok(answer) => Ok(answer.image.and_then(named)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list_images(&self, filters: Vec<String>) -> Result<Vec<NamedImage>> {
        let request = ListImagesRequest { filters };
        let answer = client::retry(|| {
            let request = request.clone();
            async move { self.client().images().list(request).await }
        });
        Ok(answer.await?.images.into_iter().filter_map(named).collect())
    }

    /// Every name that points to a target.
    async fn targets(&self, target: &Descriptor) -> Result<Vec<String>> {
        let images = self.list_images(vec![format!("target.digest=={}", target.digest)]).await?;
        Ok(images.into_iter().map(|image| image.name).collect())
    }

    async fn set_image(&self, name: &str, target: &Descriptor) -> Result<()> {
        // No labels: nothing of an image is ever copied there (T11).
        let image = Image { name: name.to_owned(), target: Some(to_containerd(target)), ..Image::default() };
        let create = CreateImageRequest { image: Some(image.clone()), source_date_epoch: None };
        match self.client().images().create(create).await {
            Ok(_) => {}
            Err(status) if status.code() == tonic::Code::AlreadyExists => {
                // The time of the last change is the time since which the name leads there.
                if self.image(name).await?.is_some_and(|known| known.target.digest == target.digest) {
                    return Ok(());
                }
                let mask = prost_types::FieldMask { paths: vec!["target".into()] };
                let update =
                    UpdateImageRequest { image: Some(image), update_mask: Some(mask), source_date_epoch: None };
                self.client().images().update(update).await.map_err(client::error)?;
            }
            Err(status) => return Err(client::error(status)),
        }
        self.content.cache().forget();
        Ok(())
    }

    async fn remove_image(&self, name: &str, collect: bool) -> Result<bool> {
        let request = DeleteImageRequest { name: name.to_owned(), sync: collect, target: None };
        let deleted = self.client().images().delete(request).await;
        self.content.cache().forget();
        match deleted {
            Ok(_) => Ok(true),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(false),
            Err(status) => Err(client::error(status)),
        }
    }
}

#[async_trait]
impl ImageStore for ContainerdImages {
    async fn names(&self) -> Result<Vec<NamedImage>> {
        self.list_images(Vec::new()).await
    }

    async fn set_name(&self, name: &str, target: &Descriptor) -> Result<()> {
        self.set_image(name, target).await
    }

    async fn remove_name(&self, name: &str, collect: bool) -> Result<bool> {
        self.remove_image(name, collect).await
    }

    async fn remove_manifest(&self, manifest: &Digest) -> Result<()> {
        self.content.remove(manifest).await?;
        // Whoever ends a lease may wait for the collection.
        let lease = leases::create(self.client(), "remove").await?;
        self.abandon(&lease).await;
        Ok(())
    }

    async fn platforms(&self, target: &Descriptor) -> Result<Vec<PlatformImage>> {
        Ok(platforms::platforms(&self.content, target).await?.to_vec())
    }

    async fn manifests(&self, target: &Descriptor) -> Result<Vec<ManifestEntry>> {
        manifests::manifests(&self.content, target).await
    }

    async fn blob(&self, digest: &Digest) -> Result<Bytes> {
        self.content.read(digest).await
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        self.content.list().await
    }

    fn chain_id(&self, image: &PlatformImage) -> String {
        snapshots::chain_ids(&image.config.rootfs.diff_ids).pop().map(|chain| chain.to_string()).unwrap_or_default()
    }

    async fn unpack(&self, image: &PlatformImage) -> Result<String> {
        let chain = self.chain_id(image);
        // The config's label, set after the first unpacking, keeps the snapshot for as long as the image has a name.
        if chain.is_empty() || self.snapshots.exists(&chain).await? && self.is_kept(image, &chain).await? {
            return Ok(chain);
        }
        let (images, image) = (self.clone(), image.clone());
        self.detached(async move {
            let lease = leases::create(images.client(), "unpack").await?;
            let unpacked = images.unpacker(&lease)?.unpack(&image, &mut StagedLayers::new()).await;
            match &unpacked {
                Ok(_) => leases::delete(images.client(), &lease, Collect::Later).await?,
                Err(_) => images.abandon(&lease).await,
            }
            unpacked
        })
        .await
    }

    async fn layer_usage(&self) -> Result<Vec<LayerUsage>> {
        self.snapshots.usage().await
    }

    async fn view(&self, chain_id: &str) -> Result<ImageView> {
        self.snapshots.view(chain_id).await
    }

    async fn release_view(&self, view: ImageView) -> Result<()> {
        self.snapshots.release_view(&view).await
    }

    async fn load(&self, archive: ByteStream, platforms: Vec<Platform>) -> Result<BoxStream<Result<LoadProgress>>> {
        self.load_archive(archive, platforms).await
    }

    async fn save(&self, images: Vec<(Option<String>, Descriptor)>, platforms: Vec<Platform>) -> Result<ByteStream> {
        self.save_images(images, &platforms).await
    }

    async fn import(&self, archive: ByteStream, config: Bytes) -> Result<(Descriptor, LeaseGuard)> {
        let images = self.clone();
        self.detached(async move { images.import_archive(archive, config).await }).await
    }

    async fn commit(
        &self,
        parent: Option<Descriptor>,
        layer: Option<ByteStream>,
        config: Bytes,
    ) -> Result<(Descriptor, LeaseGuard)> {
        let images = self.clone();
        self.detached(async move { images.commit_image(parent, layer, config).await }).await
    }

    async fn pull(&self, request: PullRequest) -> Result<BoxStream<Result<PullProgress>>> {
        self.pull_image(request).await
    }

    async fn push(&self, request: PushRequest) -> Result<BoxStream<Result<PushProgress>>> {
        self.push_image(request).await
    }

    async fn forget_partial_pulls(&self) -> Result<u64> {
        self.resumables.drop_all(self.client()).await?;
        self.abort_partial_blobs().await
    }

    async fn release_lease(&self, lease: LeaseGuard) -> Result<()> {
        leases::delete(self.client(), &lease.0, Collect::Later).await
    }

    async fn leases(&self) -> Result<Vec<String>> {
        leases::list(self.client()).await
    }
}

impl ContainerdImages {
    /// Throws away what has come of blobs that nobody waits for; its bytes.
    async fn abort_partial_blobs(&self) -> Result<u64> {
        let mut freed = 0;
        for (digest, bytes) in writer::partial(&self.content).await? {
            let Some(_alone) = self.transfers.try_lock(&digest) else { continue };
            writer::abort(&self.content, &digest).await;
            freed += bytes;
        }
        Ok(freed)
    }

    async fn is_kept(&self, image: &PlatformImage, chain: &str) -> Result<bool> {
        let label = format!("containerd.io/gc.ref.snapshot.{}", self.snapshots.name());
        let info = self.content.info(&image.config_digest).await?;
        Ok(info.is_some_and(|info| info.labels.get(&label).is_some_and(|kept| kept == chain)))
    }
}

fn to_containerd(target: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: target.media_type.clone(),
        digest: target.digest.to_string(),
        size: target.size,
        annotations: Default::default(),
    }
}

/// `None` for what another client put into our namespace under another digest algorithm.
fn named(image: Image) -> Option<NamedImage> {
    let target = image.target?;
    Some(NamedImage {
        name: image.name,
        target: documents::descriptor(
            &target.media_type,
            Digest::parse(&target.digest).ok()?,
            target.size.max(0) as u64,
        ),
        created_at: time(image.created_at),
        updated_at: time(image.updated_at),
    })
}

fn time(at: Option<prost_types::Timestamp>) -> GoTime {
    GoTime(at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()))
}
