//! Filling an empty volume from a folder of an image: owners, modes, times, attributes, links and devices as they are.

use std::{
    collections::HashMap,
    ffi::CStr,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fstat,
        lgetxattr, linkat, llistxattr, lsetxattr, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
    },
    io::Errno,
};

/// Each level holds two descriptors.
const DEEPEST: usize = 256;
const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

/// Copies what is in `source`, then its own owner, mode and times, to `target`.
pub fn tree(source: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let mut copy = Copy { root: target, names: HashMap::new() };
    copy.folder(source, target, Path::new(""), 0)
}

struct Copy<'a> {
    root: &'a OwnedFd,
    /// Where a file with several names lies in the volume.
    names: HashMap<(u64, u64), PathBuf>,
}

impl Copy<'_> {
    fn folder(&mut self, source: &OwnedFd, target: &OwnedFd, path: &Path, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other("folders are nested too deeply"));
        }
        for entry in Dir::read_from(source)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match statat(source, name, NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            self.one(source, target, name, &stat, path, depth)?;
        }
        let stat = fstat(source)?;
        attributes(&through(source, c"."), &through(target, c"."))?;
        rustix::fs::fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        rustix::fs::futimens(target, &times(&stat))?;
        Ok(())
    }

    fn one(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        path: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let kind = FileType::from_raw_mode(stat.st_mode);
        let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if kind == FileType::Directory {
            mkdirat(target, name, Mode::RWXU)?;
            let (from, to) =
                (openat(source, name, folder, Mode::empty())?, openat(target, name, folder, Mode::empty())?);
            return self.folder(&from, &to, &path, depth + 1);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.names.get(&(stat.st_dev, stat.st_ino)) {
                return Ok(linkat(self.root, first, target, name, AtFlags::empty())?);
            }
            self.names.insert((stat.st_dev, stat.st_ino), path);
        }
        match kind {
            FileType::RegularFile => content(source, target, name)?,
            FileType::Symlink => symlinkat(readlinkat(source, name, Vec::new())?, target, name)?,
            // A socket means nothing without who listens on it.
            FileType::Socket => return Ok(()),
            _ => mknodat(target, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?,
        }
        // The owner first: changing it takes set-id bits and capabilities away.
        chownat(target, name, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), NOFOLLOW)?;
        if kind != FileType::Symlink {
            rustix::fs::chmodat(target, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
        }
        attributes(&through(source, name), &through(target, name))?;
        Ok(utimensat(target, name, &times(stat), NOFOLLOW)?)
    }
}

fn content(source: &OwnedFd, target: &OwnedFd, name: &CStr) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = fs::File::from(openat(source, name, read, Mode::empty())?);
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = fs::File::from(openat(target, name, write, Mode::RUSR | Mode::WUSR)?);
    gantry_archive::content::copy_content(&from, &to)
}

/// A path for the calls that take no descriptor of a folder; its last part is never followed.
fn through(folder: &OwnedFd, name: &CStr) -> PathBuf {
    let folder = PathBuf::from(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd()));
    folder.join(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

/// Extended attributes but the overlay's own. A volume's file system may know fewer of them.
fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0u8; 64 << 10];
    let len = match llistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    for name in names[..len].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if name.to_bytes().starts_with(b"trusted.overlay.") || name.to_bytes().starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        let len = lgetxattr(from, name, &mut value[..])?;
        match lsetxattr(to, name, &value[..len], XattrFlags::empty()) {
            Err(Errno::NOTSUP | Errno::PERM) => {}
            other => other?,
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}
