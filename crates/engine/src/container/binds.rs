//! Sources of bind mounts on the host.

use gantry_domain::{
    Error, Result,
    container::{ContainerRecord, MountPoint, mount::BindOptions},
};

use crate::parts::Parts;

pub(crate) async fn make_source(parts: &Parts, point: &MountPoint) -> Result<()> {
    let host = &parts.ports.host;
    if host.path_kind(&point.source).await?.is_some() {
        return Ok(());
    }
    if is_made(point) {
        return host.make_bind_source(&point.source).await;
    }
    Err(Error::invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        point.source
    )))
}

/// `-v` makes a missing folder; `--mount type=bind` does not, unless asked.
fn is_made(point: &MountPoint) -> bool {
    let asked = |options: &BindOptions| options.create_mountpoint;
    point.spec.as_ref().is_none_or(|spec| spec.bind_options.as_ref().is_some_and(asked))
}

/// Makes the sources of bind mounts that have gone since the create: what lies in a tmpfs does at each boot. One that is
/// not to be made is the runtime's to miss.
pub(crate) async fn make_sources(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    for point in record.mounts.iter().filter(|point| point.kind == "bind" && is_made(point)) {
        make_source(parts, point).await?;
    }
    Ok(())
}
