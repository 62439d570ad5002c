//! `GET /volumes` and `GET /volumes/{name}`.

use gantry_domain::{Error, Result, filter::Filters, volume::VolumeRecord};

use crate::Engine;

impl Engine {
    pub async fn volume_list(&self, filters: &Filters) -> Result<Vec<VolumeRecord>> {
        filters.check_keys(&["dangling", "driver", "label", "name"])?;
        let dangling = if filters.contains("dangling") { Some(filters.bool_or("dangling", false)?) } else { None };
        let names = filters.patterns("name");
        let claims = self.parts.claims.lock();
        let chosen = claims.volumes.values().filter(|volume| {
            let labels = volume.labels.clone().unwrap_or_default();
            names.match_text(&volume.name)
                && filters.exact_match("driver", &volume.driver)
                && filters.labels_match("label", &labels)
                && dangling.is_none_or(|wanted| wanted == claims.volume_users(&volume.name).is_empty())
        });
        Ok(chosen.cloned().collect())
    }

    pub async fn volume_inspect(&self, name: &str) -> Result<VolumeRecord> {
        let claims = self.parts.claims.lock();
        claims.kept.refuse_volume(name)?;
        claims.volumes.get(name).cloned().ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }
}
