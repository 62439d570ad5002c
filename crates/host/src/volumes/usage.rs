//! Bytes that a volume's files take, walked on descriptors.

use std::{collections::HashSet, io, os::fd::OwnedFd, path::Path};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

/// Each level holds one descriptor; deeper trees are an attack on the table of descriptors.
const DEEPEST: usize = 256;

/// Sum of the sizes of all that is no folder; a file with several names counts once.
pub fn of(data: &Path) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(CWD, data, flags, Mode::empty()) {
        Ok(folder) => walk(&folder, &mut HashSet::new(), 0),
        Err(rustix::io::Errno::NOENT) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn walk(folder: &OwnedFd, seen: &mut HashSet<(u64, u64)>, depth: usize) -> io::Result<u64> {
    if depth > DEEPEST {
        return Err(io::Error::other("folders are nested too deeply"));
    }
    let mut sum = 0;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // What goes away meanwhile takes no room.
        let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(below) = openat(folder, name, flags, Mode::empty()) {
                sum += walk(&below, seen, depth + 1)?;
            }
        } else if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
            sum += u64::try_from(stat.st_size).unwrap_or(0);
        }
    }
    Ok(sum)
}
