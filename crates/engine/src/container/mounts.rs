//! What is mounted into a container: bind sources checked, volumes made, filled and held.

use std::path::PathBuf;

use gantry_domain::{
    ContainerId, Digest, Error, ErrorKind, Result,
    container::{
        ContainerRecord, HostConfig, MountPoint,
        validate::mounts::{inherit, parse_volumes_from},
    },
    event::{Event, EventType},
    id::random_hex,
    ports::{RootRef, Write},
    volume::{ANONYMOUS_LABEL, VolumeRecord},
};

use super::binds;
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
    for (number, point) in points.iter_mut().enumerate() {
        match point.kind.as_str() {
            "bind" => binds::make_source(parts, point).await?,
            "volume" => volume_source(parts, id, point).await?,
            "image" => image_source(parts, id, number, point).await?,
            _ => {}
        }
    }
    Ok(())
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

/// The image is held by its digest from now on; the name may come to mean another one.
async fn image_source(parts: &Parts, id: &ContainerId, number: usize, point: &mut MountPoint) -> Result<()> {
    let Some(spec) = &mut point.spec else { return Ok(()) };
    let found = parts.catalog.for_container(&spec.source, None).await;
    // A 404 of create is about the container's own image, which clients then pull.
    let refused =
        |error: Error| if error.is_not_found() { error.with_kind(ErrorKind::InvalidParameter) } else { error };
    let image = found.map_err(refused)?.target.digest;
    parts.claims.lock().use_image(&image, id);
    point.name = std::mem::replace(&mut spec.source, image.to_string());
    point.source = parts.ports.volumes.part_place(id, number).to_string_lossy().into_owned();
    point.rw = false;
    Ok(())
}

/// The images that are mounted, beside the container's own.
pub(crate) fn images(record: &ContainerRecord) -> impl Iterator<Item = Digest> {
    let points = record.mounts.iter().filter(|point| point.kind == "image");
    points.filter_map(|point| Digest::parse(&point.spec.as_ref()?.source).ok())
}

/// What is bound for a start alone: an image, or a part of a volume.
enum Part<'a> {
    /// The name of the volume.
    Volume(&'a str, &'a str),
    /// The digest of the image.
    Image(&'a str, &'a str),
}

impl Part<'_> {
    fn of(point: &MountPoint) -> Option<Part<'_>> {
        let spec = point.spec.as_ref()?;
        if point.kind == "image" {
            let subpath = spec.image_options.as_ref().map_or("", |options| options.subpath.as_str());
            return Some(Part::Image(&spec.source, subpath));
        }
        let subpath = spec.volume_options.as_ref()?.subpath.as_str();
        (!subpath.is_empty() && point.kind == "volume").then_some(Part::Volume(&point.name, subpath))
    }
}

/// The mount points with what is bound in place of a volume of which a part is meant.
pub(crate) fn bound(parts: &Parts, record: &ContainerRecord) -> Vec<MountPoint> {
    let points = record.mounts.iter().cloned().enumerate();
    points
        .map(|(number, mut point)| {
            if Part::of(&point).is_some() {
                let place = parts.ports.volumes.part_place(&record.id, number);
                point.source = place.to_string_lossy().into_owned();
            }
            point
        })
        .collect()
}

/// Binds images, and parts of volumes that are mounted.
async fn mount_parts(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    for (number, point) in record.mounts.iter().enumerate() {
        match Part::of(point) {
            Some(Part::Volume(name, subpath)) => {
                let volume = parts.claims.lock().volumes.get(name).cloned();
                let volume = volume.ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))?;
                parts.ports.volumes.mount_part(&volume, subpath, &record.id, number).await?;
            }
            Some(Part::Image(digest, subpath)) => mount_image(parts, digest, subpath, &record.id, number).await?,
            None => {}
        }
    }
    Ok(())
}

/// Where the memory of the container whose IPC namespace is shared is put for the start.
pub(crate) fn memory_place(parts: &Parts, record: &ContainerRecord) -> Option<PathBuf> {
    shared_with(&record.host_config.ipc_mode)?;
    Some(parts.ports.volumes.part_place(&record.id, record.mounts.len()))
}

/// That container runs: the spec was made with it.
async fn mount_memory(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    let Some(other) = shared_with(&record.host_config.ipc_mode) else { return Ok(()) };
    let process = parts.container(other)?.snapshot().pid;
    parts.ports.volumes.mount_memory(process, &record.id, record.mounts.len()).await
}

/// The view is needed until it is mounted; the layers stay as long as the image does, which a container that runs keeps
/// from being removed.
async fn mount_image(parts: &Parts, digest: &str, subpath: &str, id: &ContainerId, number: usize) -> Result<()> {
    let image = parts.catalog.for_container(digest, None).await?;
    let view = parts.ports.images.view(&image.chain_id).await?;
    let mounted = parts.ports.volumes.mount_image(&view.mounts, subpath, id, number).await;
    if let Err(error) = parts.ports.images.release_view(view).await {
        tracing::warn!(container = %id, %error, "a view of an image is left until its lease ends");
    }
    mounted
}

/// A container that runs has its parts in its own mounts.
pub(crate) async fn unmount_parts(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    let has_parts = record.mounts.iter().any(|point| Part::of(point).is_some());
    if !has_parts && shared_with(&record.host_config.ipc_mode).is_none() {
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
        match copied {
            // One that is bound there on purpose is the runtime's to refuse.
            Err(error) if error.is_conflict() && !(point.anonymous && point.spec.is_none()) => {}
            Err(error) if error.is_conflict() => {
                let text = format!("cannot mount volume over existing file, {}", error.message());
                return Err(Error::system(text));
            }
            copied => copied?,
        }
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
    binds::make_sources(parts, record).await?;
    for (volume, point) in volumes_of(parts, record) {
        parts.ports.volumes.mount(&volume, &record.id).await?;
        let more = [
            ("destination", point.destination.clone()),
            ("propagation", point.propagation.clone()),
            ("read/write", point.rw.to_string()),
        ];
        publish(parts, &volume, record, "mount", &more);
    }
    mount_memory(parts, record).await?;
    mount_parts(parts, record).await
}

/// Whether a volume, or the part of it that is meant, is there only while somebody has it mounted.
pub(crate) fn has_optioned(parts: &Parts, record: &ContainerRecord) -> bool {
    record.mounts.iter().any(|point| Part::of(point).is_some())
        || volumes_of(parts, record)
            .iter()
            .any(|(volume, _)| volume.driver != "local" || volume.options.as_ref().is_some_and(|all| !all.is_empty()))
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
