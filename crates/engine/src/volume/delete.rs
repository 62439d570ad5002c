//! `DELETE /volumes/{name}`.

use gantry_domain::{Error, Result, ports::Write, volume::VolumeRecord};

use crate::{
    Engine,
    parts::{Parts, detached},
};

impl Engine {
    /// Removes a volume that no container has, running or not. With `force` a missing one is `Ok`.
    pub async fn volume_delete(&self, name: &str, force: bool) -> Result<()> {
        let (parts, name) = (self.parts.clone(), name.to_owned());
        detached(async move {
            match remove(&parts, &name).await {
                Err(error) if force && error.is_not_found() => Ok(()),
                other => other,
            }
        })
        .await
    }
}

/// The claim goes first, so that nobody takes a volume that is going.
pub(crate) async fn remove(parts: &Parts, name: &str) -> Result<()> {
    let volume = {
        let mut claims = parts.claims.lock();
        claims.kept.refuse_volume(name)?;
        let users = claims.volume_users(name);
        if !users.is_empty() {
            let users: Vec<&str> = users.iter().map(gantry_domain::ContainerId::as_str).collect();
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        claims.volumes.remove(name).ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))?
    };
    let tombstone = Write::VolumeTombstone { name: name.to_owned() };
    if let Err(error) = parts.ports.store.commit(vec![tombstone]).await {
        parts.claims.lock().volumes.insert(name.to_owned(), volume);
        return Err(error);
    }
    take_away(parts, &volume).await
}

/// Removes a volume whose tombstone is written and which is claimed no more.
pub(crate) async fn take_away(parts: &Parts, volume: &VolumeRecord) -> Result<()> {
    parts.ports.volumes.remove(&volume.name).await?;
    parts.ports.store.commit(vec![Write::VolumeGone { name: volume.name.clone() }]).await?;
    super::create::publish(parts, volume, "destroy");
    Ok(())
}
