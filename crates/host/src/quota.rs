//! Limits on what may be stored below a folder: project quotas of ext4 and xfs, asked of the kernel directly.
//!
//! A project is a number that folders hand on to what is made in them. No list of numbers is kept: a new one is tried
//! until the kernel knows nobody who uses it.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io, mem,
    os::fd::AsRawFd as _,
    path::Path,
};

// `linux/fs.h`, `linux/dqblk_xfs.h`, `linux/quota.h`.
const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
const FS_XFLAG_PROJINHERIT: u32 = 0x200;
const PRJQUOTA: u32 = 2;
const Q_XGETQUOTA: u32 = 0x5803;
const Q_XSETQLIM: u32 = 0x5804;
const FS_PROJ_QUOTA: i8 = 2;
const FS_DQ_BSOFT: u16 = 1 << 2;
const FS_DQ_BHARD: u16 = 1 << 3;
/// Unit of the limits.
const BLOCK: u64 = 512;
/// Below are numbers that people give in `/etc/projects`.
const FIRST: u32 = 1 << 20;

#[repr(C)]
#[derive(Default)]
struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    project: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

#[repr(C)]
#[derive(Default)]
struct FsDiskQuota {
    version: i8,
    flags: i8,
    fieldmask: u16,
    id: u32,
    block_hard: u64,
    block_soft: u64,
    inode_hard: u64,
    inode_soft: u64,
    blocks: u64,
    inodes: u64,
    rest: [u64; 7],
}

// What the kernel copies.
const _: () = assert!(mem::size_of::<FsXattr>() == 28 && mem::size_of::<FsDiskQuota>() == 112);

/// Limits these folders together, all on one file system and empty still, to so many bytes. `Unsupported` where the
/// file system has no project quotas, or they are not in force.
pub fn limit(folders: &[&Path], bytes: u64) -> io::Result<()> {
    let opened: Vec<File> = folders.iter().map(File::open).collect::<io::Result<_>>()?;
    let Some(first) = opened.first() else { return Ok(()) };
    let project = free_project(first, folders[0])?;
    let mut wanted = FsDiskQuota {
        version: 1,
        flags: FS_PROJ_QUOTA,
        fieldmask: FS_DQ_BHARD | FS_DQ_BSOFT,
        id: project,
        block_hard: bytes.div_ceil(BLOCK),
        block_soft: bytes.div_ceil(BLOCK),
        ..FsDiskQuota::default()
    };
    // The limit first: nothing is ever in the project without it.
    quota(first, Q_XSETQLIM, project, &mut wanted).map_err(unsupported)?;
    opened.iter().try_for_each(|folder| join(folder, project))
}

/// One that nothing belongs to.
fn free_project(file: &File, folder: &Path) -> io::Result<u32> {
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    let begin = hasher.finish() as u32;
    for n in 0..1024 {
        let project = begin.wrapping_add(n).max(FIRST);
        let mut known = FsDiskQuota::default();
        match quota(file, Q_XGETQUOTA, project, &mut known) {
            Ok(()) if known.inodes == 0 && known.blocks == 0 => return Ok(project),
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(project),
            Err(error) => return Err(unsupported(error)),
        }
    }
    Err(io::Error::other("no project number is free"))
}

fn quota(file: &File, command: u32, project: u32, with: &mut FsDiskQuota) -> io::Result<()> {
    let command = command << 8 | PRJQUOTA;
    // SAFETY: the kernel reads or writes one struct of this layout, which lives until the call returns.
    let result =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command, project, with as *mut FsDiskQuota) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn join(folder: &File, project: u32) -> io::Result<()> {
    let mut attributes = FsXattr::default();
    // SAFETY: as above.
    if unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSGETXATTR as _, &mut attributes) } < 0 {
        return Err(unsupported(io::Error::last_os_error()));
    }
    attributes.project = project;
    attributes.xflags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: as above.
    if unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSSETXATTR as _, &attributes) } < 0 {
        return Err(unsupported(io::Error::last_os_error()));
    }
    Ok(())
}

/// How kernels and file systems say that they have none.
fn unsupported(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::ENOTSUP | libc::ENOTTY | libc::ESRCH | libc::EINVAL) => {
            io::Error::new(io::ErrorKind::Unsupported, "project quotas are not in force")
        }
        _ => error,
    }
}
