//! A volume: a named directory that outlives containers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Label that marks a volume that was made without a name.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// Our own driver; every other one is a plugin.
pub const LOCAL: &str = "local";

/// Of a volume that is here; one of all hosts is `global`.
pub const LOCAL_SCOPE: &str = "local";

/// Go's zero time, of a volume whose driver does not say when it was made.
const NEVER: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// What the store keeps of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    pub schema: u32,
    pub generation: u64,
    pub name: String,
    pub driver: String,
    pub created: Timestamp,
    pub mountpoint: String,
    pub options: Option<BTreeMap<String, String>>,
    pub labels: Option<BTreeMap<String, String>>,
}

/// A volume as its driver tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldVolume {
    pub name: String,
    pub driver: String,
    /// Empty where the driver does not say.
    pub mountpoint: String,
    pub created: Option<Timestamp>,
    /// Words of the driver's own.
    pub status: Map<String, Value>,
    /// `local` or `global`.
    pub scope: String,
}

/// A volume as a client sees it: the record, and what its driver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenVolume {
    /// Made up for a volume that only a plugin knows.
    pub record: VolumeRecord,
    pub scope: String,
    pub status: Map<String, Value>,
}

impl From<VolumeRecord> for SeenVolume {
    /// Of our own driver, or of one that does not answer.
    fn from(record: VolumeRecord) -> Self {
        Self { record, scope: LOCAL_SCOPE.to_owned(), status: Map::new() }
    }
}

impl SeenVolume {
    /// One that a plugin has, with the record where there is one.
    pub fn told(record: Option<VolumeRecord>, told: ToldVolume) -> Self {
        let mut record = record.unwrap_or_else(|| VolumeRecord {
            schema: crate::container::record::SCHEMA,
            generation: 0,
            name: told.name,
            driver: told.driver,
            created: NEVER,
            mountpoint: String::new(),
            options: None,
            labels: None,
        });
        record.created = told.created.unwrap_or(record.created);
        record.mountpoint = told.mountpoint;
        Self { record, scope: told.scope, status: told.status }
    }
}

impl VolumeRecord {
    pub fn is_anonymous(&self) -> bool {
        self.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS_LABEL))
    }
}
