//! The image port: names and manifests; archives are what the test of the real store is for, and are refused here.

use async_trait::async_trait;
use bytes::Bytes;
use gantry_domain::{
    Digest, Error, Result,
    image::{Descriptor, ManifestEntry, ManifestKind, NamedImage, PlatformImage},
    platform::Platform,
    ports::{
        BoxStream, ByteStream, ImageStore, ImageView, LayerUsage, LeaseGuard, LoadProgress, PullProgress, PullRequest,
        PushProgress, PushRequest,
    },
};

use crate::Fakes;

#[async_trait]
impl ImageStore for Fakes {
    async fn names(&self) -> Result<Vec<NamedImage>> {
        self.calls.pass("images.names")?;
        Ok(self.world().names.values().cloned().collect())
    }

    async fn set_name(&self, name: &str, target: &Descriptor) -> Result<()> {
        self.calls.pass("images.set_name")?;
        self.world().point(name, target);
        Ok(())
    }

    async fn remove_name(&self, name: &str, _: bool) -> Result<bool> {
        self.calls.pass("images.remove_name")?;
        Ok(self.world().names.remove(name).is_some())
    }

    async fn remove_manifest(&self, manifest: &Digest) -> Result<()> {
        self.calls.pass("images.remove_manifest")?;
        self.world().platforms.retain(|_, image| image.manifest.digest != *manifest);
        Ok(())
    }

    async fn platforms(&self, target: &Descriptor) -> Result<Vec<PlatformImage>> {
        self.calls.pass("images.platforms")?;
        Ok(self.world().platforms.get(&target.digest).cloned().into_iter().collect())
    }

    async fn manifests(&self, target: &Descriptor) -> Result<Vec<ManifestEntry>> {
        let images = self.platforms(target).await?;
        let entry = |image: PlatformImage| ManifestEntry {
            descriptor: image.manifest.clone(),
            kind: ManifestKind::Image,
            available: image.complete,
            content: image.content_size(),
            image: Some(image),
        };
        Ok(images.into_iter().map(entry).collect())
    }

    async fn blob(&self, digest: &Digest) -> Result<Bytes> {
        self.calls.pass("images.blob")?;
        Err(Error::not_found(format!("content digest {digest}: not found")))
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        self.calls.pass("images.blobs")?;
        Ok(Vec::new())
    }

    fn chain_id(&self, image: &PlatformImage) -> String {
        image.manifest.digest.to_string()
    }

    async fn unpack(&self, image: &PlatformImage) -> Result<String> {
        self.calls.pass("images.unpack")?;
        Ok(self.chain_id(image))
    }

    async fn layer_usage(&self) -> Result<Vec<LayerUsage>> {
        self.calls.pass("images.layer_usage")?;
        Ok(Vec::new())
    }

    async fn view(&self, chain_id: &str) -> Result<ImageView> {
        self.calls.pass("images.view")?;
        self.world().views.insert(chain_id.to_owned());
        Ok(ImageView { key: chain_id.to_owned(), mounts: Vec::new() })
    }

    async fn release_view(&self, view: ImageView) -> Result<()> {
        self.calls.pass("images.release_view")?;
        self.world().views.remove(&view.key);
        Ok(())
    }

    async fn load(&self, _: ByteStream, _: Vec<Platform>) -> Result<BoxStream<Result<LoadProgress>>> {
        self.calls.pass("images.load")?;
        Err(no_archives())
    }

    async fn save(&self, _: Vec<(Option<String>, Descriptor)>, _: Vec<Platform>) -> Result<ByteStream> {
        self.calls.pass("images.save")?;
        Err(no_archives())
    }

    async fn import(&self, _: ByteStream, _: Bytes) -> Result<(Descriptor, LeaseGuard)> {
        self.calls.pass("images.import")?;
        Err(no_archives())
    }

    async fn commit(
        &self,
        _: Option<Descriptor>,
        _: Option<ByteStream>,
        config: Bytes,
    ) -> Result<(Descriptor, LeaseGuard)> {
        self.calls.pass("images.commit")?;
        // As unlike any other as its config.
        let mut world = self.world();
        let number = world.commits;
        world.commits += 1;
        let digest = Digest::parse(&format!("sha256:{number:064x}"))?;
        let size = config.len() as i64;
        let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
        let target = Descriptor { media_type, digest, size, urls: None, annotations: None, platform: None };
        Ok((target, LeaseGuard("commit".into())))
    }

    /// A registry that has every image that is here.
    async fn pull(&self, request: PullRequest) -> Result<BoxStream<Result<PullProgress>>> {
        self.calls.pass("images.pull")?;
        let tag = request.reference.tag.clone().unwrap_or_else(|| "latest".into());
        let found = self.world().names.values().next().map(|named| named.target.clone());
        let target = found.ok_or_else(|| Error::not_found("manifest unknown"))?;
        self.world().point(&request.reference.canonical(), &target);
        let pulled = PullProgress::Pulled { reference: request.reference, target: Box::new(target), newer: true };
        Ok(Box::pin(futures::stream::iter([Ok(PullProgress::Begun { tag }), Ok(pulled)])))
    }

    async fn push(&self, request: PushRequest) -> Result<BoxStream<Result<PushProgress>>> {
        self.calls.pass("images.push")?;
        let found = self.world().names.get(&request.reference.canonical()).map(|named| named.target.clone());
        let target = found.ok_or_else(|| Error::not_found("tag does not exist"))?;
        let pushed = PushProgress::Pushed { reference: request.reference, target: Box::new(target) };
        Ok(Box::pin(futures::stream::iter([Ok(pushed)])))
    }

    async fn forget_partial_pulls(&self) -> Result<u64> {
        self.calls.pass("images.forget_partial_pulls")?;
        Ok(0)
    }

    async fn release_lease(&self, _: LeaseGuard) -> Result<()> {
        self.calls.pass("images.release_lease")
    }

    async fn leases(&self) -> Result<Vec<String>> {
        self.calls.pass("images.leases")?;
        Ok(Vec::new())
    }
}

fn no_archives() -> Error {
    Error::not_implemented("this image store reads and writes no archives")
}
