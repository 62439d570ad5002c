//! Records that are there and cannot be used, of a newer gantryd or undecodable: what they hold stays claimed, nothing of
//! it is removed, and a verb on them is refused.

use std::collections::BTreeMap;

use gantry_domain::{
    ContainerId, Digest, Error, Result,
    container::record::Endpoint,
    ports::{KeptRecord, RecordKind},
};
use serde_json::Value;

use crate::claims::Claims;

/// Who they are, and why. Filled at the start, and the same until the end.
#[derive(Default)]
pub(crate) struct KeptRecords {
    containers: BTreeMap<ContainerId, (Option<String>, String)>,
    volumes: BTreeMap<String, String>,
}

impl KeptRecords {
    pub fn has_container(&self, id: &ContainerId) -> bool {
        self.containers.contains_key(id)
    }

    pub fn has_volume(&self, name: &str) -> bool {
        self.volumes.contains_key(name)
    }

    /// The refusal, where a client means a kept container by its id, its name or the beginning of its id.
    pub fn refuse_container(&self, typed: &str) -> Result<()> {
        let named = typed.strip_prefix('/').unwrap_or(typed);
        let meant = |id: &ContainerId, name: &Option<String>| {
            name.as_deref() == Some(named) || (!typed.is_empty() && id.as_str().starts_with(typed))
        };
        match self.containers.iter().find(|(id, (name, _))| meant(id, name)) {
            Some((_, (_, why))) => Err(Error::conflict(why.clone())),
            None => Ok(()),
        }
    }

    pub fn refuse_volume(&self, name: &str) -> Result<()> {
        self.volumes.get(name).map_or(Ok(()), |why| Err(Error::conflict(why.clone())))
    }
}

/// For `/info`, and for the client whose verb is refused.
pub(crate) fn why(kept: &KeptRecord) -> String {
    let kind = match &kept.kind {
        RecordKind::Container => "container",
        RecordKind::Volume => "volume",
        RecordKind::Network => "network",
        RecordKind::Debt => "debt",
        RecordKind::Other(kind) => kind,
    };
    let why = if kept.newer { "was written by a newer gantryd" } else { "cannot be read" };
    format!("the record of the {kind} {} {why}: it is kept and not touched", kept.id)
}

/// Claims what a kept record is seen to hold.
pub(crate) fn claim(claims: &mut Claims, kept: &KeptRecord) {
    match kept.kind {
        RecordKind::Container => {
            // What is no id can be nobody's.
            let Ok(id) = ContainerId::parse(&kept.id) else { return };
            claims.kept.containers.insert(id.clone(), (None, why(kept)));
            claim_held(claims, &id, &kept.raw);
        }
        RecordKind::Volume => {
            claims.kept.volumes.insert(kept.id.clone(), why(kept));
        }
        // Nothing takes a network away that no verb names.
        RecordKind::Network | RecordKind::Debt | RecordKind::Other(_) => {}
    }
}

/// Name, volumes, image and addresses, as far as they can be made out. The copy in containerd says them where the record
/// itself is unreadable.
pub(crate) fn claim_held(claims: &mut Claims, id: &ContainerId, json: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Value>(json) else { return };
    if let Some(name) = record["name"].as_str().filter(|name| !name.is_empty()) {
        // Another one has the name already: the kept one is known by its id then.
        let _ = claims.take_name(name, id);
        if let Some((kept, _)) = claims.kept.containers.get_mut(id) {
            *kept = Some(name.to_owned());
        }
    }
    for point in record["mounts"].as_array().into_iter().flatten() {
        // Docker's field names, see `MountPoint`.
        if let (Some("volume"), Some(volume)) = (point["Type"].as_str(), point["Name"].as_str()) {
            claims.use_volume(volume, id);
        }
    }
    if let Some(image) = record["image"]["id"].as_str().and_then(|image| Digest::parse(image).ok()) {
        claims.use_image(&image, id);
    }
    let endpoints = record["run"]["endpoints"].clone();
    if record["run"]["exit"].is_null()
        && let Ok(endpoints) = serde_json::from_value::<BTreeMap<String, Endpoint>>(endpoints)
    {
        crate::container::retake(claims, id, &endpoints);
    }
}
