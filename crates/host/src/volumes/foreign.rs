//! Volumes of plugins. What a plugin mounts is bound at the volume's own place while somebody uses it, so that all that
//! is done with volumes (parts, copies, filling) is the same for every driver.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::join_all;
use gantry_domain::{
    ContainerId, Error, Result,
    volume::{LOCAL, ToldVolume, VolumeRecord},
};
use serde_json::json;
use tokio::time::timeout;

use super::{LocalVolumes, RECORD};
use crate::{
    blocking::blocking,
    plugins::{Limit, Plugin},
};

/// For which plugin has a volume: who makes one waits for it.
const SEEKING: Duration = Duration::from_secs(4);

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

    /// The same in little time; `Unavailable` for one that is not reached.
    async fn plugin_to_look(&self, driver: &str) -> Result<Plugin> {
        let found = self.plugins.find_within(driver, "VolumeDriver", Limit::LOOK).await?;
        found.ok_or_else(|| Error::not_found(format!("plugin \"{driver}\" not found")))
    }

    /// What it does not tell in time is an error with its words.
    pub(super) async fn list_there(&self, driver: &str) -> Result<Vec<ToldVolume>> {
        let plugin = self.plugin_to_look(driver).await?;
        let mut volumes = plugin.volume_list(Limit::LOOK).await?;
        if !volumes.is_empty() {
            let scope = self.plugins.volume_scope(&plugin).await;
            volumes.iter_mut().for_each(|told| told.scope.clone_from(&scope));
        }
        Ok(volumes)
    }

    pub(super) async fn look_there(&self, driver: &str, name: &str) -> Result<Option<ToldVolume>> {
        let plugin = self.plugin_to_look(driver).await?;
        let looked = plugin.volume_look(name, Limit::LOOK).await;
        match looked.map_err(|away| Error::unavailable(away.text("VolumeDriver.Get")))? {
            Some(told) => Ok(Some(ToldVolume { scope: self.plugins.volume_scope(&plugin).await, ..told })),
            None => Ok(None),
        }
    }

    /// All are asked at once, for a few seconds; it is noted which said nothing in them.
    pub(super) async fn seek_there(&self, name: &str, plugins: BTreeSet<String>) -> Option<ToldVolume> {
        let asked = plugins.iter().map(|driver| async move {
            match timeout(SEEKING, self.look_there(driver, name)).await {
                Ok(Ok(sought)) => {
                    self.plugins.note_answer(driver);
                    sought
                }
                Ok(Err(_)) => None,
                Err(_) => {
                    self.plugins.note_slow(driver);
                    None
                }
            }
        });
        join_all(asked).await.into_iter().flatten().next()
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

    /// Whether it had none.
    pub(super) async fn create_there(&self, plugin: &Plugin, volume: &VolumeRecord) -> Result<bool> {
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
