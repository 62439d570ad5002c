//! A staged layer takes its place on top of its parents.

use std::{collections::BTreeSet, os::fd::OwnedFd, path::PathBuf};

use gantry_archive::content::copy_content;
use gantry_domain::{Digest, Error, Result};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use super::{Snapshots, Staged, Upper, open_folder};
use crate::images::extract::{Tree, copy_attributes, errno, hide_lower, is_opaque, open_in, reopen};

impl Snapshots {
    /// Makes `chain` of a staged layer on top of `parent` (empty for none), durable when it returns. The emptied snapshot
    /// that it was staged in goes with the lease.
    pub async fn adopt(&self, staged: Staged, parent: &str, chain: &Digest) -> Result<()> {
        if !staged.durable {
            staged.synced().await?;
        }
        let key = staged.key.clone();
        let upper = match parent {
            "" => Upper { key: key.clone(), folder: staged.folder.clone(), lowers: Vec::new() },
            parent => self.prepare(parent).await?,
        };
        let (commit_key, root) = (upper.key.clone(), self.root());
        tokio::task::spawn_blocking(move || settle(&staged, &upper, root))
            .await
            .map_err(|error| Error::system(format!("unpacking stopped: {error}")))??;
        self.commit(&commit_key, chain).await
    }
}

/// What was extracted is on disk before its names change, and those before containerd calls it done.
fn settle(staged: &Staged, upper: &Upper, root: (u32, u32)) -> Result<()> {
    let to = open_folder(&upper.folder)?;
    if staged.folder != upper.folder {
        let from = open_folder(&staged.folder)?;
        move_entries(&from, &to)?;
        copy_attributes(&from, &to)?;
    }
    if settle_on_parents(staged, &to, &upper.lowers, root)? {
        return rustix::fs::syncfs(&to).map_err(errno);
    }
    rustix::fs::fsync(&to).map_err(errno)
}

fn move_entries(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for entry in Dir::read_from(from).map_err(errno)? {
        let entry = entry.map_err(errno)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            rustix::fs::renameat(from, name, to, name).map_err(errno)?;
        }
    }
    Ok(())
}

/// What the archive left to the layers below: hard links to their files, attributes of folders it does not describe.
/// Whether there was anything below the top folder.
fn settle_on_parents(staged: &Staged, upper: &OwnedFd, lowers: &[PathBuf], root: (u32, u32)) -> Result<bool> {
    let extracted = &staged.extracted;
    if extracted.lower_links.is_empty() && !extracted.root_opaque && (extracted.implied.is_empty() || lowers.is_empty())
    {
        return Ok(false);
    }
    let lowers: Vec<OwnedFd> = lowers.iter().map(|lower| open_folder(lower)).collect::<Result<_>>()?;
    let mut implied = extracted.implied.clone();
    link_to_lower(&extracted.lower_links, Tree::new(reopen(upper)?).owned_by(root), &lowers, &mut implied)?;
    // Inner folders first: setting the outer one's times comes last.
    for folder in implied.iter().rev() {
        take_attributes(folder, upper, &lowers)?;
    }
    if extracted.root_opaque {
        hide_lower(upper, &lowers)?;
    }
    let only_top = implied.iter().all(Vec::is_empty) && extracted.lower_links.is_empty();
    Ok(!only_top)
}

fn link_to_lower(
    links: &[(Vec<u8>, Vec<u8>)],
    mut tree: Tree,
    lowers: &[OwnedFd],
    implied: &mut BTreeSet<Vec<u8>>,
) -> Result<()> {
    for (path, target) in links {
        let missing = || Error::invalid(format!("hard link to a missing file: {:?}", String::from_utf8_lossy(target)));
        let source = match tree.find(target)? {
            Some(source) => source,
            None => {
                let place = tree.place(target)?;
                let from = find_lower(target, lowers)?.ok_or_else(missing)?;
                copy_up(&from, &place.folder, &place.name)?;
                place
            }
        };
        let place = tree.place(path)?;
        tree.make(&place, |folder, name| {
            rustix::fs::linkat(&source.folder, &source.name, folder, name, AtFlags::empty())
        })?;
    }
    implied.extend(tree.implied.into_iter().filter(|folder| !folder.is_empty()));
    Ok(())
}

/// A regular file of the layers below, open for reading.
fn find_lower(path: &[u8], lowers: &[OwnedFd]) -> Result<Option<OwnedFd>> {
    let Some(fd) = lookup(path, lowers)? else { return Ok(None) };
    let stat = rustix::fs::fstat(&fd).map_err(errno)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid("hard link to what is not a file in a layer below"));
    }
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(again, flags, Mode::empty()).map(Some).map_err(errno)
}

fn copy_up(from: &OwnedFd, folder: &OwnedFd, name: &std::ffi::CStr) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(folder, name, flags, Mode::RUSR).map_err(errno)?;
    copy_content(&from.try_clone()?.into(), &to.try_clone()?.into())?;
    copy_attributes(from, &to)
}

/// What the layers below show under a path: from the top down, until one hides the others.
fn lookup(path: &[u8], lowers: &[OwnedFd]) -> Result<Option<OwnedFd>> {
    for lower in lowers {
        match open_in(lower, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).map_err(errno)?;
                let whiteout = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0;
                return Ok((!whiteout).then_some(fd));
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                if hides(lower, path)? {
                    return Ok(None);
                }
            }
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(None)
}

/// Whether a layer hides a path of those below it, by something on the way to it.
fn hides(layer: &OwnedFd, path: &[u8]) -> Result<bool> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match open_in(layer, &path[..end], flags) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(true),
            Err(error) => return Err(errno(error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(errno)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory || is_opaque(&reopen(&fd)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn take_attributes(folder: &[u8], upper: &OwnedFd, lowers: &[OwnedFd]) -> Result<()> {
    let Some(lower) = lookup(folder, lowers)? else { return Ok(()) };
    let stat = rustix::fs::fstat(&lower).map_err(errno)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match open_in(upper, folder, flags) {
        Ok(to) => copy_attributes(reopen(&lower)?, &to),
        // Another member of the layer took the folder's place.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(error) => Err(errno(error)),
    }
}
