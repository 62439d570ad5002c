//! What a container's own layer changes of those below, read from the layers' folders without a mount: as a list, and as
//! the archive of a new layer.

mod below;
mod layer;

use std::{
    ffi::CStr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use gantry_domain::{
    Error, Result,
    container::copy::{ChangeKind, ENGINE_PLACES, PathChange},
    ports::RootMount,
};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};

use self::below::Below;
pub use self::layer::layer;
use super::marks::MOUNTS;
use super::pack::{folder_flags, join, read_failed, sorted_names};

/// Each level holds a descriptor.
const DEEPEST: usize = 512;
const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

/// Paths in the order of their names.
pub fn changes(mounts: &[RootMount]) -> Result<Vec<PathChange>> {
    let mut found = Vec::new();
    let mut list = |change: Change<'_>| {
        found.push(PathChange { path: String::from_utf8_lossy(change.path).into_owned(), kind: change.kind });
        Ok(())
    };
    walk(mounts, Same::LeftOut, &mut list)?;
    found.sort();
    Ok(found)
}

/// One difference, told when its parents have been.
pub struct Change<'a> {
    /// Absolute.
    pub path: &'a [u8],
    pub kind: ChangeKind,
    /// `None` for what is gone.
    pub there: Option<There<'a>>,
}

pub struct There<'a> {
    /// `O_PATH`, or open for reading for a folder.
    pub fd: &'a OwnedFd,
    pub stat: Stat,
}

/// Files that are in the layer and look as they look below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Same {
    /// Nobody's change.
    LeftOut,
    /// Their content may differ all the same.
    Told,
}

type Tell<'a> = dyn FnMut(Change<'_>) -> Result<()> + 'a;

/// A container's own layer, and those below it.
pub struct Layers {
    pub own: OwnedFd,
    pub below: Below,
}

/// `NotImplemented` for a snapshotter whose folders are not known here.
pub fn layers(mounts: &[RootMount]) -> Result<Layers> {
    let (upper, lowers) = folders(mounts)?;
    let open = |path: &PathBuf| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map_err(|error| read_failed(path.as_os_str().as_encoded_bytes(), error))
    };
    let own = open(&upper)?;
    Ok(Layers { own, below: Below::new(lowers.iter().map(open).collect::<Result<_>>()?) })
}

fn walk(mounts: &[RootMount], same: Same, tell: &mut Tell<'_>) -> Result<()> {
    let Layers { own, below } = layers(mounts)?;
    let mut walk = Walk { below, same, tell, parents: Vec::new() };
    walk.inside(&own, b"/", true, 0)
}

/// The container's own folder, and those below it, topmost first.
fn folders(mounts: &[RootMount]) -> Result<(PathBuf, Vec<PathBuf>)> {
    let unknown = || Error::not_implemented("the differences of this snapshotter's mounts are not known to gantry");
    let [mount] = mounts else { return Err(unknown()) };
    let option = |name: &str| mount.options.iter().find_map(|option| option.strip_prefix(name));
    match mount.kind.as_str() {
        "bind" => Ok((PathBuf::from(&mount.source), Vec::new())),
        "overlay" => {
            let upper = option("upperdir=").ok_or_else(unknown)?;
            let lowers = option("lowerdir=").ok_or_else(unknown)?;
            Ok((upper.into(), lowers.split(':').map(|path| Path::new(path).to_owned()).collect()))
        }
        _ => Err(unknown()),
    }
}

/// A folder on the way that has not been told yet: it is when something in it is.
struct Parent {
    path: Vec<u8>,
    fd: OwnedFd,
    stat: Stat,
}

struct Walk<'a, 'b> {
    below: Below,
    same: Same,
    tell: &'a mut Tell<'b>,
    parents: Vec<Parent>,
}

impl Walk<'_, '_> {
    /// `merged`: what is below shows through.
    fn inside(&mut self, folder: &OwnedFd, path: &[u8], merged: bool, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::system("folders are nested too deeply"));
        }
        let names = sorted_names(folder).map_err(|error| read_failed(path, error))?;
        if !merged {
            for name in self.below.names(path)? {
                if names.binary_search(&name).is_err() {
                    self.told(Change { path: &join(path, name.to_bytes()), kind: ChangeKind::Deleted, there: None })?;
                }
            }
        }
        for name in &names {
            match self.one(folder, name, &join(path, name.to_bytes()), merged, depth) {
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn one(&mut self, folder: &OwnedFd, name: &CStr, path: &[u8], merged: bool, depth: usize) -> Result<()> {
        let failed = |error: Errno| read_failed(path, error);
        let stat = statat(folder, name, NOFOLLOW).map_err(failed)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            // The mark of a deletion; of what is not below it says nothing.
            return match self.below.find(path)? {
                Some(_) => self.told(Change { path, kind: ChangeKind::Deleted, there: None }),
                None => Ok(()),
            };
        }
        let before = self.below.find(path)?;
        if kind == FileType::Directory {
            let fd = openat(folder, name, folder_flags(), Mode::empty()).map_err(failed)?;
            return self.folder(fd, path, before.as_ref(), depth);
        }
        if before.is_none() && is_engines(path) && is_as_made(kind, &stat) {
            return Ok(());
        }
        if self.same == Same::LeftOut && merged && before.as_ref().is_some_and(|before| looks_same(before, &stat)) {
            return Ok(());
        }
        let fd =
            openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let stat = fstat(&fd).map_err(failed)?;
        self.told(Change { path, kind: as_it_was(before.as_ref()), there: Some(There { fd: &fd, stat }) })
    }

    fn folder(&mut self, fd: OwnedFd, path: &[u8], before: Option<&Stat>, depth: usize) -> Result<()> {
        below::check_redirect(&fd)?;
        let stat = fstat(&fd).map_err(|error| read_failed(path, error))?;
        let was_folder = before.is_some_and(|before| FileType::from_raw_mode(before.st_mode) == FileType::Directory);
        let merged = was_folder && !below::is_opaque(&fd);
        let engines = before.is_none() && is_engines(path);
        let changed = before.is_none_or(|before| !looks_same(before, &stat));
        let again = openat(&fd, c".", folder_flags(), Mode::empty()).map_err(|error| read_failed(path, error))?;
        if changed && !engines {
            self.told(Change { path, kind: as_it_was(before), there: Some(There { fd: &fd, stat }) })?;
            return self.inside(&again, path, merged || !was_folder, depth + 1);
        }
        self.parents.push(Parent { path: path.to_vec(), fd, stat });
        let count = self.parents.len();
        let walked = self.inside(&again, path, merged || !was_folder, depth + 1);
        // Told meanwhile, or nothing in it was.
        if self.parents.len() == count {
            self.parents.pop();
        }
        walked
    }

    fn told(&mut self, change: Change<'_>) -> Result<()> {
        for Parent { path, fd, stat } in self.parents.drain(..) {
            let kind = if self.below.find(&path)?.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
            (self.tell)(Change { path: &path, kind, there: Some(There { fd: &fd, stat }) })?;
        }
        (self.tell)(change)
    }
}

fn as_it_was(before: Option<&Stat>) -> ChangeKind {
    if before.is_some() { ChangeKind::Modified } else { ChangeKind::Added }
}

/// A place to mount on, or a mark: empty, or the link of `/etc/mtab`.
fn is_as_made(kind: FileType, stat: &Stat) -> bool {
    stat.st_size == 0 || (kind == FileType::Symlink && stat.st_size == MOUNTS.count_bytes() as i64)
}

/// The engine or the runtime made it.
fn is_engines(path: &[u8]) -> bool {
    ENGINE_PLACES.iter().any(|place| place.as_bytes() == path)
}

/// A folder's size and time say nothing of itself.
fn looks_same(one: &Stat, other: &Stat) -> bool {
    let folder = FileType::from_raw_mode(one.st_mode) == FileType::Directory;
    one.st_mode == other.st_mode
        && (one.st_uid, one.st_gid, one.st_rdev) == (other.st_uid, other.st_gid, other.st_rdev)
        && (folder
            || (one.st_size == other.st_size
                && (one.st_mtime, one.st_mtime_nsec) == (other.st_mtime, other.st_mtime_nsec)))
}

#[cfg(test)]
mod tests;
