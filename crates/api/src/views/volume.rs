//! Volumes.

use std::collections::BTreeMap;

use gantry_domain::volume::VolumeRecord;
use gantry_engine::container::Pruned;
use schemars::JsonSchema;
use serde::Serialize;

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
    pub scope: String,
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
        Self {
            created_at: record.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            driver: record.driver,
            labels: record.labels,
            mountpoint: record.mountpoint,
            name: record.name,
            options: record.options,
            scope: "local".to_owned(),
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
