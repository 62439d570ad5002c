//! The options of a volume that is mounted: as `mount` takes them, and as the kernel does.

use std::{
    ffi::CString,
    io,
    net::{IpAddr, ToSocketAddrs},
    path::Path,
};

use gantry_domain::{Error, Result, volume::VolumeRecord};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    kind: String,
    device: String,
    flags: MountFlags,
    propagation: Option<MountPropagationFlags>,
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
        let (mut flags, mut changed, mut data) = (MountFlags::empty(), None, Vec::new());
        for option in get("o").split(',').filter(|option| !option.is_empty()) {
            match flag(option) {
                Some((flag, true)) => flags |= flag,
                Some((flag, false)) => flags &= !flag,
                None => match propagation(option) {
                    Some(propagation) => changed = Some(propagation),
                    None => data.push(option.to_owned()),
                },
            }
        }
        Ok(Some(Self { kind: get("type").into(), device: get("device").into(), flags, propagation: changed, data }))
    }

    /// What lies at `source`, with all that is mounted below it.
    pub fn bind(source: &Path) -> Self {
        let device = source.to_string_lossy().into_owned();
        Self {
            kind: String::new(),
            device,
            flags: MountFlags::BIND | MountFlags::REC,
            propagation: None,
            data: Vec::new(),
        }
    }

    /// Device and data as the kernel takes them: it knows addresses only, where `mount.nfs` and `mount.cifs` would look
    /// the name up.
    fn resolved(&self, look_up: impl Fn(&str) -> io::Result<IpAddr>) -> io::Result<(String, Vec<String>)> {
        let (mut device, mut data) = (self.device.clone(), self.data.clone());
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs") {
            return Ok((device, data));
        }
        if let Some(option) = data.iter_mut().find(|option| option.starts_with("addr=")) {
            let host = &option["addr=".len()..];
            if host.parse::<IpAddr>().is_err() {
                *option = format!("addr={}", look_up(host)?);
            }
        } else if self.kind == "cifs"
            && let Some((host, share)) = device.strip_prefix("//").and_then(|rest| rest.split_once('/'))
            && host.parse::<IpAddr>().is_err()
        {
            device = format!("//{}/{share}", look_up(host)?);
        }
        Ok((device, data))
    }

    pub fn mount_at(&self, target: &Path) -> io::Result<()> {
        let (device, data) = self.resolved(look_up)?;
        let data = CString::new(data.join(","))?;
        let kind = if self.kind.is_empty() { "none" } else { &self.kind };
        mount(device.as_str(), target, kind, self.flags, Some(data.as_c_str()))?;
        self.change(target).inspect_err(|_| {
            let _ = unmount(target, UnmountFlags::DETACH);
        })
    }

    /// What takes further steps of the kernel's.
    fn change(&self, target: &Path) -> io::Result<()> {
        let restricting = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if self.flags.contains(MountFlags::BIND) && self.flags.intersects(restricting) {
            rustix::mount::mount_remount(target, MountFlags::BIND | self.flags & !MountFlags::REC, c"")?;
        }
        match self.propagation {
            Some(propagation) => Ok(mount_change(target, propagation)?),
            None => Ok(()),
        }
    }

    /// What the kernel said, with all that it was told but passwords.
    pub fn failed(&self, target: &Path, error: io::Error) -> Error {
        let (device, target) = (&self.device, target.display());
        let flags = if self.flags.is_empty() { String::new() } else { format!(", flags: {:#x}", self.flags.bits()) };
        let hidden = |option: &String| match option.split_once('=') {
            Some((key @ ("password" | "password2" | "pass"), _)) => format!("{key}=********"),
            _ => option.clone(),
        };
        let data: Vec<String> = self.data.iter().map(hidden).collect();
        let data = if data.is_empty() { String::new() } else { format!(", data: {}", data.join(",")) };
        Error::system(format!(
            "error while mounting volume '{target}': failed to mount local volume: mount {device}:{target}{flags}{data}: \
             {error}"
        ))
        .with_source(error)
    }
}

fn look_up(host: &str) -> io::Result<IpAddr> {
    let first = (host, 0).to_socket_addrs().ok().and_then(|mut found| found.next());
    let found = first.map(|address| address.ip());
    found.ok_or_else(|| {
        io::Error::other(format!("error resolving passed in network volume address: no address of {host}"))
    })
}

/// How mounts below it are passed on: `rshared` and its like.
fn propagation(option: &str) -> Option<MountPropagationFlags> {
    let (recursive, kind) = match option.strip_prefix('r') {
        Some(kind @ ("shared" | "slave" | "private" | "unbindable")) => (MountPropagationFlags::REC, kind),
        _ => (MountPropagationFlags::empty(), option),
    };
    let kind = match kind {
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "private" => MountPropagationFlags::PRIVATE,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
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
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "mand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
        "nomand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "defaults" => (MountFlags::empty(), true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    fn options(given: &[(&str, &str)]) -> Options {
        let options = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let volume = VolumeRecord { options: Some(options), ..serde_json::from_value(volume()).unwrap() };
        Options::of(&volume).unwrap().unwrap()
    }

    fn volume() -> serde_json::Value {
        let none: BTreeMap<String, String> = BTreeMap::new();
        serde_json::json!({
            "schema": 1, "generation": 1, "name": "v", "driver": "local", "created": "2026-01-01T00:00:00Z",
            "mountpoint": "", "options": none, "labels": none,
        })
    }

    fn known(host: &str) -> io::Result<IpAddr> {
        if host == "files" { Ok([192, 0, 2, 7].into()) } else { look_up("no-such-host.invalid") }
    }

    #[test]
    fn the_server_of_a_network_file_system_is_given_by_address() {
        let nfs = options(&[("type", "nfs"), ("o", "addr=files,rw,nolock"), ("device", ":/export")]);
        assert_eq!(nfs.resolved(known).unwrap(), (":/export".into(), vec!["addr=192.0.2.7".into(), "nolock".into()]));
        let cifs = options(&[("type", "cifs"), ("o", "username=u"), ("device", "//files/share/a b")]);
        assert_eq!(cifs.resolved(known).unwrap().0, "//192.0.2.7/share/a b");
        let given = options(&[("type", "cifs"), ("o", "addr=192.0.2.9"), ("device", "//files/share")]);
        assert_eq!(given.resolved(known).unwrap(), ("//files/share".into(), vec!["addr=192.0.2.9".into()]));
        let other = options(&[("type", "tmpfs"), ("o", "addr=files"), ("device", "//files/x")]);
        assert_eq!(other.resolved(known).unwrap(), ("//files/x".into(), vec!["addr=files".into()]));
        let unknown = options(&[("type", "nfs"), ("o", "addr=nobody"), ("device", ":/x")]).resolved(known).unwrap_err();
        assert!(unknown.to_string().starts_with("error resolving passed in network volume address"), "{unknown}");
    }

    #[test]
    fn a_failed_mount_tells_everything_but_the_password() {
        let cifs = options(&[("type", "cifs"), ("o", "ro,username=u,password=sesame"), ("device", "//h/s")]);
        let text = cifs.failed(Path::new("/v"), io::Error::other("no")).message().to_owned();
        assert_eq!(
            text,
            "error while mounting volume '/v': failed to mount local volume: mount //h/s:/v, flags: 0x1, data: \
             username=u,password=********: no"
        );
        let plain = options(&[("type", "ext4"), ("device", "/dev/x")]).failed(Path::new("/v"), io::Error::other("no"));
        assert!(plain.message().ends_with("mount /dev/x:/v: no"), "{plain}");
    }

    #[test]
    fn how_mounts_are_passed_on_is_no_data_of_the_file_system() {
        let bind = options(&[("type", "none"), ("o", "bind,rshared"), ("device", "/srv")]);
        assert_eq!(bind.propagation, Some(MountPropagationFlags::SHARED | MountPropagationFlags::REC));
        assert!(bind.data.is_empty());
        assert_eq!(propagation("ro"), None);
        assert_eq!(propagation("slave"), Some(MountPropagationFlags::DOWNSTREAM));
    }
}
