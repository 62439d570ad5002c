//! A root file system mounted in the mount namespace of a thread that ends with the work: nobody else sees the mount,
//! and nothing has to be unmounted.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use gantry_domain::{
    Error, Result,
    ports::{RootBind, RootMount},
};
use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount},
    thread::UnshareFlags,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// May be done beside a running task.
    Read,
    /// Only while no task has the same upper folder mounted.
    Write,
}

/// A folder that every host has and no layer lies in; hidden for this thread only.
const POINT: &str = "/sys";
/// The kernel takes one page of options.
const LONGEST: usize = 4000;

/// Mounts `mounts` and runs `work` on their root. Blocks.
pub fn with<T: Send>(
    mounts: &[RootMount],
    access: Access,
    work: impl FnOnce(&OwnedFd) -> Result<T> + Send,
) -> Result<T> {
    let run = || {
        let root = unshare_mounts()
            .and_then(|()| mount_all(mounts, access))
            .map_err(|error| Error::system(format!("cannot mount the root file system: {error}")).with_source(error))?;
        work(&root)
    };
    on_a_thread(run)
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("rootfs".into()).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| Error::system("work on a root file system panicked"))?
    })
}

/// A root file system that stays mounted for as long as its namespace's descriptor is held, and for nobody else.
pub struct Held {
    pub root: OwnedFd,
    pub namespace: OwnedFd,
}

/// Mounts `mounts`, binds `binds` into it where their places are, and keeps it. Blocks.
pub fn hold(mounts: &[RootMount], access: Access, binds: &[RootBind]) -> Result<Held> {
    on_a_thread(|| {
        let failed =
            |error: io::Error| Error::system(format!("cannot mount the root file system: {error}")).with_source(error);
        unshare_mounts().map_err(failed)?;
        // Opened before the root hides a part of the host.
        let sources: Vec<OwnedFd> = binds.iter().map(source).collect::<Result<_>>()?;
        let root = mount_all(mounts, access).map_err(failed)?;
        for (bind, source) in binds.iter().zip(&sources) {
            bind_one(&root, bind, source).map_err(|error| {
                Error::system(format!("cannot mount {} at {}: {error}", bind.source.display(), bind.destination))
                    .with_source(error)
            })?;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = open("/proc/thread-self/ns/mnt", flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let_go_of_the_host();
        Ok(Held { root, namespace })
    })
}

fn source(bind: &RootBind) -> Result<OwnedFd> {
    open(&bind.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => Error::not_found(format!("stat {}: no such file or directory", bind.source.display())),
        error => Error::system(format!("stat {}: {error}", bind.source.display())).with_source(error),
    })
}

/// A place that is not there, or is a file for a folder, shows what the root has.
fn bind_one(root: &OwnedFd, bind: &RootBind, source: &OwnedFd) -> io::Result<()> {
    let find = || super::resolve(root, Path::new(&bind.destination), OFlags::PATH);
    let place = match find() {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if is_folder(&place)? != is_folder(source)? {
        return Ok(());
    }
    let recursive = if bind.recursive { MountFlags::REC } else { MountFlags::empty() };
    let none = None::<&std::ffi::CStr>;
    mount(by_descriptor(source), by_descriptor(&place), "", MountFlags::BIND | recursive, none)?;
    if bind.read_only {
        // The mount that now lies on the place; a bind takes its other flags in a second step only.
        mount_remount(by_descriptor(&find()?), MountFlags::BIND | MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

fn is_folder(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

/// A path that names exactly this descriptor, wherever names lead by now.
pub(super) fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/thread-self/fd/{}", fd.as_raw_fd())
}

/// The host's mounts leave the namespace, so that holding it holds none of them. Where the host's root cannot be moved
/// away (an initial ramdisk) they stay.
fn let_go_of_the_host() {
    let moved = rustix::process::chdir(POINT).and_then(|()| rustix::process::pivot_root(".", "."));
    if moved.is_ok()
        && let Err(error) = rustix::mount::unmount(".", UnmountFlags::DETACH)
    {
        tracing::debug!(%error, "the host's mounts stay in the namespace of a copy");
    }
}

fn unshare_mounts() -> io::Result<()> {
    // SAFETY: unsharing the mount namespace (and with it root and working directory) concerns this thread alone, which
    // was started for this work and ends with it; no file descriptors are unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Mounts an image where everybody sees it, by a thread that may change its working directory (see `within_a_page`).
pub(crate) fn mount_image(mounts: &[RootMount], target: &Path) -> io::Result<()> {
    thread::scope(|scope| {
        let mounting = || {
            // SAFETY: unsharing root and working directory concerns this thread alone, which ends with this work.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS)? };
            mounts.iter().try_for_each(|one| mount_one(one, target, Access::Read))
        };
        let thread = thread::Builder::new().name("image mount".into()).spawn_scoped(scope, mounting)?;
        thread.join().map_err(|_| io::Error::other("the thread that mounts panicked"))?
    })
}

/// In a namespace of this thread's own.
fn mount_all(mounts: &[RootMount], access: Access) -> io::Result<OwnedFd> {
    for one in mounts {
        let target = Path::new(POINT).join(one.target.trim_start_matches('/'));
        mount_one(one, &target, access)?;
    }
    Ok(open(POINT, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn mount_one(one: &RootMount, target: &Path, access: Access) -> io::Result<()> {
    let mut flags = MountFlags::empty();
    let mut data: Vec<String> = Vec::new();
    for option in &one.options {
        match option.as_str() {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" | "defaults" => {}
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            other => data.push(other.to_owned()),
        }
    }
    if one.kind == "bind" && !flags.contains(MountFlags::BIND) {
        flags |= MountFlags::BIND;
    }
    if one.kind == "overlay" && access == Access::Read {
        data = read_only(data);
        flags |= MountFlags::RDONLY;
    }
    let data = within_a_page(data)?;
    let text = CString::new(data)?;
    mount(one.source.as_str(), target, one.kind.as_str(), flags, Some(text.as_c_str()))?;
    Ok(())
}

/// One upper folder must not be mounted twice: for reading it is the topmost of the lower ones.
pub(super) fn read_only(options: Vec<String>) -> Vec<String> {
    let upper = options.iter().find_map(|option| option.strip_prefix("upperdir=")).map(str::to_owned);
    let Some(upper) = upper else { return options };
    options
        .into_iter()
        .filter(|option| !["upperdir=", "workdir="].iter().any(|key| option.starts_with(key)) && option != "volatile")
        .map(|option| match option.strip_prefix("lowerdir=") {
            Some(lower) => format!("lowerdir={upper}:{lower}"),
            None => option,
        })
        .collect()
}

/// Joins the options; where they are too long for the kernel, the layers are named from their common folder, which
/// becomes this thread's working directory.
fn within_a_page(options: Vec<String>) -> io::Result<String> {
    let joined = options.join(",");
    if joined.len() < LONGEST {
        return Ok(joined);
    }
    let layers: Vec<&Path> =
        options.iter().filter_map(|o| o.strip_prefix("lowerdir=")).flat_map(|l| l.split(':')).map(Path::new).collect();
    // The first may be the container's own layer, which lies elsewhere in some layouts.
    let Some(common) = common(layers.get(1..).unwrap_or_default()) else { return Ok(joined) };
    rustix::process::chdir(&common)?;
    let short = |option: &String| match option.strip_prefix("lowerdir=") {
        Some(_) => {
            let names: Vec<String> =
                layers.iter().map(|l| l.strip_prefix(&common).unwrap_or(l).display().to_string()).collect();
            format!("lowerdir={}", names.join(":"))
        }
        None => option.clone(),
    };
    Ok(options.iter().map(short).collect::<Vec<_>>().join(","))
}

fn common(layers: &[&Path]) -> Option<PathBuf> {
    let mut common = layers.first()?.parent()?.to_owned();
    while !layers.iter().all(|layer| layer.starts_with(&common) && **layer != *common) {
        common = common.parent()?.to_owned();
    }
    Some(common)
}
