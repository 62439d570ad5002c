//! Owner, mode, times and extended attributes of one file.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use gantry_domain::{Error, Result, id_maps::IdMaps};
use rustix::{
    fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{errno, foreign};
use crate::reader::Member;

const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const CAPABILITY: &[u8] = b"security.capability";

#[derive(Debug, Clone)]
pub struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    mtime: (i64, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The folder may pass on a group or an access list: then nothing is left as it was made.
    inherits: bool,
}

impl Attributes {
    /// As they are kept on the host. `InvalidParameter` for an owner that no container has.
    pub fn of(member: &Member, maps: &IdMaps) -> Result<Self> {
        Self::owned(member, (member.uid, member.gid), maps)
    }

    /// Bytes that keeping it takes beside its own size.
    pub fn weight(&self) -> usize {
        self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// For what is copied into a folder of any kind; `owner` instead of the member's.
    pub fn copied(member: &Member, owner: Option<(u32, u32)>, maps: &IdMaps) -> Result<Self> {
        let of = Self::owned(member, owner.unwrap_or((member.uid, member.gid)), maps)?;
        Ok(Self { inherits: true, ..of })
    }

    fn owned(member: &Member, (uid, gid): (u32, u32), maps: &IdMaps) -> Result<Self> {
        let (uid, gid) = maps.to_host(uid, gid)?;
        let allowed = member.xattrs.iter().filter(|(name, _)| is_allowed(name));
        let xattrs = allowed.map(|(name, value)| Ok((name.clone(), foreign::to_host(name, value, maps)?)));
        let xattrs = xattrs.collect::<Result<_>>()?;
        Ok(Self { uid, gid, mode: member.mode, mtime: member.mtime, xattrs, inherits: false })
    }

    /// For a file that was made with the permission bits of the mode, by root, in a folder that passes nothing on.
    pub fn set_on_new_file(&self, fd: &OwnedFd) -> Result<()> {
        if self.inherits || (self.uid, self.gid) != (0, 0) {
            self.chown(fd)?;
        }
        // A change of the owner clears the set-id bits, so they come after it.
        if self.inherits || self.mode & !0o777 != 0 {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode)).map_err(errno)?;
        }
        self.set_xattrs(fd)?;
        rustix::fs::futimens(fd, &self.times()).map_err(errno)
    }

    pub fn set_on_folder(&self, fd: &OwnedFd) -> Result<()> {
        self.chown(fd)?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode)).map_err(errno)?;
        self.set_xattrs(fd)?;
        rustix::fs::futimens(fd, &self.times()).map_err(errno)
    }

    /// For what cannot be opened: symlinks, devices, FIFOs. Nothing is followed.
    pub fn set_on_name(&self, folder: &OwnedFd, name: &CStr) -> Result<()> {
        if self.inherits || (self.uid, self.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(errno)?;
        }
        if (self.inherits || self.mode & !0o777 != 0) && !is_symlink(folder, name)? {
            rustix::fs::chmodat(folder, name, Mode::from_raw_mode(self.mode), AtFlags::empty()).map_err(errno)?;
        }
        for (key, value) in &self.xattrs {
            let path = under(folder, name)?;
            allow_missing(key, rustix::fs::lsetxattr(&path, key_of(key)?, value, XattrFlags::empty()))?;
        }
        rustix::fs::utimensat(folder, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW).map_err(errno)
    }

    fn chown(&self, fd: &OwnedFd) -> Result<()> {
        rustix::fs::fchown(fd, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid))).map_err(errno)
    }

    fn set_xattrs(&self, fd: &OwnedFd) -> Result<()> {
        for (key, value) in &self.xattrs {
            allow_missing(key, rustix::fs::fsetxattr(fd, key_of(key)?, value, XattrFlags::empty()))?;
        }
        Ok(())
    }

    fn times(&self) -> Timestamps {
        times(self.mtime)
    }
}

/// Seconds and nanoseconds, for access and modification.
pub fn times(mtime: (i64, u32)) -> Timestamps {
    let at = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
    Timestamps { last_access: at, last_modification: at }
}

/// `trusted.*` and `user.overlay.*` would steer the file system itself; `security.*` labels are the host's.
pub fn is_allowed(name: &[u8]) -> bool {
    name == CAPABILITY
        || name == DEFAULT_ACL
        || name == b"system.posix_acl_access"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// A file system without such attributes, or a kind of file that cannot bear them, is no failure; a lost capability is.
fn allow_missing(key: &[u8], result: rustix::io::Result<()>) -> Result<()> {
    match result {
        Err(Errno::NOTSUP | Errno::PERM) if key != CAPABILITY => Ok(()),
        other => other.map_err(errno),
    }
}

fn key_of(key: &[u8]) -> Result<CString> {
    CString::new(key).map_err(|_| Error::invalid("invalid name of an extended attribute"))
}

fn is_symlink(folder: &OwnedFd, name: &CStr) -> Result<bool> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Symlink)
}

/// The kernel has no `lsetxattrat` before 6.13; this path names our descriptor and cannot be redirected.
fn under(folder: &OwnedFd, name: &CStr) -> Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    CString::new(path).map_err(|_| Error::invalid("invalid name"))
}

/// Owner, mode and times of one folder or file put on another, as a copy-up does.
pub fn copy_attributes(from: impl AsFd, to: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::fstat(from.as_fd()).map_err(errno)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(to, Some(uid), Some(gid)).map_err(errno)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(errno)?;
    copy_xattrs(from.as_fd(), to)?;
    let at = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    rustix::fs::futimens(to, &Timestamps { last_access: at, last_modification: at }).map_err(errno)
}

fn copy_xattrs(from: impl AsFd, to: &OwnedFd) -> Result<()> {
    let mut names = vec![0u8; 64 << 10];
    let count = match rustix::fs::flistxattr(from.as_fd(), &mut names) {
        Ok(count) => count,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(errno(error)),
    };
    let mut value = vec![0u8; 64 << 10];
    for name in names[..count].split(|byte| *byte == 0).filter(|name| is_allowed(name)) {
        let key = key_of(name)?;
        let length = rustix::fs::fgetxattr(from.as_fd(), &key, &mut value[..]).map_err(errno)?;
        allow_missing(name, rustix::fs::fsetxattr(to, &key, &value[..length], XattrFlags::empty()))?;
    }
    Ok(())
}
