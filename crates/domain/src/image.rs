//! An image: names that point to a manifest or an index, and what the config says.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, GoTime, container::HealthConfig, container::config::Empty, platform::Platform};

pub mod changes;

/// Beginning of the store's name for an image that lost its last name; the digest follows.
pub const DANGLING: &str = "gantry-dangling@";

/// An OCI descriptor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// One name in the image store and what it points to. Several names may point to one target.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedImage {
    /// Fully qualified (`docker.io/library/busybox:latest`), or `gantry-dangling@sha256:…` for one without a name.
    pub name: String,
    /// Index or manifest; its digest is the image's id.
    pub target: Descriptor,
    pub created_at: GoTime,
    /// When the name was last moved: `Metadata.LastTagTime`.
    pub updated_at: GoTime,
}

/// A manifest of one platform, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct PlatformImage {
    pub manifest: Descriptor,
    pub platform: Platform,
    pub config_digest: Digest,
    pub layers: Vec<Descriptor>,
    pub config: ImageConfig,
    /// The config blob, byte for byte: ids are made of it, so it is never written again.
    pub config_bytes: bytes::Bytes,
    /// Whether every blob is here.
    pub complete: bool,
}

impl PlatformImage {
    /// Sum of the blobs of this platform: config and layers, compressed, in bytes.
    pub fn content_size(&self) -> i64 {
        self.layers.iter().map(|layer| layer.size).sum::<i64>() + self.config_bytes.len() as i64 + self.manifest.size
    }
}

/// One manifest of an image, here or not.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestEntry {
    pub descriptor: Descriptor,
    pub kind: ManifestKind,
    /// Whether every blob of it is here.
    pub available: bool,
    /// Bytes of those blobs that are here.
    pub content: i64,
    /// Where it is an image, with at least its config.
    pub image: Option<PlatformImage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestKind {
    Image,
    /// About this manifest.
    Attestation(Digest),
    Unknown,
}

/// What the engine reads of an image's config blob (OCI image specification, with Docker's additions).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    pub created: Option<GoTime>,
    #[serde(deserialize_with = "null_default")]
    pub author: String,
    #[serde(deserialize_with = "null_default")]
    pub architecture: String,
    #[serde(deserialize_with = "null_default")]
    pub os: String,
    #[serde(rename = "os.version", deserialize_with = "null_default")]
    pub os_version: String,
    #[serde(deserialize_with = "null_default")]
    pub variant: String,
    #[serde(deserialize_with = "null_default")]
    pub config: ImageRunConfig,
    #[serde(deserialize_with = "null_default")]
    pub rootfs: RootFs,
    #[serde(deserialize_with = "null_default")]
    pub history: Vec<History>,
    #[serde(deserialize_with = "null_default")]
    pub comment: String,
    #[serde(deserialize_with = "null_default")]
    pub docker_version: String,
}

impl ImageConfig {
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: Vec::new(),
            variant: self.variant.clone(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    #[serde(rename = "type", deserialize_with = "null_default")]
    pub kind: String,
    #[serde(deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    pub created: Option<GoTime>,
    #[serde(deserialize_with = "null_default")]
    pub author: String,
    #[serde(deserialize_with = "null_default")]
    pub created_by: String,
    #[serde(deserialize_with = "null_default")]
    pub comment: String,
    #[serde(deserialize_with = "null_default")]
    pub empty_layer: bool,
}

/// The `config` member of an image's config blob.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageRunConfig {
    #[serde(deserialize_with = "null_default")]
    pub user: String,
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    pub env: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub volumes: Option<BTreeMap<String, Empty>>,
    #[serde(deserialize_with = "null_default")]
    pub working_dir: String,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "null_default")]
    pub stop_signal: String,
    #[serde(deserialize_with = "null_default")]
    pub args_escaped: bool,
    pub healthcheck: Option<HealthConfig>,
    pub on_build: Option<Vec<String>>,
    pub shell: Option<Vec<String>>,
}

impl From<&crate::container::Config> for ImageRunConfig {
    fn from(config: &crate::container::Config) -> Self {
        let some = |labels: &Option<BTreeMap<String, String>>| labels.clone().filter(|labels| !labels.is_empty());
        Self {
            user: config.user.clone(),
            exposed_ports: Some(config.exposed_ports.clone()).filter(|ports| !ports.is_empty()),
            env: config.env.clone(),
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            volumes: config.volumes.clone().filter(|volumes| !volumes.is_empty()),
            working_dir: config.working_dir.clone(),
            labels: some(&config.labels),
            stop_signal: config.stop_signal.clone(),
            args_escaped: config.args_escaped,
            healthcheck: config.healthcheck.clone(),
            on_build: config.on_build.clone(),
            shell: config.shell.clone(),
        }
    }
}

impl From<ImageRunConfig> for crate::container::Config {
    fn from(run: ImageRunConfig) -> Self {
        Self {
            user: run.user,
            exposed_ports: run.exposed_ports.unwrap_or_default(),
            env: run.env,
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            volumes: run.volumes,
            working_dir: run.working_dir,
            labels: run.labels,
            stop_signal: run.stop_signal,
            args_escaped: run.args_escaped,
            healthcheck: run.healthcheck,
            on_build: run.on_build,
            shell: run.shell,
            ..Self::default()
        }
    }
}

fn null_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
