//! What the layers below show under a path, with overlayfs's marks between them: deletions, and folders that hide.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ffi::{CStr, CString},
    os::fd::OwnedFd,
};

use gantry_domain::{Error, Result};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, fstat, openat2, statat},
    io::Errno,
};

use super::{
    super::pack::{folder_flags, read_failed, sorted_names},
    NOFOLLOW,
};

pub struct Below {
    /// Topmost first.
    layers: Vec<OwnedFd>,
}

/// What one layer says of a path.
enum Says {
    Here(Stat),
    /// Not here, nor in the layers below this one.
    Gone,
    Nothing,
}

impl Below {
    pub fn new(layers: Vec<OwnedFd>) -> Self {
        Self { layers }
    }

    pub fn find(&self, path: &[u8]) -> Result<Option<Stat>> {
        for layer in &self.layers {
            match says(layer, path)? {
                Says::Here(stat) => return Ok(Some(stat)),
                Says::Gone => return Ok(None),
                Says::Nothing => {}
            }
        }
        Ok(None)
    }

    /// The topmost folder of those that show through under a path; `None` where something else is, or nothing.
    pub fn folder(&self, path: &[u8]) -> Result<Option<OwnedFd>> {
        for layer in &self.layers {
            match says(layer, path)? {
                Says::Here(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    return open(layer, path, folder_flags()).map(Some).map_err(|error| read_failed(path, error));
                }
                Says::Nothing => {}
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The names that the layers below show in a folder together, sorted.
    pub fn names(&self, path: &[u8]) -> Result<Vec<CString>> {
        let mut names: BTreeMap<CString, bool> = BTreeMap::new();
        for layer in &self.layers {
            match says(layer, path)? {
                Says::Here(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
                Says::Nothing => continue,
                _ => break,
            }
            let folder = open(layer, path, folder_flags()).map_err(|error| read_failed(path, error))?;
            for name in sorted_names(&folder).map_err(|error| read_failed(path, error))? {
                let stat = statat(&folder, &name, NOFOLLOW).map_err(|error| read_failed(path, error))?;
                // The layer above has the say.
                if let Entry::Vacant(free) = names.entry(name) {
                    free.insert(!is_whiteout(&stat));
                }
            }
            if is_opaque(&folder) {
                break;
            }
        }
        Ok(names.into_iter().filter_map(|(name, shown)| shown.then_some(name)).collect())
    }
}

fn says(layer: &OwnedFd, path: &[u8]) -> Result<Says> {
    let failed = |error: Errno| read_failed(path, error);
    match open(layer, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
        Ok(fd) => {
            let stat = fstat(&fd).map_err(failed)?;
            Ok(if is_whiteout(&stat) { Says::Gone } else { Says::Here(stat) })
        }
        // Something that is no folder is on the way, a mark or a file: it hides what is below.
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(Says::Gone),
        Err(Errno::NOENT) => hides(layer, path),
        Err(error) => Err(failed(error)),
    }
}

/// Whether a folder on the way to a missing path hides the layers below.
fn hides(layer: &OwnedFd, path: &[u8]) -> Result<Says> {
    let mut rest = path;
    while let Some(at) = rest.iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0) {
        rest = &rest[..at];
        match open(layer, rest, folder_flags()) {
            Ok(folder) if is_opaque(&folder) => return Ok(Says::Gone),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Says::Gone),
            Err(error) => return Err(read_failed(rest, error)),
        }
    }
    Ok(Says::Nothing)
}

/// In the layer's own folder, through no link.
fn open(layer: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let inside = path.strip_prefix(b"/").unwrap_or(path);
    let inside = CString::new(if inside.is_empty() { b"." } else { inside }).map_err(|_| Errno::INVAL)?;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(layer, &inside, flags, Mode::empty(), how)
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub fn is_opaque(folder: &OwnedFd) -> bool {
    has(folder, c"trusted.overlay.opaque", Some(b"y")) || has(folder, c"user.overlay.opaque", Some(b"y"))
}

/// A folder whose content lies under another name below: overlayfs makes none unless it is told to.
pub fn check_redirect(folder: &OwnedFd) -> Result<()> {
    if has(folder, c"trusted.overlay.redirect", None) || has(folder, c"user.overlay.redirect", None) {
        return Err(Error::not_implemented("overlayfs with redirect_dir is not implemented by gantry yet"));
    }
    Ok(())
}

fn has(folder: &OwnedFd, name: &CStr, value: Option<&[u8]>) -> bool {
    let mut found = [0u8; 1024];
    fgetxattr(folder, name, &mut found[..])
        .is_ok_and(|length| value.is_none_or(|value| found.get(..length) == Some(value)))
}
