//! The health of a container: Docker's `State.Health`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::GoTime;

/// How many probe results are kept.
pub const LOG_LENGTH: usize = 5;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    pub failing_streak: i64,
    pub log: Vec<HealthcheckResult>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthcheckResult {
    pub start: GoTime,
    pub end: GoTime,
    pub exit_code: i64,
    pub output: String,
}
