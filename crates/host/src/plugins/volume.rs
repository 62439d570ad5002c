//! A volume driver's calls.

use std::path::{Path, PathBuf};

use gantry_domain::{
    Error, Result,
    volume::{LOCAL_SCOPE, ToldVolume},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Failure, Limit, Plugin, Plugins};

/// A volume in a plugin's answer.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Told {
    name: String,
    mountpoint: Option<String>,
    created_at: Option<String>,
    status: Option<Map<String, Value>>,
}

impl Plugins {
    /// `local` or `global`. Many plugins do not know the call; it is made until there is an answer.
    pub async fn volume_scope(&self, plugin: &Plugin) -> String {
        if let Some(known) = self.active.lock().get(&plugin.name).and_then(|known| known.scope.clone()) {
            return known;
        }
        let told = match plugin.ask("VolumeDriver.Capabilities", &json!({}), Limit::BRIEF).await {
            Ok(answer) => answer["Capabilities"]["Scope"].as_str().unwrap_or_default().to_lowercase(),
            Err(Failure::Refused(..)) => String::new(),
            Err(Failure::Away(_)) => return LOCAL_SCOPE.to_owned(),
        };
        let scope = if told == "global" { told } else { LOCAL_SCOPE.to_owned() };
        if let Some(known) = self.active.lock().get_mut(&plugin.name) {
            known.scope = Some(scope.clone());
        }
        scope
    }
}

impl Plugin {
    /// Makes the volume, or says `false`: one that the plugin has already is taken as it is.
    pub async fn volume_create(&self, name: &str, options: Value) -> Result<bool> {
        if self.volume_get(name).await.is_ok() {
            return Ok(false);
        }
        self.call("VolumeDriver.Create", &json!({"Name": name, "Opts": options})).await.map(|_| true)
    }

    pub async fn volume_get(&self, name: &str) -> Result<Value> {
        let answer = self.call("VolumeDriver.Get", &json!({"Name": name})).await?;
        match answer.get("Volume") {
            Some(volume) if !volume.is_null() => Ok(volume.clone()),
            _ => Err(Error::not_found(format!("get {name}: no such volume"))),
        }
    }

    /// What it says of a volume, without its scope; `None` where it answers that it has none.
    pub async fn volume_look(&self, name: &str, limit: Limit) -> std::result::Result<Option<ToldVolume>, Failure> {
        let asked = json!({"Name": name});
        let mut told = match self.ask("VolumeDriver.Get", &asked, limit).await {
            Ok(answer) => match answer.get("Volume").filter(|volume| !volume.is_null()) {
                Some(volume) => self.told(volume),
                None => return Ok(None),
            },
            Err(Failure::Refused(..)) => return Ok(None),
            Err(away) => return Err(away),
        };
        name.clone_into(&mut told.name);
        if told.mountpoint.is_empty()
            && let Ok(answer) = self.ask("VolumeDriver.Path", &asked, limit).await
        {
            answer["Mountpoint"].as_str().unwrap_or_default().clone_into(&mut told.mountpoint);
        }
        Ok(Some(told))
    }

    /// All that it has, without their scope.
    pub async fn volume_list(&self, limit: Limit) -> Result<Vec<ToldVolume>> {
        let answer = self.call_within("VolumeDriver.List", &json!({}), limit).await?;
        let volumes = answer["Volumes"].as_array().into_iter().flatten();
        Ok(volumes.map(|volume| self.told(volume)).filter(|told| !told.name.is_empty()).collect())
    }

    fn told(&self, volume: &Value) -> ToldVolume {
        let told = Told::deserialize(volume).unwrap_or_default();
        ToldVolume {
            name: told.name,
            driver: self.name.clone(),
            mountpoint: told.mountpoint.unwrap_or_default(),
            created: told.created_at.and_then(|at| at.parse().ok()),
            status: told.status.unwrap_or_default(),
            scope: LOCAL_SCOPE.to_owned(),
        }
    }

    pub async fn volume_remove(&self, name: &str) -> Result<()> {
        self.call("VolumeDriver.Remove", &json!({"Name": name})).await.map(drop)
    }

    /// Where it is, for this user.
    pub async fn volume_mount(&self, name: &str, user: &str) -> Result<PathBuf> {
        let answer = self.call("VolumeDriver.Mount", &json!({"Name": name, "ID": user})).await?;
        let at = answer.get("Mountpoint").and_then(Value::as_str).unwrap_or_default();
        if !Path::new(at).is_absolute() {
            return Err(Error::system(format!("plugin {} mounted the volume at {at:?}", self.name)));
        }
        Ok(at.into())
    }

    pub async fn volume_unmount(&self, name: &str, user: &str) -> Result<()> {
        self.call("VolumeDriver.Unmount", &json!({"Name": name, "ID": user})).await.map(drop)
    }
}
