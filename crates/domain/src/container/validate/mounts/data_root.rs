//! Binds around the engine's own data root.

use std::path::Path;

use super::{super::super::MountPoint, PROPAGATION};
use crate::{Error, Result};

/// Binds of what holds the data root, or lies in it: mounts that the engine makes and takes away below it must go from
/// a container too, so they follow the host's. `InvalidParameter` for a propagation that keeps them.
pub fn follow_the_data_root(points: &mut [MountPoint], data_root: &str) -> Result<()> {
    let root = Path::new(data_root);
    for point in points.iter_mut().filter(|point| point.kind == "bind") {
        let source = Path::new(&point.source);
        if !source.starts_with(root) && !root.starts_with(source) {
            continue;
        }
        match asked_propagation(point).unwrap_or_default() {
            "" => point.propagation = "rslave".into(),
            "rslave" | "rshared" => {}
            other => {
                return Err(Error::invalid(format!(
                    "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source \
                     is within the daemon root, daemon root: {data_root:?}, bind mount source: {:?}, propagation: {other:?}",
                    point.source
                )));
            }
        }
    }
    Ok(())
}

fn asked_propagation(point: &MountPoint) -> Option<&str> {
    match &point.spec {
        Some(spec) => spec.bind_options.as_ref().map(|options| options.propagation.as_str()),
        None => point.mode.split(',').find(|word| PROPAGATION.contains(word)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bind(source: &str, mode: &str) -> MountPoint {
        let propagation = mode.split(',').find(|word| PROPAGATION.contains(word)).unwrap_or("rprivate");
        MountPoint {
            kind: "bind".into(),
            source: source.into(),
            mode: mode.into(),
            propagation: propagation.into(),
            ..MountPoint::default()
        }
    }

    #[test]
    fn a_bind_that_holds_the_data_root_or_lies_in_it_follows_the_hosts_mounts() {
        for (source, propagation) in [
            ("/", "rslave"),
            ("/var", "rslave"),
            ("/var/lib/gantry", "rslave"),
            ("/var/lib/gantry/volumes/x", "rslave"),
            ("/var/lib/gantry2", "rprivate"),
            ("/etc", "rprivate"),
        ] {
            let mut points = [bind(source, "ro")];
            follow_the_data_root(&mut points, "/var/lib/gantry").unwrap();
            assert_eq!(points[0].propagation, propagation, "{source}");
        }
    }

    #[test]
    fn a_propagation_that_keeps_the_engines_mounts_is_refused() {
        for (mode, allowed) in
            [("rslave", true), ("rshared", true), ("slave", false), ("shared", false), ("rprivate", false)]
        {
            let mut points = [bind("/", mode)];
            let checked = follow_the_data_root(&mut points, "/var/lib/gantry");
            assert_eq!(checked.is_ok(), allowed, "{mode}");
            assert_eq!(points[0].propagation, mode);
        }
        let error = follow_the_data_root(&mut [bind("/", "private")], "/var/lib/gantry").unwrap_err();
        assert_eq!(
            error.message(),
            "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within \
             the daemon root, daemon root: \"/var/lib/gantry\", bind mount source: \"/\", propagation: \"private\""
        );
    }
}
