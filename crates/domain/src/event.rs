//! What happened to an object: the entries of `GET /events`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many events are kept for `since`.
pub const RING: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    Container,
    Image,
    Volume,
    Network,
    Daemon,
    Plugin,
    Builder,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Daemon => "daemon",
            Self::Plugin => "plugin",
            Self::Builder => "builder",
        }
    }
}

/// One event. `action` is Docker's text, as `exec_create: ls` or `health_status: healthy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub kind: EventType,
    pub action: String,
    /// Id of a container or network, name of an image or volume.
    pub actor_id: String,
    pub attributes: BTreeMap<String, String>,
    pub at: Timestamp,
}
