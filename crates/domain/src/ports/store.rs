//! Records that survive a restart.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    ContainerId, NetworkId, Result,
    container::ContainerRecord,
    event::Event,
    network::{NetworkRecord, lent::Debt},
    volume::VolumeRecord,
};

/// Durable records. A write is on stable storage when `commit` returns.
#[async_trait]
pub trait Store: Send + Sync {
    /// Writes all or nothing, and returns when it will survive a power cut. Concurrent calls share one fdatasync.
    async fn commit(&self, writes: Vec<Write>) -> Result<()>;
    /// Everything that was kept, read once at the start.
    async fn load(&self) -> Result<Loaded>;
    /// Recomputable data (event ring, health log, back-off): kept in sled only, written lazily, may be lost.
    /// An empty value removes the key.
    async fn put_cache(&self, key: &str, value: Vec<u8>) -> Result<()>;
    async fn get_cache(&self, key: &str) -> Result<Option<Vec<u8>>>;
    /// Writes out what is lazily kept; called at a clean end.
    async fn flush(&self) -> Result<()>;
    /// What is wrong with the store now, for `/info`.
    fn warnings(&self) -> Vec<String>;
}

/// One record to write, or a tombstone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Write {
    Container(Box<ContainerRecord>),
    /// The removal is decided; what the container has is to be taken away until `ContainerGone`.
    ContainerTombstone {
        id: ContainerId,
    },
    /// Nothing of the container is left.
    ContainerGone {
        id: ContainerId,
    },
    Volume(VolumeRecord),
    VolumeTombstone {
        name: String,
    },
    VolumeGone {
        name: String,
    },
    Network(NetworkRecord),
    NetworkTombstone {
        id: NetworkId,
    },
    NetworkGone {
        id: NetworkId,
    },
    /// To be given back to plugins, until `DebtGone`.
    Debt(Debt),
    DebtGone {
        id: String,
    },
}

/// The records at the start.
#[derive(Debug, Default)]
pub struct Loaded {
    pub containers: Vec<ContainerRecord>,
    /// Removals that were decided and not finished.
    pub container_tombstones: Vec<ContainerId>,
    pub volumes: Vec<VolumeRecord>,
    pub volume_tombstones: Vec<String>,
    pub networks: Vec<NetworkRecord>,
    pub network_tombstones: Vec<NetworkId>,
    /// What is to be given back to plugins.
    pub debts: Vec<Debt>,
    /// Records that are there and that this version cannot use. Nothing of theirs may be touched.
    pub kept: Vec<KeptRecord>,
    /// The store was damaged and has been rebuilt: nothing unclaimed may be deleted in the first pass, and the
    /// third copies (containerd's extensions, volume folders) are to be read. Texts for `/info`.
    pub damage: Vec<String>,
}

/// A record that stays as it is: of a newer schema, or one that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRecord {
    pub kind: RecordKind,
    /// The id, or a volume's name.
    pub id: String,
    /// Written by a newer version; else it cannot be read.
    pub newer: bool,
    /// As it was found; empty where not even that could be read.
    pub raw: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKind {
    Container,
    Volume,
    Network,
    Debt,
    /// A kind that only a newer version knows.
    Other(String),
}

/// Keys of `put_cache`.
pub mod cache_key {
    pub const EVENTS: &str = "events";

    /// A container's `State.Health`.
    pub fn health(container: &crate::ContainerId) -> String {
        format!("health/{container}")
    }
}

/// The event ring, as kept in the cache.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct EventRing {
    pub events: Vec<Event>,
}
