//! A volume driver's calls.

use std::path::{Path, PathBuf};

use gantry_domain::{Error, Result};
use serde_json::{Value, json};

use super::Plugin;

impl Plugin {
    /// Makes the volume; one that the plugin has already is taken as it is.
    pub async fn volume_create(&self, name: &str, options: Value) -> Result<()> {
        if self.volume_get(name).await.is_ok() {
            return Ok(());
        }
        self.call("/VolumeDriver.Create", &json!({"Name": name, "Opts": options})).await.map(drop)
    }

    pub async fn volume_get(&self, name: &str) -> Result<Value> {
        let answer = self.call("/VolumeDriver.Get", &json!({"Name": name})).await?;
        match answer.get("Volume") {
            Some(volume) if !volume.is_null() => Ok(volume.clone()),
            _ => Err(Error::not_found(format!("get {name}: no such volume"))),
        }
    }

    pub async fn volume_remove(&self, name: &str) -> Result<()> {
        self.call("/VolumeDriver.Remove", &json!({"Name": name})).await.map(drop)
    }

    /// Where it is, for this user.
    pub async fn volume_mount(&self, name: &str, user: &str) -> Result<PathBuf> {
        let answer = self.call("/VolumeDriver.Mount", &json!({"Name": name, "ID": user})).await?;
        let at = answer.get("Mountpoint").and_then(Value::as_str).unwrap_or_default();
        if !Path::new(at).is_absolute() {
            return Err(Error::system(format!("plugin {} mounted the volume at {at:?}", self.name)));
        }
        Ok(at.into())
    }

    pub async fn volume_unmount(&self, name: &str, user: &str) -> Result<()> {
        self.call("/VolumeDriver.Unmount", &json!({"Name": name, "ID": user})).await.map(drop)
    }
}
