//! A part of a volume (`VolumeOptions.Subpath`): found beneath the volume whatever its links say, and bound by its
//! descriptor to a place of ours, so that nobody can put something else under the path in between.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use gantry_domain::{ContainerId, Error, Result, ports::RootMount};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2},
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, mount_bind_recursive, move_mount, open_tree},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};

use super::mounting::unmount_all;
use crate::rootfs::mounted;

/// Binds it to `place`, anew where something is there.
pub fn mount(volume: &Path, subpath: &str, place: &Path) -> Result<()> {
    let part = open(volume, subpath)?;
    bind(&part, place).map_err(|error| {
        Error::system(format!("failed to mount {subpath} of {}: {error}", volume.display())).with_source(error)
    })
}

/// Mounts an image and binds it, or a part of it, to `place`. Nothing is written through it.
pub fn mount_image(image: &[RootMount], subpath: &str, place: &Path) -> Result<()> {
    let whole = place.with_extension("image");
    let mounted = || -> io::Result<()> {
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        remove_place(&whole)?;
        fs::create_dir(&whole)?;
        mounted::mount_image(image, &whole)
    };
    mounted().map_err(|error| Error::system(format!("failed to mount an image: {error}")).with_source(error))?;
    mount(&whole, if subpath.is_empty() { "." } else { subpath }, place)
}

/// Puts the `/dev/shm` that a process has to `place`.
///
/// A mount of another mount namespace cannot be bound by a path through `/proc`: it is picked up where it is.
pub fn mount_memory(process: u32, place: &Path) -> Result<()> {
    let failed = |error: io::Error| {
        Error::system(format!("cannot share the memory of process {process}: {error}")).with_source(error)
    };
    let put = || -> io::Result<()> {
        let memory = picked_up(process, "/dev/shm")?;
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
            remove_place(place)?;
        }
        fs::create_dir(place)?;
        Ok(move_mount(&memory, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    };
    put().map_err(failed)
}

/// A copy of a mount, attached nowhere, from the mount namespace of a process. By a thread that ends there.
fn picked_up(process: u32, path: &str) -> io::Result<OwnedFd> {
    let namespace = fs::File::open(format!("/proc/{process}/ns/mnt"))?;
    thread::scope(|scope| {
        let work = || -> io::Result<OwnedFd> {
            // SAFETY: only this thread's root and working directory part from the others', and it ends with this work.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS)? };
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
            let flags =
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
            Ok(open_tree(CWD, path, flags)?)
        };
        let thread = thread::Builder::new().name("memory".into()).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| io::Error::other("the thread that picks up a mount panicked"))?
    })
}

fn open(volume: &Path, subpath: &str) -> Result<OwnedFd> {
    let cannot = |error: Errno| {
        let path = volume.join(subpath);
        Error::system(format!("cannot access path {}: {}", path.display(), io::Error::from(error)))
    };
    let base =
        openat(CWD, volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(cannot)?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(&base, subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), beneath) {
        Ok(part) => Ok(part),
        Err(Errno::XDEV | Errno::LOOP) => Err(Error::invalid(format!(
            "path concatenation escapes the base directory, base: {}, subpath: {subpath}",
            volume.display()
        ))),
        Err(error) => Err(cannot(error)),
    }
}

fn bind(part: &OwnedFd, place: &Path) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
        remove_place(place)?;
    }
    if FileType::from_raw_mode(fstat(part)?.st_mode) == FileType::Directory {
        fs::create_dir(place)?;
    } else {
        fs::File::create_new(place)?;
    }
    Ok(mount_bind_recursive(format!("/proc/thread-self/fd/{}", part.as_raw_fd()), place)?)
}

fn remove_place(place: &Path) -> io::Result<()> {
    unmount_all(place)?;
    match fs::symlink_metadata(place) {
        Ok(found) if found.is_dir() => fs::remove_dir(place),
        Ok(_) => fs::remove_file(place),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// All of one container. Never looks into a part that is mounted.
pub fn unmount(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        remove_place(&entry?.path())?;
    }
    fs::remove_dir(folder)
}

pub fn users(folder: &Path) -> io::Result<Vec<ContainerId>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    Ok(names.iter().filter_map(|path| ContainerId::parse(path.file_name()?.to_str()?).ok()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_leads_out_of_the_volume_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir_all(volume.join("a/b")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        symlink("../outside", volume.join("up")).unwrap();
        symlink("/etc", volume.join("etc")).unwrap();
        symlink("a/b", volume.join("inside")).unwrap();
        symlink("/proc/self/root", volume.join("magic")).unwrap();
        for fine in ["a", "a/b", "inside", "."] {
            assert!(open(&volume, fine).is_ok(), "{fine}");
        }
        for wrong in ["up", "etc", "etc/passwd", "magic", "inside/../../.."] {
            let error = open(&volume, wrong).unwrap_err();
            assert!(error.message().starts_with("path concatenation escapes"), "{wrong}: {error}");
        }
        assert!(open(&volume, "nosuch").unwrap_err().message().starts_with("cannot access path"));
    }
}
