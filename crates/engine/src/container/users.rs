//! What a start has to know of a container's files: its user, by its own passwd and group, and that `/dev` is no link.

use std::sync::Arc;

use gantry_domain::{
    Error, Result,
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
    dev_is_link: bool,
}

impl UserFiles {
    fn resolve(&self, spec: &str, group_add: &[String]) -> Result<User> {
        resolve(spec, group_add, self.passwd.as_deref(), self.group.as_deref())
    }
}

/// The user that the program of a start runs as. `InvalidParameter` where `/dev` is a link: the runtime would follow it
/// on the host and leave its own links there (CVE-2026-41579).
pub(crate) async fn of_start(parts: &Parts, record: &ContainerRecord) -> Result<User> {
    if files(parts, record).await?.dev_is_link {
        return Err(Error::invalid("the container's /dev is a symbolic link: it cannot be started"));
    }
    of_container(parts, record).await
}

/// The user that a container's program runs as. Reads the image's files once for each image, and the container's own
/// where a run or a copy before has changed them.
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
    // Nothing has written to the container's layer yet: containerd need not be asked.
    let untouched = record.runs == 0 && !record.copied_into;
    if untouched && let Some(kept) = parts.users.lock().get(chain) {
        return Ok(kept.clone());
    }
    let mounts = parts.ports.runtime.root_mounts(&record.id).await?;
    let rootfs = &parts.ports.rootfs;
    let dev_is_link = rootfs.is_link(&mounts, "dev").await?;
    let changed = !untouched && rootfs.upper_changes(&mounts, &["etc/passwd", "etc/group", "etc"]).await?;
    if !changed && let Some(kept) = parts.users.lock().get(chain) {
        return Ok(Arc::new(UserFiles { dev_is_link, ..UserFiles::clone(kept) }));
    }
    let files = Arc::new(UserFiles { dev_is_link, ..read(parts, &RootRef::Mounts(mounts)).await? });
    if untouched {
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
        dev_is_link: false,
    })
}
