//! Images: the list's items, inspect, history, deletions.

use std::collections::BTreeMap;

use gantry_domain::{
    container::{HealthConfig, config::Empty},
    image::{Descriptor, ImageRunConfig, ManifestKind},
    platform::Platform,
};
use gantry_engine::image::{ImageDeleted, ImageDetails, ImageHistory, ImagesPruned, ManifestDetails};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::DriverData;

/// One item of `GET /images/json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ImageSummary {
    pub containers: i64,
    pub created: i64,
    pub id: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub parent_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
    pub repo_digests: Vec<String>,
    pub repo_tags: Vec<String>,
    /// -1 unless asked for.
    pub shared_size: i64,
    pub size: i64,
}

/// One platform of an image.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ManifestSummary {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Descriptor")]
    pub descriptor: Descriptor,
    #[serde(rename = "Available")]
    pub available: bool,
    #[serde(rename = "Size")]
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    #[serde(rename = "Kind")]
    pub kind: String,
    #[serde(rename = "ImageData", skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ImageData>,
    #[serde(rename = "AttestationData", skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<AttestationData>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct AttestationData {
    /// Digest of the manifest that it is about.
    #[serde(rename = "For")]
    pub of: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestSize {
    pub content: i64,
    pub total: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ImageData {
    pub platform: Platform,
    pub containers: Vec<String>,
    pub size: UnpackedSize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct UnpackedSize {
    pub unpacked: i64,
}

/// `GET /images/{name}/json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub parent: String,
    pub comment: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    pub docker_version: String,
    pub author: String,
    pub config: ImageConfigView,
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    pub size: i64,
    pub graph_driver: DriverData,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
}

/// The run configuration of an image; empty fields are left out.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfigView {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "absent_or_empty")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "none_or_empty")]
    pub env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "none_or_empty")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "none_or_empty")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "absent_or_empty")]
    pub volumes: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "absent_or_empty")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "none_or_empty")]
    pub on_build: Option<Vec<String>>,
    #[serde(skip_serializing_if = "none_or_empty")]
    pub shell: Option<Vec<String>>,
}

fn none_or_empty(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn absent_or_empty<V>(map: &Option<BTreeMap<String, V>>) -> bool {
    map.as_ref().is_none_or(BTreeMap::is_empty)
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RootFs {
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    pub last_tag_time: String,
}

/// One line of history.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryItem {
    pub comment: String,
    pub created: i64,
    pub created_by: String,
    pub id: String,
    pub size: i64,
    pub tags: Option<Vec<String>>,
}

/// One line of a deletion.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteItem {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untagged: Option<String>,
}

/// 200 of prune.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ImagePruneResponse {
    pub images_deleted: Option<Vec<DeleteItem>>,
    pub space_reclaimed: u64,
}

/// `containers_counted`: list counts them from 1.51 on.
pub fn summary(details: &ImageDetails, containers_counted: bool) -> ImageSummary {
    let config = details.image.as_ref().map(|image| &image.config);
    let created = config.and_then(|config| config.created).map_or(0, |created| created.unix());
    ImageSummary {
        containers: if containers_counted { details.containers } else { -1 },
        created,
        id: details.id.to_string(),
        labels: config.and_then(|config| config.config.labels.clone()),
        parent_id: String::new(),
        descriptor: Some(details.target.clone()),
        manifests: details.manifests.iter().map(manifest).collect(),
        repo_digests: details.repo_digests.clone(),
        repo_tags: details.repo_tags.clone(),
        shared_size: details.shared_size,
        size: details.size,
    }
}

fn manifest(details: &ManifestDetails) -> ManifestSummary {
    let ManifestDetails { entry, unpacked, .. } = details;
    let (kind, subject) = match &entry.kind {
        ManifestKind::Image => ("image", None),
        ManifestKind::Attestation(subject) => ("attestation", Some(subject.to_string())),
        ManifestKind::Unknown => ("unknown", None),
    };
    ManifestSummary {
        id: entry.descriptor.digest.to_string(),
        descriptor: entry.descriptor.clone(),
        available: entry.available,
        size: ManifestSize { content: entry.content, total: entry.content + unpacked },
        kind: kind.to_owned(),
        image_data: (entry.kind == ManifestKind::Image).then(|| image_data(details)),
        attestation_data: subject.map(|subject| AttestationData { of: subject }),
    }
}

fn image_data(details: &ManifestDetails) -> ImageData {
    let entry = &details.entry;
    let platform = entry.image.as_ref().map(|image| image.platform.clone());
    ImageData {
        platform: platform.or_else(|| entry.descriptor.platform.clone()).unwrap_or_default(),
        containers: details.containers.iter().map(ToString::to_string).collect(),
        size: UnpackedSize { unpacked: details.unpacked },
    }
}

pub fn inspect(details: &ImageDetails, driver: &str) -> ImageInspect {
    let config = details.image.as_ref().map(|image| image.config.clone()).unwrap_or_default();
    ImageInspect {
        id: details.id.to_string(),
        repo_tags: details.repo_tags.clone(),
        repo_digests: details.repo_digests.clone(),
        parent: String::new(),
        comment: last_comment(&config),
        created: config.created.map(|created| created.to_string()).unwrap_or_default(),
        docker_version: config.docker_version,
        author: config.author,
        config: config.config.into(),
        architecture: config.architecture,
        variant: config.variant,
        os: config.os,
        os_version: config.os_version,
        size: details.content_size,
        graph_driver: DriverData { data: None, name: driver.to_owned() },
        root_fs: RootFs {
            kind: config.rootfs.kind,
            layers: config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: Metadata { last_tag_time: details.last_tagged.to_string() },
        descriptor: Some(details.target.clone()),
        manifests: details.manifests.iter().map(manifest).collect(),
    }
}

/// Docker shows the comment of the newest layer.
fn last_comment(config: &gantry_domain::image::ImageConfig) -> String {
    match config.history.last() {
        Some(last) if !last.comment.is_empty() => last.comment.clone(),
        _ => config.comment.clone(),
    }
}

impl From<ImageRunConfig> for ImageConfigView {
    fn from(config: ImageRunConfig) -> Self {
        Self {
            user: config.user,
            exposed_ports: config.exposed_ports,
            env: config.env,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            volumes: config.volumes,
            working_dir: config.working_dir,
            labels: config.labels,
            stop_signal: config.stop_signal,
            args_escaped: config.args_escaped,
            healthcheck: config.healthcheck,
            on_build: config.on_build,
            shell: config.shell,
        }
    }
}

impl From<ImageHistory> for HistoryItem {
    fn from(line: ImageHistory) -> Self {
        Self {
            comment: line.comment,
            created: line.created,
            created_by: line.created_by,
            id: line.id,
            size: line.size,
            tags: line.tags,
        }
    }
}

impl From<ImageDeleted> for DeleteItem {
    fn from(item: ImageDeleted) -> Self {
        match item {
            ImageDeleted::Untagged(name) => Self { deleted: None, untagged: Some(name) },
            ImageDeleted::Deleted(id) => Self { deleted: Some(id), untagged: None },
        }
    }
}

impl From<ImagesPruned> for ImagePruneResponse {
    fn from(pruned: ImagesPruned) -> Self {
        let deleted: Vec<_> = pruned.deleted.into_iter().map(DeleteItem::from).collect();
        Self { images_deleted: (!deleted.is_empty()).then_some(deleted), space_reclaimed: pruned.reclaimed }
    }
}

/// One of `GET /images/{name}/attestations`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct AttestationStatement {
    descriptor: Descriptor,
    predicate_type: String,
    /// The statement as it is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    statement: Option<Box<RawValue>>,
}

impl From<gantry_engine::image::AttestationStatement> for AttestationStatement {
    fn from(found: gantry_engine::image::AttestationStatement) -> Self {
        Self { descriptor: found.descriptor, predicate_type: found.predicate_type, statement: found.statement }
    }
}

/// `GET /distribution/{name}/json`
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    descriptor: gantry_domain::image::Descriptor,
    platforms: Vec<gantry_domain::platform::Platform>,
}

impl From<gantry_domain::registry::Distribution> for DistributionInspect {
    fn from(found: gantry_domain::registry::Distribution) -> Self {
        Self { descriptor: found.descriptor, platforms: found.platforms }
    }
}
