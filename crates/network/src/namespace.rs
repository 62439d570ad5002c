//! Network namespaces that live without a process: made in a throw-away thread, pinned by a bind mount on a file.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
};

use gantry_domain::ContainerId;
use rustix::{
    fs::statfs,
    io::Errno,
    mount::{UnmountFlags, mount_bind, unmount},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use tokio::sync::oneshot;

const NSFS_MAGIC: u64 = 0x6e73_6673;
const OWN: &str = "/proc/thread-self/ns/net";

/// The folder of pinned namespaces.
#[derive(Debug, Clone)]
pub struct Namespaces {
    folder: PathBuf,
}

impl Namespaces {
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder })
    }

    pub fn path(&self, id: &ContainerId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    /// Whether a namespace is pinned for it, not only a file left behind.
    pub fn is_pinned(&self, id: &ContainerId) -> bool {
        statfs(self.path(id)).is_ok_and(|stat| stat.f_type as u64 == NSFS_MAGIC)
    }

    /// Pins the calling thread's namespace.
    pub fn pin(&self, id: &ContainerId) -> io::Result<PathBuf> {
        let path = self.path(id);
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        mount_bind(OWN, &path)?;
        Ok(path)
    }

    /// Absent is `Ok`. The kernel takes the namespace away when no process is left in it.
    pub fn unpin(&self, id: &ContainerId) -> io::Result<()> {
        let path = self.path(id);
        loop {
            match unmount(&path, UnmountFlags::DETACH) {
                Ok(()) => {}
                // No mount (any more), or no file.
                Err(Errno::INVAL | Errno::NOENT) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub fn list(&self) -> io::Result<Vec<ContainerId>> {
        let names = fs::read_dir(&self.folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| ContainerId::parse(&name).ok()).collect())
    }
}

/// Moves the calling thread into a new namespace. Only for a throw-away thread.
pub fn enter_new() -> io::Result<OwnedFd> {
    // SAFETY: only the network namespace changes; descriptors and memory stay shared with the other threads.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    current()
}

/// Moves the calling thread into the namespace of a process, which must not be the thread's own. Only for a throw-away
/// thread.
pub fn enter_of_process(process: u32) -> io::Result<OwnedFd> {
    let namespace = File::open(format!("/proc/{process}/ns/net"))?;
    let (theirs, ours) = (namespace.metadata()?, fs::metadata(OWN)?);
    if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
        return Err(io::Error::other(format!("process {process} has no network namespace of its own")));
    }
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(namespace.into())
}

/// The calling thread's namespace.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open(OWN)?.into())
}

/// Moves the calling thread into a pinned namespace. Only for a throw-away thread.
pub fn enter(path: &Path) -> io::Result<()> {
    let namespace = File::open(path)?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Runs `work` on a thread of its own, which may change its namespace and is gone afterwards.
pub async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let body = move || drop(done.send(work()));
    thread::Builder::new().name("network".into()).stack_size(256 << 10).spawn(body)?;
    result.await.unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
}
