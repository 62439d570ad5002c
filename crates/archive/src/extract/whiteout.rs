//! Deletions between layers: the marks in an archive (`.wh.name`, `.wh..wh..opq`) and what overlayfs keeps for them.

use std::{ffi::CStr, os::fd::OwnedFd};

use gantry_domain::Result;
use rustix::{
    fs::{AtFlags, FileType, Mode, XattrFlags},
    io::Errno,
};

use super::{
    errno,
    tree::{self, Place, Tree},
};

const PREFIX: &[u8] = b".wh.";
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What the name of a member says, other than itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark {
    /// The folder hides what the layers below have in it.
    Opaque(Vec<u8>),
    /// This path of the layers below is deleted.
    Gone(Vec<u8>),
    /// Bookkeeping of aufs.
    Ignored,
}

pub fn mark_of(path: &[u8]) -> Option<Mark> {
    let (folder, name) = tree::split(path);
    // Below such a folder (`.wh..wh.plnk/`) there is only more of it.
    if folder.split(|byte| *byte == b'/').any(|part| part.starts_with(b".wh..wh.")) {
        return Some(Mark::Ignored);
    }
    match name.strip_prefix(PREFIX)? {
        b".wh..opq" => Some(Mark::Opaque(folder.to_vec())),
        // Neither a name that can be deleted nor one that can be made.
        b"" | b"." | b".." => Some(Mark::Ignored),
        rest if rest.starts_with(PREFIX) => Some(Mark::Ignored),
        rest if folder.is_empty() => Some(Mark::Gone(rest.to_vec())),
        rest => Some(Mark::Gone([folder, b"/", rest].concat())),
    }
}

/// Deletes the name of the layers below. What this layer itself puts there stays, as the marks speak of the others.
pub fn delete(_tree: &Tree, place: &Place) -> Result<()> {
    match make_whiteout(&place.folder, &place.name) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => match tree::kind_at(&place.folder, &place.name)? {
            Some(FileType::Directory) => {
                let flags = rustix::fs::OFlags::RDONLY
                    | rustix::fs::OFlags::DIRECTORY
                    | rustix::fs::OFlags::NOFOLLOW
                    | rustix::fs::OFlags::CLOEXEC;
                set_opaque(&rustix::fs::openat(&place.folder, &place.name, flags, Mode::empty()).map_err(errno)?)
            }
            _ => Ok(()),
        },
        Err(error) => Err(errno(error)),
    }
}

pub fn make_whiteout(folder: &OwnedFd, name: &CStr) -> rustix::io::Result<()> {
    rustix::fs::mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), 0)
}

pub fn is_whiteout(folder: &OwnedFd, name: &CStr) -> Result<bool> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(errno(error)),
    }
}

pub fn set_opaque(folder: &OwnedFd) -> Result<()> {
    rustix::fs::fsetxattr(folder, OPAQUE_XATTR, b"y", XattrFlags::empty()).map_err(errno)
}

pub fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0u8; 1];
    rustix::fs::fgetxattr(folder, OPAQUE_XATTR, &mut value[..]).is_ok_and(|length| length == 1 && value[0] == b'y')
}

/// A root cannot be opaque for overlayfs: each name that the layers below have there is hidden by itself.
pub fn hide_lower(upper: &OwnedFd, lowers: &[OwnedFd]) -> Result<()> {
    for lower in lowers {
        for entry in rustix::fs::Dir::read_from(lower).map_err(errno)? {
            let entry = entry.map_err(errno)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let place = Place {
                folder: std::rc::Rc::new(tree::reopen(upper)?),
                name: name.to_owned(),
                path: name.to_bytes().to_vec(),
            };
            delete(&Tree::new(tree::reopen(upper)?), &place)?;
        }
    }
    Ok(())
}
