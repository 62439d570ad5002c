//! The engine itself: version, info, disk usage.

mod auth;
mod df;
mod info;
mod reload;
mod shutdown;

use gantry_domain::{
    container::{Snapshot, Status},
    ports::{Facts, RuntimeVersions},
    settings::Settings,
    volume::VolumeRecord,
};
use std::sync::Arc;

use crate::{container::ContainerDetails, image::ImageDetails};

/// For `GET /info`; the view adds what is the API's own.
#[derive(Debug, Clone)]
pub struct SystemInfo {
    pub id: String,
    pub settings: Arc<Settings>,
    pub facts: Facts,
    pub versions: RuntimeVersions,
    pub init_version: String,
    pub containers_running: i64,
    pub containers_paused: i64,
    pub containers_stopped: i64,
    pub images: i64,
    /// Every warning, of the configuration, the host, the store and the network.
    pub warnings: Vec<String>,
    /// Devices that CDI offers, by qualified name.
    pub cdi_devices: Vec<String>,
    /// Network drivers: our own, those of networks, and plugins that were found.
    pub network_drivers: Vec<String>,
    /// Our own, and plugins that were found.
    pub volume_drivers: Vec<String>,
    pub event_listeners: i64,
    pub now: jiff::Timestamp,
}

/// For `GET /version`.
#[derive(Debug, Clone)]
pub struct SystemVersion {
    pub settings: Arc<Settings>,
    pub facts: Facts,
    pub versions: RuntimeVersions,
    pub init_version: String,
}

/// Which of the four kinds `GET /system/df` is to count; all when none is named.
#[derive(Debug, Clone, Copy)]
pub struct DiskUsageKinds {
    pub containers: bool,
    pub images: bool,
    pub volumes: bool,
    pub build_cache: bool,
}

/// For `GET /system/df`; a kind that was not asked for is `None`.
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// Bytes of all unpacked layers and blobs.
    pub layers_size: i64,
    pub images: Option<Vec<ImageDetails>>,
    pub containers: Option<Vec<ContainerDetails>>,
    pub volumes: Option<Vec<VolumeUsage>>,
    /// There is no builder: always empty where asked for.
    pub build_cache: bool,
}

#[derive(Debug, Clone)]
pub struct VolumeUsage {
    pub volume: VolumeRecord,
    /// Bytes.
    pub size: i64,
    pub references: i64,
}

pub(crate) fn count(snapshots: &[Snapshot], wanted: impl Fn(Status) -> bool) -> i64 {
    snapshots.iter().filter(|snapshot| wanted(snapshot.status)).count() as i64
}

/// `prune` of a kind, with the bytes it gave back.
pub(crate) fn prune_event(parts: &crate::parts::Parts, kind: gantry_domain::event::EventType, reclaimed: u64) {
    parts.events.publish(gantry_domain::event::Event {
        kind,
        action: "prune".into(),
        actor_id: String::new(),
        attributes: [("reclaimed".to_owned(), reclaimed.to_string())].into(),
        at: jiff::Timestamp::now(),
    });
}
