//! What clients read: Docker's own field names, in the order of Go's structs, `null` and absent where Go has them so.
//!
//! Each view is the newest shape; `compat` takes away or adds what older versions of the API had.

pub mod compat;
pub mod container;
pub mod exec;
pub mod image;
pub mod network;
pub mod progress;
pub mod stats;
pub mod system;
pub mod volume;

use schemars::JsonSchema;
use serde::Serialize;

/// 201 of a create that answers with an id alone.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IdResponse {
    #[serde(rename = "Id")]
    pub id: String,
}

/// `GraphDriver`: data is `null` with a snapshotter.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct DriverData {
    pub data: Option<std::collections::BTreeMap<String, String>>,
    pub name: String,
}

pub(crate) fn is_zero(value: &i64) -> bool {
    *value == 0
}
