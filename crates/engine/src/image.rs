//! Images: the requests and answers of their verbs.

mod attestations;
mod catalog;
mod commit;
mod delete;
mod history;
mod import;
mod list;
mod load;
mod prune;
mod pull;
mod push;
mod save;
mod search;
mod tag;

use gantry_domain::{
    ContainerId, Digest, GoTime,
    filter::Filters,
    image::{Descriptor, ManifestEntry, PlatformImage},
    platform::Platform,
    ports::{PullStep, PushStep},
    registry::RegistryAuth,
};

use serde_json::value::RawValue;

pub(crate) use catalog::{Catalog, Resolved, chain};
pub(crate) use list::{prune_labels_match, until};

/// `GET /images/json`.
#[derive(Debug, Clone, Default)]
pub struct ImageList {
    pub all: bool,
    pub filters: Filters,
    pub shared_size: bool,
    pub manifests: bool,
}

/// One image (one target) with all its names.
#[derive(Debug, Clone)]
pub struct ImageDetails {
    /// The image's id: digest of index or manifest.
    pub id: Digest,
    pub target: Descriptor,
    /// Familiar: `busybox:latest`.
    pub repo_tags: Vec<String>,
    /// Familiar: `busybox@sha256:…`.
    pub repo_digests: Vec<String>,
    /// The platform shown (the host's, or the one asked for); `None` when no manifest of it is here.
    pub image: Option<PlatformImage>,
    /// Every platform that is here.
    pub platforms: Vec<PlatformImage>,
    /// Where they were asked for: every manifest, here or not.
    pub manifests: Vec<ManifestDetails>,
    /// Bytes: blobs and unpacked layers of all platforms.
    pub size: i64,
    /// Bytes: the blobs of the platform that is shown, with the index.
    pub content_size: i64,
    /// -1 unless asked for.
    pub shared_size: i64,
    /// Containers that use it.
    pub containers: i64,
    pub last_tagged: GoTime,
}

/// One manifest of an image.
#[derive(Debug, Clone)]
pub struct ManifestDetails {
    pub entry: ManifestEntry,
    /// Bytes of its unpacked layers.
    pub unpacked: i64,
    pub containers: Vec<ContainerId>,
}

/// `GET /images/{name}/json`.
#[derive(Debug, Clone, Default)]
pub struct ImageInspect {
    /// Then that platform's manifest is what is told of.
    pub platform: Option<Platform>,
    pub manifests: bool,
}

impl ImageDetails {
    /// Nothing names it, neither a tag nor the digest that it was pulled by.
    pub fn is_dangling(&self) -> bool {
        self.repo_tags.is_empty() && self.repo_digests.is_empty()
    }
}

/// `GET /images/{name}/attestations`.
#[derive(Debug, Clone, Default)]
pub struct ImageAttestations {
    /// Of this image; the host's without.
    pub platform: Option<Platform>,
    /// Types of predicates, as URIs; all of them without.
    pub types: Vec<String>,
    /// With the statements themselves.
    pub statement: bool,
}

/// A statement about an image: where it came from, what is in it.
#[derive(Debug, Clone)]
pub struct AttestationStatement {
    pub descriptor: Descriptor,
    /// `https://slsa.dev/provenance/v1`
    pub predicate_type: String,
    /// The blob, verbatim: JSON.
    pub statement: Option<Box<RawValue>>,
}

/// One line of `docker history`, newest first.
#[derive(Debug, Clone)]
pub struct ImageHistory {
    /// The image's id for the newest line, else `<missing>`.
    pub id: String,
    pub created: i64,
    pub created_by: String,
    pub tags: Option<Vec<String>>,
    pub size: i64,
    pub comment: String,
}

/// `DELETE /images/{name}`.
#[derive(Debug, Clone, Default)]
pub struct ImageRemoval {
    pub force: bool,
    /// Taken, and of no effect: parents are no images of their own in this store.
    pub noprune: bool,
    /// Only these; without, all of the image.
    pub platforms: Vec<Platform>,
}

/// One line of the answer to a delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageDeleted {
    Untagged(String),
    Deleted(String),
}

/// `POST /images/create?fromSrc=`.
#[derive(Debug, Clone, Default)]
pub struct ImageImport {
    pub repo: String,
    pub tag: String,
    pub message: String,
    /// Dockerfile instructions (`CMD`, `ENV`, …).
    pub changes: Vec<String>,
    pub platform: Option<Platform>,
}

/// How an import from a URL gets on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportStep {
    /// Bytes; a `total` of 0 is unknown.
    Read {
        current: u64,
        total: u64,
    },
    Imported(Digest),
}

/// `POST /commit`.
#[derive(Debug, Clone, Default)]
pub struct ImageCommit {
    pub container: String,
    pub repo: String,
    pub tag: String,
    pub comment: String,
    pub author: String,
    pub pause: bool,
    /// Dockerfile instructions (`CMD`, `ENV`, …), one or more each.
    pub changes: Vec<String>,
    /// Instead of the container's own.
    pub config: Option<gantry_domain::container::Config>,
}

/// What load tells while it runs; the API makes Docker's progress lines of it.
#[derive(Debug, Clone, PartialEq)]
pub enum LoadMessage {
    Layer {
        id: String,
        current: u64,
        total: u64,
    },
    /// `Loaded image: busybox:latest`.
    LoadedName(String),
    /// `Loaded image ID: sha256:…`.
    LoadedId(String),
}

/// 200 of prune.
#[derive(Debug, Clone, Default)]
pub struct ImagesPruned {
    pub deleted: Vec<ImageDeleted>,
    pub reclaimed: u64,
}

/// `POST /images/create?fromImage=`.
#[derive(Debug, Clone, Default)]
pub struct ImagePull {
    /// A name, with or without tag or digest.
    pub image: String,
    /// Tag or digest; without one here and in the name, every tag.
    pub tag: String,
    pub platform: Option<Platform>,
    pub auth: RegistryAuth,
}

/// What pull tells while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum PullMessage {
    /// `Pulling from library/busybox`, under the tag.
    Begun {
        repository: String,
        tag: String,
    },
    Layer {
        id: String,
        step: PullStep,
    },
    Digest(Digest),
    /// The end; `newer` when anything came.
    Done {
        shown: String,
        newer: bool,
    },
}

/// `POST /images/{name}/push`.
#[derive(Debug, Clone, Default)]
pub struct ImagePush {
    pub name: String,
    /// Without, every tag that is here.
    pub tag: String,
    pub platform: Option<Platform>,
    pub auth: RegistryAuth,
}

/// What push tells while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum PushMessage {
    /// `The push refers to repository [docker.io/library/x]`
    Begun {
        repository: String,
    },
    Layer {
        id: String,
        step: PushStep,
    },
    Instead {
        index: Box<Descriptor>,
        manifest: Box<Descriptor>,
    },
    Missing {
        target: Box<Descriptor>,
    },
    Pushed {
        tag: String,
        digest: Digest,
        size: i64,
    },
}
