//! Volumes.

use std::collections::BTreeMap;

use gantry_domain::volume::{SeenVolume, VolumeRecord};
use gantry_engine::{container::Pruned, volume as engine};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// RFC 3339 in seconds.
    pub created_at: String,
    pub driver: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub mountpoint: String,
    pub name: String,
    pub options: Option<BTreeMap<String, String>>,
    /// `local` or `global`.
    pub scope: String,
    /// What a plugin says of it.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub status: Map<String, Value>,
    /// Only in disk usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct UsageData {
    pub ref_count: i64,
    pub size: i64,
}

/// `GET /volumes`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeList {
    pub volumes: Vec<Volume>,
    pub warnings: Option<Vec<String>>,
}

/// 200 of prune.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct VolumePruneResponse {
    pub volumes_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}

impl From<VolumeRecord> for Volume {
    fn from(record: VolumeRecord) -> Self {
        SeenVolume::from(record).into()
    }
}

impl From<engine::VolumeList> for VolumeList {
    fn from(list: engine::VolumeList) -> Self {
        let warnings = (!list.warnings.is_empty()).then_some(list.warnings);
        Self { volumes: list.volumes.into_iter().map(Volume::from).collect(), warnings }
    }
}

impl From<SeenVolume> for Volume {
    fn from(SeenVolume { record, scope, status }: SeenVolume) -> Self {
        Self {
            created_at: record.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            driver: record.driver,
            labels: record.labels,
            mountpoint: record.mountpoint,
            name: record.name,
            options: record.options,
            scope,
            status,
            usage_data: None,
        }
    }
}

impl From<Pruned> for VolumePruneResponse {
    fn from(pruned: Pruned) -> Self {
        let deleted = (!pruned.deleted.is_empty()).then_some(pruned.deleted);
        Self { volumes_deleted: deleted, space_reclaimed: pruned.reclaimed }
    }
}
