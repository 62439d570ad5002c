//! `DELETE /volumes/{name}`.
//!
//! checks ─► tombstone durable ─► claimed no more, going ─► folder removed ─► tombstone gone
//!
//! What fails after the tombstone is tried again: by the next removal or creation of that name, and by the sweep.

use std::collections::BTreeMap;

use gantry_domain::{
    Error, Result,
    event::{Event, EventType},
    ports::Write,
};

use super::Turn;
use crate::{
    Engine,
    parts::{Parts, detached},
};

impl Engine {
    /// Removes a volume that no container has, running or not. With `force` a missing one is `Ok`.
    pub async fn volume_delete(&self, name: &str, force: bool) -> Result<()> {
        let (parts, name) = (self.parts.clone(), name.to_owned());
        detached(async move {
            match remove_as_asked(&parts, &name, force).await {
                Err(error) if force && error.is_not_found() => Ok(()),
                other => other,
            }
        })
        .await
    }
}

pub(crate) async fn remove(parts: &Parts, name: &str) -> Result<()> {
    remove_as_asked(parts, name, false).await
}

/// With its turn held nobody takes the volume between the look at its users and the tombstone. `force` removes it also
/// where its plugin is not there to do its part.
async fn remove_as_asked(parts: &Parts, name: &str, force: bool) -> Result<()> {
    let turn = parts.volume_turns.take(name).await;
    parts.claims.lock().kept.refuse_volume(name)?;
    let known = {
        let claims = parts.claims.lock();
        claims.volumes.contains_key(name) || claims.going_volumes.contains_key(name)
    };
    if !known && let Some(told) = parts.ports.volumes.seek(name).await {
        super::create::adopt(parts, told, None, &turn).await?;
    }
    {
        let claims = parts.claims.lock();
        let users = claims.volume_users(name);
        if !users.is_empty() {
            let users: Vec<&str> = users.iter().map(gantry_domain::ContainerId::as_str).collect();
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        if !claims.volumes.contains_key(name) && !claims.going_volumes.contains_key(name) {
            return Err(Error::not_found(format!("get {name}: no such volume")));
        }
    }
    if parts.claims.lock().volumes.contains_key(name) {
        match parts.ports.volumes.check_removable(name).await {
            Err(error) if force && error.is_not_found() => {
                tracing::warn!(volume = name, %error, "removed without its plugin");
            }
            other => other?,
        }
        parts.ports.store.commit(vec![Write::VolumeTombstone { name: name.to_owned() }]).await?;
        parts.claims.lock().volume_goes(name);
    }
    take_away(parts, name, &turn).await
}

/// Finishes a removal whose tombstone is written. Nothing to do where there is none of this name.
pub(crate) async fn finish(parts: &Parts, name: &str) -> Result<()> {
    let turn = parts.volume_turns.take(name).await;
    take_away(parts, name, &turn).await
}

pub(super) async fn take_away(parts: &Parts, name: &str, _its: &Turn) -> Result<()> {
    let Some(driver) = parts.claims.lock().going_volumes.get(name).cloned() else { return Ok(()) };
    parts.ports.volumes.remove(name).await?;
    parts.ports.store.commit(vec![Write::VolumeGone { name: name.to_owned() }]).await?;
    parts.claims.lock().going_volumes.remove(name);
    parts.events.publish(Event {
        kind: EventType::Volume,
        action: "destroy".to_owned(),
        actor_id: name.to_owned(),
        attributes: BTreeMap::from([("driver".to_owned(), driver)]),
        at: jiff::Timestamp::now(),
    });
    Ok(())
}
