//! Looking into root file systems, and filling from them. Every path is resolved by the kernel inside the root, so that
//! no link of an image leads out of it.

mod copy;
mod diff;
mod lookup;
mod marks;
pub(crate) mod mounted;
mod opened;
mod pack;
mod upper;

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use gantry_domain::{
    Error, ErrorKind, Result,
    container::copy::PathChange,
    id_maps::IdMaps,
    ports::{ByteStream, Keep, OpenRoot, RootBind, RootFs, RootMount, RootRef, RootView},
};
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchmod, fstat, mkdirat, open, openat,
        openat2,
    },
    io::Errno,
};

use crate::{blocking::blocking, volumes::filling::Filling};
use mounted::Access;

#[derive(Debug, Clone, Default)]
pub struct RootFileSystems {
    /// Owners of the files: the container's in archives and requests, the host's on disk.
    maps: Arc<IdMaps>,
}

impl RootFileSystems {
    pub fn new(maps: Arc<IdMaps>) -> Self {
        Self { maps }
    }
}

/// Runs `work` on the root folder. Blocks.
fn with_root<T: Send>(root: &RootRef, access: Access, work: impl FnOnce(&OwnedFd) -> Result<T> + Send) -> Result<T> {
    match root {
        RootRef::Process(pid) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = open(format!("/proc/{pid}/root"), flags, Mode::empty()).map_err(|error| {
                Error::system(format!("the root of process {pid} cannot be opened: {error}")).with_source(error)
            })?;
            work(&root)
        }
        RootRef::Mounts(mounts) => mounted::with(mounts, access, work),
    }
}

fn resolve(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            // A rename elsewhere made `..` uncertain; the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

fn read(root: &OwnedFd, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
    let failed = |error: io::Error| Error::invalid(format!("cannot read {path}: {error}")).with_source(error);
    // Without opening it: opening a device acts, and opening a FIFO waits.
    let found = match resolve(root, Path::new(path), OFlags::PATH) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let stat = fstat(&found).map_err(|error| failed(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid(format!("{path} is not a regular file")));
    }
    let too_large = || Error::invalid(format!("{path} is larger than {max} bytes"));
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > max {
        return Err(too_large());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty());
    let file = File::from(file.map_err(|error| failed(error.into()))?);
    let mut content = Vec::new();
    file.take(max + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > max { Err(too_large()) } else { Ok(Some(content)) }
}

fn make_dir(root: &OwnedFd, path: &str, uid: u32, gid: u32) -> Result<()> {
    let failed = |error: Errno| match error {
        Errno::NOTDIR | Errno::EXIST => Error::invalid(format!("Cannot mkdir: {path} is not a directory")),
        error => Error::system(format!("Cannot mkdir: {path}: {error}")).with_source(error),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut parent = resolve(root, Path::new("/"), flags).map_err(failed)?;
    let mut so_far = PathBuf::from("/");
    for name in names(path) {
        so_far.push(&name);
        parent = match resolve(root, &so_far, flags) {
            Ok(there) => there,
            Err(Errno::NOENT) => {
                // Below a folder that was resolved inside the root; a dangling link is `EXIST`.
                mkdirat(&parent, &name, Mode::from_raw_mode(0o755)).map_err(failed)?;
                let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                chownat(&parent, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(&parent, &name, flags, Mode::empty()).map_err(failed)?;
                fchmod(&made, Mode::from_raw_mode(0o755)).map_err(failed)?;
                made
            }
            Err(error) => return Err(failed(error)),
        };
    }
    Ok(())
}

/// Makes what is not there yet of the places for `binds`, as the runtime would: folders for folders, files for others.
fn make_places(mounts: &[RootMount], binds: &[RootBind], owner: (u32, u32)) -> Result<()> {
    let missing = mounted::with(mounts, Access::Read, |root| {
        let absent = |bind: &&RootBind| {
            matches!(resolve(root, Path::new(&bind.destination), OFlags::PATH), Err(Errno::NOENT | Errno::NOTDIR))
        };
        Ok(binds.iter().filter(absent).collect::<Vec<_>>())
    })?;
    if missing.is_empty() {
        return Ok(());
    }
    mounted::with(mounts, Access::Write, |root| {
        missing.iter().try_for_each(|bind| match make_place(root, bind, owner) {
            // A link or a file of the image is in the way: what is to be mounted there is not seen by a copy.
            Err(error) if error.kind() == ErrorKind::InvalidParameter => Ok(()),
            other => other,
        })
    })
}

fn make_place(root: &OwnedFd, bind: &RootBind, (uid, gid): (u32, u32)) -> Result<()> {
    if bind.source.is_dir() {
        return make_dir(root, &bind.destination, uid, gid);
    }
    let path = Path::new(&bind.destination);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    make_dir(root, &parent.to_string_lossy(), uid, gid)?;
    let failed = |error: Errno| Error::system(format!("{}: {error}", bind.destination)).with_source(error);
    let parent = resolve(root, parent, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let made = openat(&parent, name, flags, Mode::from_raw_mode(0o755)).map_err(failed)?;
    rustix::fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)
}

/// The names of a path after `.` and `..` are worked out lexically, as Docker cleans a working directory.
fn names(path: &str) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => names.push(PathBuf::from(name)),
            Component::ParentDir => {
                names.pop();
            }
            _ => {}
        }
    }
    names
}

#[async_trait]
impl RootFs for RootFileSystems {
    async fn read(&self, root: &RootRef, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let (root, path) = (root.clone(), path.to_owned());
        blocking(move || with_root(&root, Access::Read, |fd| read(fd, &path, max))).await
    }

    async fn upper_changes(&self, mounts: &[RootMount], paths: &[&str]) -> Result<bool> {
        let mounts = mounts.to_vec();
        let paths: Vec<Vec<PathBuf>> = paths.iter().map(|path| names(path)).collect();
        blocking(move || Ok(upper::changes(&mounts, &paths))).await
    }

    async fn is_link(&self, mounts: &[RootMount], name: &str) -> Result<bool> {
        let (mounts, name) = (mounts.to_vec(), name.to_owned());
        blocking(move || Ok(upper::is_link(&mounts, &name))).await
    }

    async fn make_marks(&self, mounts: &[RootMount]) -> Result<()> {
        let (mounts, owner) = (mounts.to_vec(), self.maps.root());
        blocking(move || match marks::make(&mounts, owner) {
            Err(error) if error.kind() == ErrorKind::NotImplemented => Ok(()),
            made => made,
        })
        .await
    }

    async fn limit(&self, mounts: &[RootMount], bytes: u64) -> Result<()> {
        let mounts = mounts.to_vec();
        blocking(move || upper::limit(&mounts, bytes)).await
    }

    async fn copy_up(&self, root: &RootRef, path: &str, volume: &Path) -> Result<()> {
        let (root, path, volume) = (root.clone(), path.to_owned(), volume.to_owned());
        blocking(move || {
            // Opened here: in the mount namespace of the root it may be another folder.
            let Some(filling) = Filling::begin(&volume)? else { return Ok(()) };
            let target = filling.target()?;
            let copied = with_root(&root, Access::Read, |fd| {
                match resolve(fd, Path::new(&path), OFlags::RDONLY | OFlags::DIRECTORY) {
                    Ok(source) => copy::tree(&source, &target),
                    Err(Errno::NOENT) => Ok(()),
                    Err(Errno::NOTDIR) => return Err(Error::conflict(format!("file exists {path}"))),
                    Err(error) => Err(error.into()),
                }
                .map_err(|error: io::Error| {
                    Error::system(format!("cannot fill a volume from {path}: {error}")).with_source(error)
                })
            });
            filling.end(copied)
        })
        .await
    }

    async fn make_dir(&self, root: &RootRef, path: &str, uid: u32, gid: u32) -> Result<()> {
        let (root, path) = (root.clone(), path.to_owned());
        let (uid, gid) = self.maps.to_host(uid, gid)?;
        blocking(move || with_root(&root, Access::Write, |fd| make_dir(fd, &path, uid, gid))).await
    }

    async fn open(&self, view: RootView, keep: Keep) -> Result<Arc<dyn OpenRoot>> {
        let maps = self.maps.clone();
        blocking(move || Ok(Arc::new(opened::open(&view, keep, maps)?) as Arc<dyn OpenRoot>)).await
    }

    async fn make_places(&self, mounts: &[RootMount], binds: &[RootBind]) -> Result<()> {
        let (mounts, binds) = (mounts.to_vec(), binds.to_vec());
        let owner = self.maps.root();
        blocking(move || make_places(&mounts, &binds, owner)).await
    }

    async fn changes(&self, mounts: &[RootMount]) -> Result<Vec<PathChange>> {
        let mounts = mounts.to_vec();
        blocking(move || diff::changes(&mounts)).await
    }

    async fn layer(&self, mounts: &[RootMount]) -> Result<Option<ByteStream>> {
        diff::layer(mounts.to_vec(), self.maps.clone()).await
    }
}

#[cfg(test)]
mod tests;
