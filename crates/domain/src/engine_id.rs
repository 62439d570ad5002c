//! The identity of one engine: written once to a file in its root, and put as a label on everything that it makes.

use serde::{Deserialize, Serialize};

/// Label key under which containerd objects and kernel objects name the engine that made them.
pub const LABEL: &str = "io.gantry/engine-id";

/// A UUID in text form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EngineId(pub String);

impl std::fmt::Display for EngineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
