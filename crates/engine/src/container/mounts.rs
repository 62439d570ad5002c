//! What is mounted into a container: bind sources checked, volumes made, filled and held.

use std::path::PathBuf;

use gantry_domain::{
    ContainerId, Error, ErrorKind, Result,
    container::{
        ContainerRecord, HostConfig, MountPoint,
        validate::mounts::{inherit, parse_volumes_from},
    },
    event::{Event, EventType},
    id::random_hex,
    ports::{RootRef, Write},
    volume::{ANONYMOUS_LABEL, VolumeRecord},
};

use crate::{
    parts::Parts,
    volume::{Durable, VolumeCreate},
};

/// The other container of a `container:<id>` mode.
pub(crate) fn shared_with(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:")
}

/// `VolumesFrom`: the mounts of other containers, below the container's own.
pub(crate) fn with_inherited(parts: &Parts, host: &HostConfig, own: Vec<MountPoint>) -> Result<Vec<MountPoint>> {
    let mut inherited = Vec::new();
    for spec in host.volumes_from.iter().flatten() {
        let (other, writable) = parse_volumes_from(spec)?;
        let other = parts.container(other).map_err(|error| error.with_kind(ErrorKind::InvalidParameter))?;
        let record = other.snapshot().record;
        inherited.extend(record.mounts.iter().cloned().map(|mut point| {
            point.rw &= writable;
            // It goes with the container it was made for.
            point.anonymous = false;
            point
        }));
    }
    Ok(inherit(own, inherited))
}

/// Checks bind sources and makes volumes, so that every mount point has its source. Volumes made here and not used in
/// the end are anonymous ones: they are given back by `give_back`.
pub(crate) async fn resolve(parts: &Parts, id: &ContainerId, points: &mut [MountPoint]) -> Result<()> {
    for point in points.iter_mut() {
        match point.kind.as_str() {
            "bind" => bind_source(parts, point).await?,
            "volume" => volume_source(parts, id, point).await?,
            "image" => return Err(Error::not_implemented("mounts of type image are not implemented by gantry yet")),
            _ => {}
        }
    }
    Ok(())
}

async fn bind_source(parts: &Parts, point: &MountPoint) -> Result<()> {
    let host = &parts.ports.host;
    if host.path_kind(&point.source).await?.is_some() {
        return Ok(());
    }
    // `-v` makes a missing folder; `--mount type=bind` does not, unless asked.
    let may_create = point
        .spec
        .as_ref()
        .is_none_or(|spec| spec.bind_options.as_ref().is_some_and(|options| options.create_mountpoint));
    if may_create {
        return host.make_bind_source(&point.source).await;
    }
    Err(Error::invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        point.source
    )))
}

async fn volume_source(parts: &Parts, id: &ContainerId, point: &mut MountPoint) -> Result<()> {
    let options = point.spec.as_ref().and_then(|spec| spec.volume_options.clone()).unwrap_or_default();
    let driver = options.driver_config.unwrap_or_default();
    let mut labels = options.labels;
    if point.name.is_empty() {
        point.name = random_hex();
        point.anonymous = true;
        labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
    }
    let create = VolumeCreate {
        name: point.name.clone(),
        driver: if driver.name.is_empty() { point.driver.clone() } else { driver.name },
        options: Some(driver.options).filter(|options| !options.is_empty()),
        labels: Some(labels).filter(|labels| !labels.is_empty()),
    };
    let durable = if point.anonymous { Durable::WithItsContainer } else { Durable::Now };
    let volume = crate::volume::ensure(parts, create, Some(id), durable).await?;
    point.source.clone_from(&volume.mountpoint);
    point.driver = volume.driver;
    Ok(())
}

/// The part of a volume that is meant, where it is not the whole.
fn subpath(point: &MountPoint) -> Option<&str> {
    let options = point.spec.as_ref()?.volume_options.as_ref()?;
    Some(options.subpath.as_str()).filter(|subpath| !subpath.is_empty() && point.kind == "volume")
}

/// The mount points with what is bound in place of a volume of which a part is meant.
pub(crate) fn bound(parts: &Parts, record: &ContainerRecord) -> Vec<MountPoint> {
    let points = record.mounts.iter().cloned().enumerate();
    points
        .map(|(number, mut point)| {
            if subpath(&point).is_some() {
                let place = parts.ports.volumes.part_place(&record.id, number);
                point.source = place.to_string_lossy().into_owned();
            }
            point
        })
        .collect()
}

/// Binds the parts of volumes that are mounted.
async fn mount_parts(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    for (number, point) in record.mounts.iter().enumerate() {
        let Some(subpath) = subpath(point) else { continue };
        let volume = parts.claims.lock().volumes.get(&point.name).cloned();
        let volume = volume.ok_or_else(|| Error::not_found(format!("get {}: no such volume", point.name)))?;
        parts.ports.volumes.mount_part(&volume, subpath, &record.id, number).await?;
    }
    Ok(())
}

/// A container that runs has its parts in its own mounts.
pub(crate) async fn unmount_parts(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    if !record.mounts.iter().any(|point| subpath(point).is_some()) {
        return Ok(());
    }
    parts.ports.volumes.unmount_parts(&record.id).await
}

/// The volumes that were made for this container alone, to be written with it.
pub(crate) fn anonymous_volumes(parts: &Parts, record: &ContainerRecord) -> Vec<Write> {
    let claims = parts.claims.lock();
    let points = record.mounts.iter().filter(|point| point.anonymous);
    points.filter_map(|point| claims.volumes.get(&point.name)).cloned().map(Write::Volume).collect()
}

/// Fills empty volumes from the image.
pub(crate) async fn copy_up(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    let wanting: Vec<&MountPoint> =
        record.mounts.iter().filter(|point| point.kind == "volume" && !point.no_copy).collect();
    if wanting.is_empty() {
        return Ok(());
    }
    let root = RootRef::Mounts(parts.ports.runtime.root_mounts(&record.id).await?);
    for point in wanting {
        let volume = parts.claims.lock().volumes.get(&point.name).cloned();
        let Some(volume) = volume else { continue };
        parts.ports.volumes.mount(&volume, &record.id).await?;
        let copied = parts.ports.rootfs.copy_up(&root, &point.destination, &PathBuf::from(&point.source)).await;
        parts.ports.volumes.unmount(&volume, &record.id).await?;
        copied?;
    }
    Ok(())
}

/// Removes the anonymous volumes of a container that was not made after all.
pub(crate) async fn give_back(parts: &Parts, points: &[MountPoint]) {
    for point in points.iter().filter(|point| point.anonymous) {
        if let Err(error) = crate::volume::remove(parts, &point.name).await {
            tracing::warn!(volume = %point.name, %error, "an unused volume is left");
        }
    }
}

fn volumes_of(parts: &Parts, record: &ContainerRecord) -> Vec<(VolumeRecord, MountPoint)> {
    let claims = parts.claims.lock();
    record
        .mounts
        .iter()
        .filter(|point| point.kind == "volume")
        .filter_map(|point| Some((claims.volumes.get(&point.name)?.clone(), point.clone())))
        .collect()
}

/// Mounts the volumes of a run and says so (`mount` events).
pub(crate) async fn mount_volumes(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    for (volume, point) in volumes_of(parts, record) {
        parts.ports.volumes.mount(&volume, &record.id).await?;
        let more = [
            ("destination", point.destination.clone()),
            ("propagation", point.propagation.clone()),
            ("read/write", point.rw.to_string()),
        ];
        publish(parts, &volume, record, "mount", &more);
    }
    mount_parts(parts, record).await
}

/// Whether a volume, or the part of it that is meant, is there only while somebody has it mounted.
pub(crate) fn has_optioned(parts: &Parts, record: &ContainerRecord) -> bool {
    record.mounts.iter().any(|point| subpath(point).is_some())
        || volumes_of(parts, record)
            .iter()
            .any(|(volume, _)| volume.options.as_ref().is_some_and(|all| !all.is_empty()))
}

/// Mounts the volumes for a copy.
pub(crate) async fn mount_quietly(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    for (volume, _) in volumes_of(parts, record) {
        parts.ports.volumes.mount(&volume, &record.id).await?;
    }
    mount_parts(parts, record).await
}

pub(crate) async fn unmount_quietly(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    let mut result = unmount_parts(parts, record).await;
    for (volume, _) in volumes_of(parts, record) {
        result = parts.ports.volumes.unmount(&volume, &record.id).await.and(result);
    }
    result
}

/// Gives the volumes of a run back; errors are the last one's.
pub(crate) async fn unmount_volumes(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    let mut result = unmount_parts(parts, record).await;
    for (volume, _) in volumes_of(parts, record) {
        match parts.ports.volumes.unmount(&volume, &record.id).await {
            Ok(()) => publish(parts, &volume, record, "unmount", &[]),
            Err(error) => result = Err(error),
        }
    }
    result
}

fn publish(parts: &Parts, volume: &VolumeRecord, record: &ContainerRecord, action: &str, more: &[(&str, String)]) {
    let mut attributes: std::collections::BTreeMap<String, String> =
        [("driver".to_owned(), volume.driver.clone()), ("container".to_owned(), record.id.to_string())].into();
    attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    parts.events.publish(Event {
        kind: EventType::Volume,
        action: action.to_owned(),
        actor_id: volume.name.clone(),
        attributes,
        at: jiff::Timestamp::now(),
    });
}
