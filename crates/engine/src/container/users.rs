//! The user of a process, looked up in the container's own passwd and group files.

use std::sync::Arc;

use gantry_domain::{
    Result,
    container::{
        ContainerRecord,
        user::{MAX_FILE, User, resolve},
    },
    ports::RootRef,
};

use crate::parts::Parts;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// Images whose files are kept in memory.
const KEPT: usize = 64;

/// What the look-up reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct UserFiles {
    passwd: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
}

impl UserFiles {
    fn resolve(&self, spec: &str, group_add: &[String]) -> Result<User> {
        resolve(spec, group_add, self.passwd.as_deref(), self.group.as_deref())
    }
}

/// The user that a container's program runs as. Reads the image's files once for each image, and the container's own
/// where a run before has changed them.
pub(crate) async fn of_container(parts: &Parts, record: &ContainerRecord) -> Result<User> {
    let group_add = record.host_config.group_add.as_deref().unwrap_or_default();
    files(parts, record).await?.resolve(&record.config.user, group_add)
}

/// The user of an exec in a running container.
pub(crate) async fn of_exec(parts: &Parts, record: &ContainerRecord, pid: u32, spec: &str) -> Result<User> {
    let spec = if spec.is_empty() { &record.config.user } else { spec };
    let group_add = record.host_config.group_add.as_deref().unwrap_or_default();
    read(parts, &RootRef::Process(pid)).await?.resolve(spec, group_add)
}

async fn files(parts: &Parts, record: &ContainerRecord) -> Result<Arc<UserFiles>> {
    let chain = &record.image.chain_id;
    // Nothing of the container's own has run yet: containerd need not be asked.
    if record.runs == 0
        && let Some(kept) = parts.users.lock().get(chain)
    {
        return Ok(kept.clone());
    }
    let mounts = parts.ports.runtime.root_mounts(&record.id).await?;
    let changed =
        record.runs > 0 && parts.ports.rootfs.upper_changes(&mounts, &["etc/passwd", "etc/group", "etc"]).await?;
    if !changed && let Some(kept) = parts.users.lock().get(chain) {
        return Ok(kept.clone());
    }
    let files = Arc::new(read(parts, &RootRef::Mounts(mounts)).await?);
    if !changed && record.runs == 0 {
        let mut kept = parts.users.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(chain.clone(), files.clone());
    }
    Ok(files)
}

async fn read(parts: &Parts, root: &RootRef) -> Result<UserFiles> {
    let rootfs = &parts.ports.rootfs;
    Ok(UserFiles {
        passwd: rootfs.read(root, PASSWD, MAX_FILE).await?,
        group: rootfs.read(root, GROUP, MAX_FILE).await?,
    })
}
