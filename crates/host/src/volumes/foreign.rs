//! Volumes of plugins. What a plugin mounts is bound at the volume's own place while somebody uses it, so that all that
//! is done with volumes (parts, copies, filling) is the same for every driver.

use std::path::{Path, PathBuf};

use gantry_domain::{ContainerId, Error, Result, volume::VolumeRecord};
use serde_json::json;

use super::{LOCAL, LocalVolumes, RECORD};
use crate::{blocking::blocking, plugins::Plugin};

impl LocalVolumes {
    /// `None` for our own driver. `NotFound` where the plugin is not there.
    pub(super) async fn plugin(&self, driver: &str) -> Result<Option<Plugin>> {
        if driver == LOCAL {
            return Ok(None);
        }
        let found = self.plugins.find(driver, "VolumeDriver").await?;
        let missing =
            || Error::not_found(format!("error looking up volume plugin {driver}: plugin \"{driver}\" not found"));
        found.map(Some).ok_or_else(missing)
    }

    /// The same for a volume of which only the name is known.
    pub(super) async fn plugin_of(&self, folder: &Path) -> Result<Option<Plugin>> {
        let path = folder.join(RECORD);
        let read = blocking(move || Ok(std::fs::read(path).ok())).await?;
        let record: Option<VolumeRecord> = read.and_then(|json| serde_json::from_slice(&json).ok());
        match record {
            Some(record) => self.plugin(&record.driver).await,
            None => Ok(None),
        }
    }

    pub(super) async fn create_there(&self, plugin: &Plugin, volume: &VolumeRecord) -> Result<()> {
        let options = json!(volume.options.clone().unwrap_or_default());
        let created = plugin.volume_create(&volume.name, options).await;
        created.map_err(|error| error.context(format!("create {}", volume.name)))
    }

    /// What it has no more is removed.
    pub(super) async fn remove_there(&self, plugin: &Plugin, name: &str) -> Result<()> {
        match plugin.volume_remove(name).await {
            Err(error) if plugin.volume_get(name).await.is_ok() => Err(error.context(format!("remove {name}"))),
            Err(error) if error.message().starts_with("VolumeDriver.") => Err(error.context(format!("remove {name}"))),
            _ => Ok(()),
        }
    }

    pub(super) async fn mount_there(
        &self,
        plugin: &Plugin,
        volume: &VolumeRecord,
        user: &ContainerId,
    ) -> Result<PathBuf> {
        let mounted = plugin.volume_mount(&volume.name, user.as_str()).await;
        mounted.map_err(|error| error.context(format!("error while mounting volume '{}'", volume.name)))
    }
}
