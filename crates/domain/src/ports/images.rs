//! Images: names, blobs and unpacked layers, as containerd keeps them.

use async_trait::async_trait;
use bytes::Bytes;

use super::{BoxStream, ByteStream, RootMount};
use crate::{
    Digest, Result,
    image::{Descriptor, ManifestEntry, NamedImage, PlatformImage},
    platform::Platform,
    reference::Reference,
    registry::RegistryAuth,
};

/// The image store. Names are fully qualified references; what they point to is never guessed from a config digest.
#[async_trait]
pub trait ImageStore: Send + Sync {
    /// Every name in our namespace.
    async fn names(&self) -> Result<Vec<NamedImage>>;
    /// Points `name` to `target`, replacing what it pointed to. Durable when it returns.
    async fn set_name(&self, name: &str, target: &Descriptor) -> Result<()>;
    /// Takes a name away; with `collect` waits until unused blobs and snapshots are freed. Absent is `Ok(false)`.
    async fn remove_name(&self, name: &str, collect: bool) -> Result<bool>;

    /// Takes one manifest of an index away with what nothing else holds, and waits until that is freed. Other images
    /// whose index names it lose it too. Absent is fine.
    async fn remove_manifest(&self, manifest: &Digest) -> Result<()>;

    /// Every manifest that `target` (index or manifest) leads to and that is here, at least its manifest and config;
    /// attestation manifests are left out.
    async fn platforms(&self, target: &Descriptor) -> Result<Vec<PlatformImage>>;
    /// Every manifest that `target` leads to, also those that are not here, and attestations.
    async fn manifests(&self, target: &Descriptor) -> Result<Vec<ManifestEntry>>;
    /// A whole blob of at most 8 MiB, digest checked. `NotFound` when it is not here.
    async fn blob(&self, digest: &Digest) -> Result<Bytes>;
    /// Every blob in the store with its size in bytes.
    async fn blobs(&self) -> Result<Vec<(Digest, u64)>>;

    /// The chain id of an image's top layer, from its diff ids; empty for an image without layers. Pure.
    fn chain_id(&self, image: &PlatformImage) -> String;
    /// Unpacks the layers of a platform's image where they are not yet, and returns the chain id of the top.
    async fn unpack(&self, image: &PlatformImage) -> Result<String>;
    /// Disk usage in bytes of the unpacked layers, by chain id, with the chain id of the parent.
    async fn layer_usage(&self) -> Result<Vec<LayerUsage>>;
    /// A read-only view of an unpacked image for a short time (user look-ups, copy-up). The view goes with the guard
    /// key: call `release_view` with it.
    async fn view(&self, chain_id: &str) -> Result<ImageView>;
    async fn release_view(&self, view: ImageView) -> Result<()>;

    /// `docker load`: docker-archive or OCI layout, plain or compressed (gzip, zstd, xz, bzip2), one pass.
    /// Names are set when the whole archive has been taken and every digest is right. Progress ends with `Loaded`
    /// items, or an error after which nothing but resumable blobs remains.
    async fn load(&self, archive: ByteStream, platforms: Vec<Platform>) -> Result<BoxStream<Result<LoadProgress>>>;
    /// `docker save`: one tar that is both a docker-archive and an OCI layout. `(name or none, target)` each.
    async fn save(&self, images: Vec<(Option<String>, Descriptor)>, platforms: Vec<Platform>) -> Result<ByteStream>;
    /// `docker import`: the archive becomes the one layer of a new image with this config (rootfs and history are
    /// filled in). Returns its target; the name is set by the caller, the content kept by `lease` until then.
    async fn import(&self, archive: ByteStream, config: Bytes) -> Result<(Descriptor, LeaseGuard)>;
    /// `docker commit`: the layers of `parent` (a platform's manifest), `layer` on top where there is one, and this
    /// config (its rootfs is filled in). Returns the target, kept by the lease as `import` does. `NotFound` when the
    /// parent's content is gone.
    async fn commit(
        &self,
        parent: Option<Descriptor>,
        layer: Option<ByteStream>,
        config: Bytes,
    ) -> Result<(Descriptor, LeaseGuard)>;
    /// `docker pull`: blobs as they are missing, unpacked while they come, the names at the very end. An error before
    /// the first byte is the call's own. A pull that fails or whose stream is dropped leaves nothing but blobs, whole
    /// or in part, that the next one goes on from.
    async fn pull(&self, request: PullRequest) -> Result<BoxStream<Result<PullProgress>>>;
    /// `docker push`: what the registry has is not sent again. `NotFound` for a name that is not here.
    async fn push(&self, request: PushRequest) -> Result<BoxStream<Result<PushProgress>>>;

    /// Gives up what pulls that were cut off have kept to go on from; pulls that run keep theirs. Returns the bytes of
    /// blobs that had come in part: whole ones are freed by the collection.
    async fn forget_partial_pulls(&self) -> Result<u64>;

    /// Ends the protection of content that by now has a name.
    async fn release_lease(&self, lease: LeaseGuard) -> Result<()>;
    /// Names of our leases; for the reconciliation.
    async fn leases(&self) -> Result<Vec<String>>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerUsage {
    pub chain_id: String,
    pub parent: String,
    /// Bytes of this layer alone.
    pub size: u64,
}

/// A read-only mount of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageView {
    pub key: String,
    pub mounts: Vec<RootMount>,
}

/// Name of a containerd lease that expires by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseGuard(pub String);

#[derive(Debug, Clone, PartialEq)]
pub enum LoadProgress {
    /// Bytes of one layer taken so far.
    Layer { id: String, current: u64, total: u64 },
    /// One image is there; name as Docker shows it, or none and its id.
    Loaded { name: Option<String>, target: Box<Descriptor> },
}

#[derive(Debug, Clone)]
pub struct PullRequest {
    /// With tag or digest; without, every tag of the repository.
    pub reference: Reference,
    /// The host's where none was asked for.
    pub platform: Option<Platform>,
    pub auth: RegistryAuth,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PullProgress {
    /// A manifest was found: work on one tag (or digest) begins.
    Begun {
        tag: String,
    },
    Layer {
        id: String,
        step: PullStep,
    },
    /// One name is set; `newer` when anything of it was not here before.
    Pulled {
        reference: Reference,
        target: Box<Descriptor>,
        newer: bool,
    },
}

/// Where a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStep {
    Queued,
    Waiting,
    Downloading {
        current: u64,
        total: u64,
    },
    Retrying {
        seconds: u64,
    },
    Downloaded,
    /// Since so many seconds, the first of which counts.
    Extracting {
        seconds: u64,
    },
    Complete,
    Exists,
}

#[derive(Debug, Clone)]
pub struct PushRequest {
    /// With a tag; without, every tag of the repository that is here.
    pub reference: Reference,
    pub platform: Option<Platform>,
    pub auth: RegistryAuth,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PushProgress {
    Layer {
        id: String,
        step: PushStep,
    },
    /// Of an index only this manifest is here whole.
    Instead {
        index: Box<Descriptor>,
        manifest: Box<Descriptor>,
    },
    /// What was to be pushed is not here whole; the error follows.
    Missing {
        target: Box<Descriptor>,
    },
    Pushed {
        reference: Reference,
        target: Box<Descriptor>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushStep {
    Preparing,
    Waiting,
    Pushing {
        current: u64,
        total: u64,
    },
    Retrying {
        seconds: u64,
    },
    Pushed,
    Exists,
    /// From a repository of the same registry.
    Mounted {
        from: String,
    },
}
