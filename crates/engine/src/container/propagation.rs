//! Binds that are to share mounts with the host, as dockerd's `ensureShared` and `ensureSharedOrSlave` look at them.

use gantry_domain::{Error, Result, container::MountPoint};

use crate::parts::Parts;

/// A bind that was asked to share mounts with the host needs a source that does; `System` otherwise.
pub(crate) async fn check(parts: &Parts, points: &[MountPoint]) -> Result<()> {
    let by_mount = |point: &MountPoint| {
        let options = point.spec.as_ref().and_then(|spec| spec.bind_options.as_ref());
        options.is_some_and(|options| !options.propagation.is_empty())
    };
    let by_mode = |point: &MountPoint| point.mode.split(',').any(|word| word == point.propagation);
    for point in points.iter().filter(|point| point.kind == "bind" && (by_mount(point) || by_mode(point))) {
        let wanted = match point.propagation.as_str() {
            "shared" | "rshared" => "shared",
            "slave" | "rslave" => "shared or slave",
            _ => continue,
        };
        let mount = parts.ports.host.mount_of(&point.source).await?;
        if !(mount.shared || wanted != "shared" && mount.slave) {
            let (source, place) = (&point.source, mount.place);
            return Err(Error::system(format!("path {source} is mounted on {place} but it is not a {wanted} mount")));
        }
    }
    Ok(())
}
