//! What clients of older versions of the API did not know of mounts, or meant otherwise.

use super::super::{
    super::{HostConfig, MountPoint},
    ApiVersion,
};
use crate::{Error, Result};

/// `VolumeOptions must not be specified on mount type "bind"` (API 1.42 on).
pub(in super::super) fn options_of_another_type(host: &HostConfig) -> Result<()> {
    for mount in &host.mounts {
        let given = [
            (mount.bind_options.is_some(), "BindOptions", "bind"),
            (mount.volume_options.is_some(), "VolumeOptions", "volume"),
            (mount.tmpfs_options.is_some(), "TmpfsOptions", "tmpfs"),
        ];
        if let Some((_, name, _)) = given.iter().find(|(given, _, kind)| *given && mount.kind != *kind) {
            return Err(Error::invalid(format!("{name} must not be specified on mount type {:?}", mount.kind)));
        }
    }
    Ok(())
}

/// What was not there, or not checked, before API 1.42.
pub(in super::super) fn older_than_1_42(host: &mut HostConfig) {
    for mount in &mut host.mounts {
        if let Some(options) = &mut mount.bind_options {
            options.create_mountpoint = false;
        }
        if mount.kind != "volume" {
            mount.volume_options = None;
        }
        if mount.kind != "tmpfs" {
            mount.tmpfs_options = None;
        }
    }
}

/// A bind of `Binds` that is read-only is not recursively so for clients older than API 1.44.
pub fn read_only_as_of(points: &mut [MountPoint], api: ApiVersion) {
    for point in points.iter_mut().filter(|point| point.kind == "bind" && point.spec.is_none() && !point.rw) {
        point.read_only_non_recursive = api < ApiVersion(1, 44);
    }
}

/// Read-only binds were not recursively so before API 1.44.
pub(in super::super) fn older_than_1_44(host: &mut HostConfig) -> Result<()> {
    for mount in host.mounts.iter_mut().filter(|mount| mount.kind == "bind") {
        let options = mount.bind_options.get_or_insert_default();
        if options.read_only_force_recursive {
            return Err(Error::invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"));
        }
        if mount.read_only {
            options.read_only_non_recursive = true;
        }
    }
    Ok(())
}

pub(in super::super) fn newer_than(host: &HostConfig, api: ApiVersion) -> Result<()> {
    for mount in &host.mounts {
        if api < ApiVersion(1, 45) && mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty()) {
            return Err(Error::invalid("VolumeOptions.Subpath needs API v1.45 or newer"));
        }
        if api < ApiVersion(1, 48) && mount.kind == "image" {
            return Err(Error::invalid("Mount type \"Image\" needs API v1.48 or newer"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::super::{
            Mount,
            mount::{BindOptions, TmpfsOptions, VolumeOptions},
        },
        *,
    };

    #[test]
    fn options_of_another_type_are_taken_from_clients_that_were_not_checked() {
        let mount = |kind: &str| Mount {
            kind: kind.into(),
            bind_options: (kind == "bind").then(|| BindOptions { create_mountpoint: true, ..BindOptions::default() }),
            volume_options: Some(VolumeOptions::default()),
            tmpfs_options: Some(TmpfsOptions::default()),
            ..Mount::default()
        };
        let mut host = HostConfig { mounts: ["bind", "volume", "tmpfs"].map(mount).into(), ..HostConfig::default() };
        older_than_1_42(&mut host);
        let left: Vec<_> =
            host.mounts.iter().map(|mount| (mount.volume_options.is_some(), mount.tmpfs_options.is_some())).collect();
        assert_eq!(left, [(false, false), (true, false), (false, true)]);
        assert!(host.mounts[0].bind_options.as_ref().is_some_and(|options| !options.create_mountpoint));
        options_of_another_type(&host).expect("nothing is left to refuse");
    }

    #[test]
    fn a_read_only_bind_of_an_old_client_leaves_what_is_mounted_below_it() {
        for (minor, rw, alone) in [(43, false, true), (43, true, false), (44, false, false)] {
            let mut points = [MountPoint { kind: "bind".into(), rw, ..MountPoint::default() }];
            read_only_as_of(&mut points, ApiVersion(1, minor));
            assert_eq!(points[0].read_only_non_recursive, alone, "{minor}");
        }
    }
}
