//! `POST /volumes/create`: idempotent by name.

use std::collections::BTreeMap;

use gantry_domain::{
    ContainerId, Error, Result,
    container::record::SCHEMA,
    event::{Event, EventType},
    id::random_hex,
    ports::Write,
    text::ram_in_bytes,
    volume::{ANONYMOUS_LABEL, LOCAL, SeenVolume, ToldVolume, VolumeRecord},
};
use jiff::Timestamp;

use super::{Turn, VolumeCreate};
use crate::{
    Engine,
    parts::{Parts, detached},
};

impl Engine {
    /// What is told of it is what its driver says.
    pub async fn volume_create(&self, mut request: VolumeCreate) -> Result<SeenVolume> {
        if request.name.is_empty() {
            request.name = random_hex();
            request.labels.get_or_insert_default().insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let parts = self.parts.clone();
        detached(async move {
            let made = ensure(&parts, request, None, Durable::Now).await?;
            Ok(super::list::seen(&parts, Some(made.clone()), &made.name).await.unwrap_or_else(|| made.into()))
        })
        .await
    }
}

/// When a new volume's record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Now,
    /// By the caller, in one write with the container that it is made for: neither is left without the other.
    WithItsContainer,
}

/// The volume of this name, made if it is not there; `user` claims it in the same step.
pub(crate) async fn ensure(
    parts: &Parts,
    request: VolumeCreate,
    user: Option<&ContainerId>,
    durable: Durable,
) -> Result<VolumeRecord> {
    if let Err(error) = check_name(&request.name) {
        // As in dockerd, the driver comes first.
        parts
            .ports
            .volumes
            .find_driver(&request.driver)
            .await
            .map_err(|no| no.context(format!("create {}", request.name)))?;
        return Err(error);
    }
    // Without a word it is whatever driver has a volume of this name.
    let asked = request.driver;
    parts.claims.lock().kept.refuse_volume(&request.name)?;
    let turn = parts.volume_turns.take(&request.name).await;
    if let Some(found) = claim(parts, &request.name, &asked, user)? {
        return Ok(found);
    }
    let anonymous = request.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS_LABEL));
    if asked.is_empty()
        && !anonymous
        && let Some(told) = parts.ports.volumes.seek_in_haste(&request.name).await
    {
        return adopt(parts, told, user, &turn).await;
    }
    if matches!(asked.as_str(), "" | LOCAL) {
        check_options(request.options.as_ref()).map_err(|error| error.context(format!("create {}", request.name)))?;
    }
    // Of a removal that did not come to its end.
    super::delete::take_away(parts, &request.name, &turn).await?;
    let volume = VolumeRecord {
        schema: SCHEMA,
        generation: 1,
        name: request.name,
        driver: if asked.is_empty() { LOCAL.to_owned() } else { asked },
        created: Timestamp::now(),
        mountpoint: String::new(),
        options: request.options,
        labels: request.labels,
    };
    let volume = make(parts, volume, user, durable, &turn).await?;
    drop(turn);
    publish(parts, &volume, "create");
    Ok(volume)
}

/// A volume that only a plugin knew is one of ours too from now on: its labels and options are not known.
pub(super) async fn adopt(
    parts: &Parts,
    told: ToldVolume,
    user: Option<&ContainerId>,
    turn: &Turn,
) -> Result<VolumeRecord> {
    super::delete::take_away(parts, &told.name, turn).await?;
    let volume = VolumeRecord { generation: 1, ..SeenVolume::told(None, told).record };
    make(parts, volume, user, Durable::Now, turn).await
}

/// Folder, record, claim.
async fn make(
    parts: &Parts,
    mut volume: VolumeRecord,
    user: Option<&ContainerId>,
    durable: Durable,
    _its: &Turn,
) -> Result<VolumeRecord> {
    let made = parts.ports.volumes.create(&volume).await?;
    volume.mountpoint = made.mountpoint.to_string_lossy().into_owned();
    if durable == Durable::Now
        && let Err(error) = parts.ports.store.commit(vec![Write::Volume(volume.clone())]).await
    {
        // Only what this call has made: a folder that was found holds somebody's data.
        if made.fresh
            && let Err(undo) = parts.ports.volumes.remove(&volume.name).await
        {
            tracing::warn!(volume = %volume.name, error = %undo, "half a volume is left");
        }
        return Err(error);
    }
    let mut claims = parts.claims.lock();
    if let Some(user) = user {
        claims.use_volume(&volume.name, user);
    }
    claims.volumes.insert(volume.name.clone(), volume.clone());
    Ok(volume)
}

fn claim(parts: &Parts, name: &str, driver: &str, user: Option<&ContainerId>) -> Result<Option<VolumeRecord>> {
    let mut claims = parts.claims.lock();
    let Some(found) = claims.volumes.get(name).cloned() else { return Ok(None) };
    if !driver.is_empty() && found.driver != driver {
        return Err(Error::conflict(format!(
            "create {name}: driver '{}' already has volume '{name}': volume name must be unique",
            found.driver
        )));
    }
    if let Some(user) = user {
        claims.use_volume(name, user);
    }
    Ok(Some(found))
}

pub(crate) fn publish(parts: &Parts, volume: &VolumeRecord, action: &str) {
    parts.events.publish(Event {
        kind: EventType::Volume,
        action: action.to_owned(),
        actor_id: volume.name.clone(),
        attributes: BTreeMap::from([("driver".to_owned(), volume.driver.clone())]),
        at: Timestamp::now(),
    });
}

fn check_name(name: &str) -> Result<()> {
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = name.len() >= 2 && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if name.len() == 1 {
        return Err(Error::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    if first && rest && name.len() <= 255 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" \
         are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

fn check_options(options: Option<&BTreeMap<String, String>>) -> Result<()> {
    let Some(options) = options else { return Ok(()) };
    if let Some(unknown) = options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device" | "size")) {
        return Err(Error::invalid(format!("invalid option: \"{unknown}\"")));
    }
    if let Some(size) = options.get("size") {
        ram_in_bytes(size)?;
    }
    if options.keys().all(|key| key == "size") {
        return Ok(());
    }
    if options.get("type").is_none_or(String::is_empty) && !options.get("o").is_some_and(|o| o.contains("bind")) {
        return Err(Error::invalid("missing required option: \"type\""));
    }
    if options.get("device").is_none_or(String::is_empty) {
        return Err(Error::invalid("missing required option: \"device\""));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_no_volume_name() {
        let error = check_name("a/b").expect_err("a path");
        assert!(error.message().starts_with("create a/b: \"a/b\" includes invalid characters for a local volume name"));
        assert!(check_name("data").is_ok());
        assert!(check_name("..").is_err());
    }
}
