//! Binds, `Mounts`, volumes of the image and tmpfs: parsed and checked as dockerd's mount parser does.

mod data_root;
pub(super) mod versions;

use std::collections::BTreeMap;

use super::super::{
    Config, HostConfig, MountPoint,
    mount::{Mount, VolumeOptions},
};
use crate::{Error, Result};

pub use data_root::follow_the_data_root;
pub use versions::read_only_as_of;

const PROPAGATION: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];

/// One parsed `Binds` entry, `Mounts` entry, image volume or tmpfs as a mount point still without a volume's folder.
/// Order: image volumes are overridden by binds and mounts of the same destination.
/// Errors in dockerd's words (`invalid volume specification: 'x'`, `Duplicate mount point: /x`, …).
///
/// `HostConfig.Tmpfs` makes no mount points: it goes straight into the runtime's spec. Names of anonymous volumes are
/// left empty. `VolumesFrom` is the engine's: see `parse_volumes_from` and `inherit`.
pub fn mount_points(config: &Config, host: &HostConfig) -> Result<Vec<MountPoint>> {
    let mut points: Vec<MountPoint> = Vec::new();
    let duplicate = |points: &[MountPoint], destination: &str| {
        let taken = points.iter().any(|point| point.destination == destination);
        if taken || host.tmpfs.keys().any(|path| clean(path) == destination) {
            return Err(Error::invalid(format!("Duplicate mount point: {destination}")));
        }
        Ok(())
    };
    for bind in host.binds.iter().flatten() {
        let point = parse_bind(bind, &host.volume_driver)?;
        duplicate(&points, &point.destination)?;
        points.push(point);
    }
    for mount in &host.mounts {
        let point = point_of(mount, &host.volume_driver)?;
        duplicate(&points, &point.destination)?;
        points.push(MountPoint { spec: Some(mount.clone()), ..point });
    }
    for path in config.volumes.iter().flat_map(BTreeMap::keys) {
        // A relative path, or one that climbs, is taken from the container's root (T13).
        let destination = clean(&format!("/{path}"));
        check_destination(&destination)
            .map_err(|error| error.context(format!("invalid volume specification: '{path}'")))?;
        if !points.iter().any(|point| point.destination == destination) {
            points.push(MountPoint { mode: String::new(), ..volume("", destination, &host.volume_driver) });
        }
    }
    Ok(points)
}

/// With no driver it is that of the volume of this name, which may be there already.
fn volume(name: &str, destination: String, driver: &str) -> MountPoint {
    MountPoint {
        kind: "volume".into(),
        name: name.into(),
        destination,
        driver: driver.into(),
        mode: if matches!(driver, "" | "local") { "z".into() } else { String::new() },
        rw: true,
        anonymous: name.is_empty(),
        ..MountPoint::default()
    }
}

/// `/host:/path[:mode]`, `name:/path[:mode]`, `/path`.
fn parse_bind(raw: &str, driver: &str) -> Result<MountPoint> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{raw}'"));
    let parts: Vec<&str> = raw.splitn(4, ':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => ("", target, ""),
        [_, mode] if valid_mode(mode) => return Err(invalid()),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(invalid()),
    };
    if parts[0].is_empty() {
        return Err(invalid());
    }
    if !valid_mode(mode) {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    let has = |word: &str| mode.split(',').any(|part| part == word);
    let propagation = mode.split(',').find(|part| PROPAGATION.contains(part));
    let is_bind = source.starts_with('/');
    let mount = Mount {
        kind: if is_bind { "bind".into() } else { "volume".into() },
        source: source.into(),
        target: target.into(),
        read_only: has("ro"),
        bind_options: propagation
            .map(|word| super::super::mount::BindOptions { propagation: word.into(), ..Default::default() }),
        volume_options: has("nocopy").then(|| VolumeOptions { no_copy: true, ..VolumeOptions::default() }),
        ..Mount::default()
    };
    let mut point =
        point_of(&mount, driver).map_err(|error| Error::invalid(format!("{}: {error}", invalid().message())))?;
    if !mode.is_empty() || is_bind {
        point.mode = mode.into();
    }
    Ok(point)
}

/// At most one word of each class.
fn valid_mode(mode: &str) -> bool {
    const CLASSES: [&[&str]; 5] =
        [&["rw", "ro"], &["z", "Z"], &PROPAGATION, &["nocopy"], &["consistent", "cached", "delegated"]];
    let mut seen = [false; CLASSES.len()];
    mode.is_empty()
        || mode.split(',').all(|word| {
            let class = CLASSES.iter().position(|class| class.contains(&word));
            class.is_some_and(|class| !std::mem::replace(&mut seen[class], true))
        })
}

fn point_of(mount: &Mount, driver: &str) -> Result<MountPoint> {
    check(mount)?;
    let destination = clean(&mount.target);
    let point = match mount.kind.as_str() {
        "volume" => {
            let options = mount.volume_options.as_ref();
            let own = options.and_then(|options| options.driver_config.as_ref()).map(|driver| driver.name.as_str());
            let driver = own.filter(|name| !name.is_empty()).unwrap_or(driver);
            let no_copy = options.is_some_and(|options| options.no_copy);
            MountPoint { no_copy, ..volume(&mount.source, destination, driver) }
        }
        "bind" => {
            let asked = mount.bind_options.as_ref().map(|options| options.propagation.as_str());
            let propagation = asked.filter(|word| !word.is_empty()).unwrap_or("rprivate");
            let kind = mount.kind.clone();
            let source = clean(&mount.source);
            MountPoint { kind, source, destination, propagation: propagation.into(), ..MountPoint::default() }
        }
        _ => {
            MountPoint { kind: mount.kind.clone(), source: mount.source.clone(), destination, ..MountPoint::default() }
        }
    };
    Ok(MountPoint { rw: !mount.read_only, ..point })
}

/// One `Mount` in dockerd's words: `invalid mount config for type "bind": field Source must not be empty`.
fn check(mount: &Mount) -> Result<()> {
    check_fields(mount).map_err(|error| error.context(format!("invalid mount config for type {:?}", mount.kind)))
}

fn check_fields(mount: &Mount) -> Result<()> {
    let extra = |given: bool, field: &str| match given {
        true => Err(Error::invalid(format!("field {field} must not be specified"))),
        false => Ok(()),
    };
    let missing = |text: &str, field: &str| match text.is_empty() {
        true => Err(Error::invalid(format!("field {field} must not be empty"))),
        false => Ok(()),
    };
    missing(&mount.target, "Target")?;
    check_destination(&mount.target)?;
    if mount.source.contains('\0') {
        return Err(Error::invalid(format!("invalid mount path: {:?}", mount.source)));
    }
    match mount.kind.as_str() {
        "bind" => {
            missing(&mount.source, "Source")?;
            let word = mount.bind_options.as_ref().map_or("", |options| options.propagation.as_str());
            if !word.is_empty() && !PROPAGATION.contains(&word) {
                return Err(Error::invalid(format!("invalid propagation mode: {word}")));
            }
            extra(mount.volume_options.is_some(), "VolumeOptions")?;
            extra(mount.image_options.is_some(), "ImageOptions")?;
            check_absolute(&mount.source)
        }
        "volume" => {
            extra(mount.bind_options.is_some(), "BindOptions")?;
            extra(mount.image_options.is_some(), "ImageOptions")?;
            let subpath = mount.volume_options.as_ref().map_or("", |options| options.subpath.as_str());
            if !subpath.is_empty() && mount.source.is_empty() {
                return Err(Error::invalid("must not set Subpath when using anonymous volumes"));
            }
            check_subpath(subpath)?;
            if mount.read_only && mount.source.is_empty() {
                return Err(Error::invalid("must not set ReadOnly mode when using anonymous volumes"));
            }
            Ok(())
        }
        "tmpfs" => {
            extra(mount.bind_options.is_some(), "BindOptions")?;
            extra(mount.image_options.is_some(), "ImageOptions")?;
            extra(!mount.source.is_empty(), "Source")?;
            if mount.tmpfs_options.as_ref().is_some_and(|options| options.size_bytes < 0) {
                return Err(Error::invalid("invalid tmpfs size"));
            }
            Ok(())
        }
        "image" => {
            extra(mount.bind_options.is_some(), "BindOptions")?;
            extra(mount.volume_options.is_some(), "VolumeOptions")?;
            missing(&mount.source, "Source")?;
            check_subpath(mount.image_options.as_ref().map_or("", |options| options.subpath.as_str()))
        }
        _ => Err(Error::invalid("mount type unknown")),
    }
}

fn check_subpath(subpath: &str) -> Result<()> {
    if subpath.starts_with('/') || subpath.split('/').any(|part| part == "..") {
        return Err(Error::invalid("subpath must be a relative path within the volume"));
    }
    Ok(())
}

/// Absolute, not the root, and no byte that a path cannot hold (T13, T22).
fn check_destination(path: &str) -> Result<()> {
    check_absolute(path)?;
    if clean(path) == "/" {
        return Err(Error::invalid("invalid specification: destination can't be '/'"));
    }
    Ok(())
}

fn check_absolute(path: &str) -> Result<()> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::invalid(format!("invalid mount path: '{path}' mount path must be absolute")));
    }
    Ok(())
}

/// Go's `path.Clean` for absolute paths: `..` never climbs above the root.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `name[:mode]` of `VolumesFrom` → the container's name, and whether the mounts may be written.
pub fn parse_volumes_from(spec: &str) -> Result<(&str, bool)> {
    if spec.is_empty() {
        return Err(Error::invalid("volumes-from specification cannot be an empty string"));
    }
    let (name, mode) = spec.split_once(':').unwrap_or((spec, "rw"));
    let foreign = mode.split(',').any(|word| word == "nocopy" || PROPAGATION.contains(&word));
    if mode.is_empty() || !valid_mode(mode) || foreign {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    Ok((name, !mode.split(',').any(|word| word == "ro")))
}

/// Adds the mounts of another container; own ones win, but for anonymous volumes that the image alone asked for.
pub fn inherit(own: Vec<MountPoint>, inherited: Vec<MountPoint>) -> Vec<MountPoint> {
    let mut points: Vec<MountPoint> = inherited;
    for point in own {
        let at = points.iter().position(|other| other.destination == point.destination);
        match at {
            Some(_) if point.anonymous && point.spec.is_none() && point.mode.is_empty() => {}
            Some(at) => points[at] = point,
            None => points.push(point),
        }
    }
    points
}

/// `Mounts` and `Tmpfs` by themselves; binds are checked by `mount_points`.
pub(super) fn validate(host: &HostConfig) -> Result<()> {
    host.mounts.iter().try_for_each(check)?;
    host.tmpfs.keys().try_for_each(|path| check_destination(path))?;
    host.volumes_from.iter().flatten().try_for_each(|spec| parse_volumes_from(spec).map(drop))
}
