//! Volumes with options `type`, `o` and `device`: mounted with the first user, unmounted with the last.
//!
//! Users are files in a folder. They hold as long as the mount does: where nothing is mounted (a reboot), they are void.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gantry_domain::Result;
use rustix::mount::{UnmountFlags, unmount};

mod options;
pub use options::Options;

/// Mounts where nothing is mounted yet, and notes the user. May be repeated.
pub fn mount_for(target: &Path, users: &Path, options: &Options, user: &str) -> Result<()> {
    let failed = |error: io::Error| options.failed(target, error);
    let mounted = is_mounted(target).map_err(failed)?;
    if !mounted {
        remove_users(users).map_err(failed)?;
    }
    fs::create_dir_all(users).map_err(failed)?;
    let note = users.join(user);
    fs::write(&note, "").map_err(failed)?;
    if !mounted && let Err(error) = options.mount_at(target) {
        let _ = fs::remove_file(note);
        return Err(failed(error));
    }
    Ok(())
}

/// Strikes the user off, and unmounts after the last one. May be repeated.
pub fn unmount_for(target: &Path, users: &Path, user: &str) -> io::Result<()> {
    match fs::remove_file(users.join(user)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let others = fs::read_dir(users).is_ok_and(|mut entries| entries.next().is_some());
    if others { Ok(()) } else { unmount_all(target) }
}

/// Takes every mount at `target` away, however many lie on top of each other.
pub fn unmount_all(target: &Path) -> io::Result<()> {
    while is_mounted(target)? {
        unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

fn remove_users(users: &Path) -> io::Result<()> {
    match fs::remove_dir_all(users) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_mounted(target: &Path) -> io::Result<bool> {
    // The mount itself is not looked at: the server of a network file system may be gone, and looking would not end.
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return Ok(false) };
    let Ok(parent) = parent.canonicalize() else { return Ok(false) };
    Ok(mount_points()?.contains(&parent.join(name)))
}

/// A mount point at or below `folder`.
pub fn mounted_below(folder: &Path) -> io::Result<Option<PathBuf>> {
    let Ok(folder) = folder.canonicalize() else { return Ok(None) };
    Ok(mount_points()?.into_iter().find(|point| point.starts_with(&folder)))
}

/// The same, without a mount on the folder itself.
pub fn mounted_inside(folder: &Path) -> io::Result<Option<PathBuf>> {
    let Ok(folder) = folder.canonicalize() else { return Ok(None) };
    Ok(mount_points()?.into_iter().find(|point| point.starts_with(&folder) && *point != folder))
}

fn mount_points() -> io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/thread-self/mountinfo")?;
    Ok(table.split(|b| *b == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4)).map(unescape).collect())
}

/// mountinfo writes blanks and backslashes as `\040`.
pub(crate) fn unescape(text: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let (mut bytes, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let octal = text.get(at + 1..at + 4).filter(|_| text[at] == b'\\');
        let byte = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(text[at]));
        at += if byte.is_some() { 4 } else { 1 };
    }
    std::ffi::OsString::from_vec(bytes).into()
}
