//! A volume: a named directory that outlives containers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Label that marks a volume that was made without a name.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

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

impl VolumeRecord {
    pub fn is_anonymous(&self) -> bool {
        self.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS_LABEL))
    }
}
