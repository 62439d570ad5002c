//! Volumes with options `type`, `o` and `device`: mounted with the first user, unmounted with the last.
//!
//! Users are files in a folder. They hold as long as the mount does: where nothing is mounted (a reboot), they are void.

use std::{
    ffi::CString,
    fs, io,
    net::{IpAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

use gantry_domain::{Error, Result, volume::VolumeRecord};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    kind: String,
    device: String,
    flags: MountFlags,
    /// What the file system itself reads.
    data: Vec<String>,
}

impl Options {
    /// `None` for a plain volume.
    pub fn of(volume: &VolumeRecord) -> Result<Option<Self>> {
        let Some(options) = volume.options.as_ref().filter(|options| !options.is_empty()) else { return Ok(None) };
        let get = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
        if get("type").is_empty() && get("device").is_empty() {
            return Ok(None);
        }
        let (mut flags, mut data) = (MountFlags::empty(), Vec::new());
        for option in get("o").split(',').filter(|option| !option.is_empty()) {
            match flag(option) {
                Some((flag, true)) => flags |= flag,
                Some((flag, false)) => flags &= !flag,
                None => data.push(option.to_owned()),
            }
        }
        Ok(Some(Self { kind: get("type").into(), device: get("device").into(), flags, data }))
    }

    /// What lies at `source`, with all that is mounted below it.
    pub fn bind(source: &Path) -> Self {
        let device = source.to_string_lossy().into_owned();
        Self { kind: String::new(), device, flags: MountFlags::BIND | MountFlags::REC, data: Vec::new() }
    }

    /// The kernel takes addresses only; `mount.nfs` and `mount.cifs` would look the name up.
    fn resolved(&self) -> io::Result<Vec<String>> {
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs") {
            return Ok(self.data.clone());
        }
        self.data
            .iter()
            .map(|option| match option.strip_prefix("addr=") {
                Some(host) if host.parse::<IpAddr>().is_err() => {
                    let first = (host, 0).to_socket_addrs()?.next();
                    let address = first.ok_or_else(|| io::Error::other(format!("no address of {host}")))?;
                    Ok(format!("addr={}", address.ip()))
                }
                _ => Ok(option.clone()),
            })
            .collect()
    }

    fn mount_at(&self, target: &Path) -> io::Result<()> {
        let data = CString::new(self.resolved()?.join(","))?;
        let kind = if self.kind.is_empty() { "none" } else { &self.kind };
        mount(self.device.as_str(), target, kind, self.flags, Some(data.as_c_str()))?;
        let restricting = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if self.flags.contains(MountFlags::BIND) && self.flags.intersects(restricting) {
            // A bind takes its other flags in a second step only.
            let flags = MountFlags::BIND | self.flags & !MountFlags::REC;
            if let Err(error) = rustix::mount::mount_remount(target, flags, c"") {
                let _ = unmount(target, UnmountFlags::DETACH);
                return Err(error.into());
            }
        }
        Ok(())
    }
}

fn flag(option: &str) -> Option<(MountFlags, bool)> {
    Some(match option {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "bind" => (MountFlags::BIND, true),
        "rbind" => (MountFlags::BIND | MountFlags::REC, true),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "defaults" => (MountFlags::empty(), true),
        _ => return None,
    })
}

/// Mounts where nothing is mounted yet, and notes the user. May be repeated.
pub fn mount_for(target: &Path, users: &Path, options: &Options, user: &str) -> Result<()> {
    let failed = |error: io::Error| {
        let (data, device) = (options.data.join(","), &options.device);
        Error::system(format!(
            "error while mounting volume '{at}': failed to mount local volume: mount {device}:{at}, data: {data}: {error}",
            at = target.display(),
        ))
        .with_source(error)
    };
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
