//! `GET /info` and `GET /version`.

use std::collections::BTreeSet;

use gantry_domain::{Result, container::Status, network::lent::BUILT_IN, volume::LOCAL};

use super::{SystemInfo, SystemVersion, count};
use crate::{Engine, parts::Parts};

/// gantry-init is of this build.
const INIT_VERSION: &str = env!("CARGO_PKG_VERSION");

impl Engine {
    /// Never fails for a partial problem: it becomes a warning.
    pub async fn system_info(&self) -> Result<SystemInfo> {
        let parts = &self.parts;
        let settings = parts.settings.load_full();
        let facts = parts.ports.host.facts().await;
        let snapshots = self.snapshots();
        let mut warnings = settings.warnings.clone();
        warnings.extend(facts.warnings.clone());
        warnings.extend(parts.ports.store.warnings());
        warnings.extend(parts.ports.network.warnings());
        warnings.extend(parts.warnings.lock().clone());
        // Damage that was met at the start is told by the store and kept by the engine.
        let mut told = std::collections::HashSet::new();
        warnings.retain(|text| told.insert(text.clone()));
        let versions = parts.ports.runtime.versions().await.unwrap_or_else(|error| {
            warnings.push(format!("WARNING: containerd does not answer: {error}"));
            Default::default()
        });
        let images = parts.catalog.count().await.unwrap_or_else(|error| {
            warnings.push(format!("WARNING: the image store does not answer: {error}"));
            0
        });
        let (drivers, problems) = crate::container::device_drivers(parts).await;
        warnings.extend(problems);
        Ok(SystemInfo {
            id: parts.id.to_string(),
            settings,
            facts,
            versions,
            init_version: INIT_VERSION.to_owned(),
            containers_running: count(&snapshots, |status| status == Status::Running),
            containers_paused: count(&snapshots, |status| status == Status::Paused),
            // One in its back-off has no process, although inspect shows it as running.
            containers_stopped: count(&snapshots, |status| !status.has_process()),
            images,
            warnings,
            cdi_devices: drivers.cdi.names().map(ToOwned::to_owned).collect(),
            network_drivers: network_drivers(parts),
            volume_drivers: volume_drivers(parts),
            event_listeners: parts.events.listeners() as i64,
            now: jiff::Timestamp::now(),
        })
    }

    /// Answers even while containerd is away: its component is then empty.
    pub async fn system_version(&self) -> Result<SystemVersion> {
        Ok(SystemVersion {
            settings: self.settings(),
            facts: self.parts.facts().await.as_ref().clone(),
            versions: self.parts.ports.runtime.versions().await.unwrap_or_default(),
            init_version: INIT_VERSION.to_owned(),
        })
    }
}

fn volume_drivers(parts: &Parts) -> Vec<String> {
    let mut drivers = parts.ports.volumes.drivers();
    drivers.push(LOCAL.to_owned());
    drivers.sort();
    drivers
}

fn network_drivers(parts: &Parts) -> Vec<String> {
    let mut found: BTreeSet<String> = BUILT_IN.iter().map(ToString::to_string).collect();
    found.extend(parts.ports.plugins.drivers());
    found.extend(parts.claims.lock().networks.values().map(|network| network.driver.clone()));
    found.into_iter().collect()
}
