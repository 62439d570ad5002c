//! `Config.WorkingDir` is made when the container is, so that files can be copied into it before it runs.

use gantry_domain::{Error, ErrorKind, Result, container::ContainerRecord, ports::RootRef};

use crate::parts::Parts;

/// Images whose folders are remembered.
const KEPT: usize = 256;

/// Makes the folder where it is not there. An image never changes: of one that has it this is found out once.
pub(crate) async fn make(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    let path = record.config.working_dir.as_str();
    if matches!(path, "" | "/") {
        return Ok(());
    }
    let key = (record.image.chain_id.clone(), path.to_owned());
    if parts.working_dirs.lock().contains(&key) {
        return Ok(());
    }
    let layer = parts.ports.runtime.root_mounts(&record.id).await?;
    let made = parts.ports.rootfs.make_dir(&RootRef::Mounts(layer.clone()), path, 0, 0).await;
    // dockerd's, too, is no error of the request.
    made.map_err(|error: Error| error.with_kind(ErrorKind::System))?;
    if !parts.ports.rootfs.upper_changes(&layer, &[path.trim_start_matches('/')]).await? {
        let mut kept = parts.working_dirs.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key);
    }
    Ok(())
}
