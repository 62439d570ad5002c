//! Filling a volume once: who fills it has it to himself, and half a copy never passes for the volume's own content.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use gantry_domain::Result;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat, syncfs};

/// Beside the data while it is filled: what is in the volume is half a copy.
const MARK: &str = "filling";

/// A volume while it is filled. Others who want to fill or mount it wait.
pub struct Filling {
    volume: PathBuf,
    /// The folder of a volume of ours, locked.
    turn: Option<(PathBuf, OwnedFd)>,
}

impl Filling {
    /// `None`: the volume has content of its own. Blocks while another fills it.
    pub fn begin(volume: &Path) -> Result<Option<Self>> {
        // Only beside a volume of ours.
        let folder = volume.parent().filter(|folder| folder.join(super::RECORD).exists());
        let turn = folder.map(|folder| Ok::<_, io::Error>((folder.to_owned(), turn(folder)?))).transpose()?;
        if let Some((folder, _)) = &turn {
            undo_half(folder)?;
        }
        if fs::read_dir(volume)?.next().is_some() {
            return Ok(None);
        }
        if let Some((folder, _)) = &turn {
            fs::write(folder.join(MARK), "")?;
            super::sync(folder)?;
        }
        Ok(Some(Self { volume: volume.to_owned(), turn }))
    }

    pub fn target(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(CWD, &self.volume, flags, Mode::empty()).map_err(io::Error::from)?)
    }

    /// Half a copy is taken away again; a whole one is on disk before it counts as the volume's content.
    pub fn end(self, copied: Result<()>) -> Result<()> {
        if copied.is_err() {
            empty(&self.volume)?;
        } else if fs::read_dir(&self.volume)?.next().is_some() {
            syncfs(self.target()?).map_err(io::Error::from)?;
        }
        if let Some((folder, _)) = &self.turn {
            fs::remove_file(folder.join(MARK))?;
            super::sync(folder)?;
        }
        copied
    }
}

/// A volume's turn: one at a time fills it, mounts it or unmounts it. Blocks; given back with the descriptor.
pub fn turn(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(CWD, folder, flags, Mode::empty())?;
    flock(&folder, FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// Takes away what a killed gantryd copied, before anything of a container's own is beside it. For who has the turn.
pub fn undo_half(folder: &Path) -> io::Result<()> {
    let mark = folder.join(MARK);
    if !mark.exists() {
        return Ok(());
    }
    empty(&folder.join(super::DATA))?;
    fs::remove_file(mark)?;
    super::sync(folder)
}

fn empty(volume: &Path) -> io::Result<()> {
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}
