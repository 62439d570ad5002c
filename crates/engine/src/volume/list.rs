//! `GET /volumes` and `GET /volumes/{name}`.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use gantry_domain::{
    Error, ErrorKind, Result,
    filter::Filters,
    volume::{LOCAL, SeenVolume, ToldVolume, VolumeRecord},
};

use crate::{Engine, parts::Parts};

/// What there is, and which drivers could not tell.
#[derive(Debug, Default)]
pub struct VolumeList {
    pub volumes: Vec<SeenVolume>,
    pub warnings: Vec<String>,
}

impl Engine {
    /// The volumes of all drivers. Of a plugin that cannot tell, those that are known here, and a warning.
    pub async fn volume_list(&self, filters: &Filters) -> Result<VolumeList> {
        filters.check_keys(&["dangling", "driver", "label", "name"])?;
        let dangling = if filters.contains("dangling") { Some(filters.bool_or("dangling", false)?) } else { None };
        let names = filters.patterns("name");
        let mut all = everything(&self.parts, |driver| filters.exact_match("driver", driver)).await;
        let claims = self.parts.claims.lock();
        all.volumes.retain(|SeenVolume { record: volume, .. }| {
            let labels = volume.labels.clone().unwrap_or_default();
            names.match_text(&volume.name)
                && filters.labels_match("label", &labels)
                && dangling.is_none_or(|wanted| wanted == claims.volume_users(&volume.name).is_empty())
        });
        Ok(all)
    }

    /// As its driver tells it; as it is known here where the driver is away.
    pub async fn volume_inspect(&self, name: &str) -> Result<SeenVolume> {
        let record = {
            let claims = self.parts.claims.lock();
            claims.kept.refuse_volume(name)?;
            claims.volumes.get(name).cloned()
        };
        seen(&self.parts, record, name).await.ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }
}

/// `None` where nobody has it.
pub(super) async fn seen(parts: &Parts, record: Option<VolumeRecord>, name: &str) -> Option<SeenVolume> {
    let volumes = &parts.ports.volumes;
    let Some(record) = record else {
        return volumes.seek(name).await.map(|told| SeenVolume::told(None, told));
    };
    if record.driver == LOCAL {
        return Some(record.into());
    }
    match volumes.look(&record.driver, name).await {
        Ok(told) => told.map(|told| SeenVolume::told(Some(record), told)),
        Err(error) => {
            tracing::info!(volume = name, %error, "told without its plugin");
            Some(record.into())
        }
    }
}

/// By name; of drivers that are `wanted`.
async fn everything(parts: &Parts, wanted: impl Fn(&str) -> bool) -> VolumeList {
    let mut drivers = parts.ports.volumes.plugins().await;
    drivers.extend(parts.claims.lock().volumes.values().map(|volume| volume.driver.clone()));
    drivers.retain(|driver| driver != LOCAL && wanted(driver));
    let asked = drivers.iter().map(|driver| async move { (driver, parts.ports.volumes.list(driver).await) });
    let answers = join_all(asked).await;
    let records: BTreeMap<String, VolumeRecord> = parts.claims.lock().volumes.clone();
    let mut all = VolumeList::default();
    let mut told_all = BTreeSet::new();
    for (driver, answer) in answers {
        match answer {
            Ok(volumes) => {
                told_all.insert(driver.as_str());
                all.volumes.extend(volumes.into_iter().filter_map(|told| with_record(&records, told)));
            }
            Err(error) => {
                let used = records.values().any(|volume| volume.driver == *driver);
                // One that was never reached may be no driver of volumes at all.
                if used || !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unavailable) {
                    all.warnings.push(error.context(format!("list {driver}")).message().to_owned());
                }
            }
        }
    }
    let known = records.into_values().filter(|volume| wanted(&volume.driver));
    all.volumes.extend(known.filter(|volume| !told_all.contains(volume.driver.as_str())).map(SeenVolume::from));
    all.volumes.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    all
}

/// `None` where the name is another driver's here.
fn with_record(records: &BTreeMap<String, VolumeRecord>, told: ToldVolume) -> Option<SeenVolume> {
    match records.get(&told.name) {
        Some(record) if record.driver != told.driver => None,
        record => Some(SeenVolume { status: serde_json::Map::new(), ..SeenVolume::told(record.cloned(), told) }),
    }
}
