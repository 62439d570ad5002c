//! What programs look for to know that they are in a container, and what some still read mounts from: `/.dockerenv` and
//! `/etc/mtab`, put into an overlay's own layer without a mount, where the image has neither.

use std::{ffi::CStr, os::fd::OwnedFd};

use gantry_archive::extract::copy_attributes;
use gantry_domain::{Error, Result, ports::RootMount};
use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, fchmod, mkdirat, openat, symlinkat},
    io::Errno,
};

use super::{
    diff::{Layers, layers},
    pack::folder_flags,
};

const READABLE: Mode = Mode::from_raw_mode(0o755);
/// Where `/etc/mtab` leads.
pub const MOUNTS: &CStr = c"/proc/mounts";

/// Of a root that nobody has run in yet, as `owner` (user and group on the host).
pub fn make(mounts: &[RootMount], owner: (u32, u32)) -> Result<()> {
    let Layers { own, below } = layers(mounts)?;
    let failed = |error: Errno| {
        let why = std::io::Error::from(error);
        Error::system(format!("cannot prepare the container's own layer: {why}")).with_source(error)
    };
    if below.find(b"/.dockerenv")?.is_none() {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&own, c".dockerenv", flags, READABLE) {
            Ok(file) => {
                fchmod(&file, READABLE).map_err(failed)?;
                give(&own, c".dockerenv", owner).map_err(failed)?;
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if below.find(b"/etc/mtab")?.is_some() {
        return Ok(());
    }
    // A link or a file of this name is the image's affair.
    let like = below.folder(b"/etc")?;
    if like.is_none() && below.find(b"/etc")?.is_some() {
        return Ok(());
    }
    let made = match mkdirat(&own, c"etc", READABLE) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(failed(error)),
    };
    let etc = match openat(&own, c"etc", folder_flags(), Mode::empty()) {
        Ok(etc) => etc,
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    match symlinkat(MOUNTS, &etc, c"mtab") {
        Ok(()) => give(&etc, c"mtab", owner).map_err(failed)?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    match like {
        // Last, for its time changes with what is in it.
        Some(like) if made => copy_attributes(&like, &etc),
        None if made => {
            fchmod(&etc, READABLE).map_err(failed)?;
            give(&own, c"etc", owner).map_err(failed)
        }
        _ => Ok(()),
    }
}

fn give(folder: &OwnedFd, name: &CStr, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    chownat(folder, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
}
