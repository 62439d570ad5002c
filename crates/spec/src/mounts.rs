//! Mounts: the defaults, the engine's files, and what was asked, in an order in which each finds its parent.

use std::{collections::BTreeSet, path::Path};

use gantry_domain::{
    Error, Result,
    container::{MountPoint, mount::TmpfsOptions, security::SecurityOptions, validate::mounts::clean},
};
use serde::Serialize;

use crate::{Namespace, SpecInput, namespaces::is_remapped, resources::is_bound};

/// Where the init program appears in a container.
pub(crate) const INIT: &str = "/sbin/docker-init";
/// First kernel with `mount_setattr`, which makes a whole tree read-only.
const RECURSIVE_READ_ONLY: (u32, u32) = (5, 12);

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Mount {
    destination: String,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    options: Vec<String>,
}

impl Mount {
    fn new(destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { destination: destination.into(), kind: kind.into(), source: source.into(), options }
    }

    fn bind(destination: &str, source: &Path, options: &[&str]) -> Result<Self> {
        let source = source.to_str().ok_or_else(|| Error::invalid("the path of a mount is not UTF-8"))?;
        Ok(Self::new(destination, "bind", source, options))
    }
}

pub(crate) fn all(input: &SpecInput<'_>, security: &SecurityOptions) -> Result<Vec<Mount>> {
    let mut asked = asked(input)?;
    let taken: BTreeSet<String> = asked.iter().map(|mount| mount.destination.clone()).collect();
    let mut mounts = defaults(input, security);
    mounts.extend(shared_memory(input)?);
    mounts.retain(|mount| {
        let below_dev = taken.contains("/dev") && mount.destination.starts_with("/dev/");
        !taken.contains(&mount.destination) && !below_dev
    });
    let files = engine_files(input)?;
    asked.extend(files.into_iter().filter(|mount| !taken.contains(&mount.destination)));
    // Parents before what lies in them; the sort keeps the order of equals.
    asked.sort_by_key(|mount| mount.destination.matches('/').count());
    mounts.extend(asked);
    if let Some(init) = input.init_path {
        mounts.push(Mount::bind(INIT, init, &["bind", "ro"])?);
    }
    Ok(mounts)
}

fn defaults(input: &SpecInput<'_>, security: &SecurityOptions) -> Vec<Mount> {
    let host = &input.record.host_config;
    let sys = if host.privileged { "rw" } else { "ro" };
    // In a user namespace the host's files keep a container out by their owner. As in dockerd: on version 2 its own
    // group is its own to write.
    let writable = host.privileged || security.writable_cgroups == Some(true) || is_remapped(input);
    let cgroup = if writable { "rw" } else { "ro" };
    let mut mounts = vec![
        Mount::new("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        Mount::new("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        Mount::new(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        Mount::new("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys]),
        Mount::new("/sys/fs/cgroup", "cgroup", "cgroup", &[cgroup, "nosuid", "noexec", "nodev"]),
    ];
    // The host's queues cannot be mounted from a user namespace; they can be used without.
    let queues_are_hosts = is_remapped(input) && *input.ipc == Namespace::Host;
    if host.ipc_mode != "none" && !queues_are_hosts {
        mounts.push(Mount::new("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    }
    mounts
}

fn shared_memory(input: &SpecInput<'_>) -> Result<Option<Mount>> {
    let host = &input.record.host_config;
    let options = ["rbind", "rprivate"];
    Ok(match (&input.files.shm, input.ipc) {
        _ if host.ipc_mode == "none" => None,
        (Some(path), _) => Some(Mount::bind("/dev/shm", path, &options)?),
        (None, Namespace::Host) => Some(Mount::bind("/dev/shm", Path::new("/dev/shm"), &options)?),
        (None, _) => {
            let size = format!("size={}", host.shm_size);
            Some(Mount::new("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]))
        }
    })
}

fn engine_files(input: &SpecInput<'_>) -> Result<Vec<Mount>> {
    let files = input.files;
    let list =
        [("/etc/resolv.conf", &files.resolv_conf), ("/etc/hostname", &files.hostname), ("/etc/hosts", &files.hosts)];
    let options: &[&str] =
        if input.record.host_config.readonly_rootfs { &["rbind", "ro", "rprivate"] } else { &["rbind", "rprivate"] };
    let present = list.into_iter().filter_map(|(destination, path)| Some((destination, path.as_ref()?)));
    present.map(|(destination, path)| Mount::bind(destination, path, options)).collect()
}

/// Binds, volumes and tmpfs. A tmpfs of `HostConfig.Tmpfs` hides a volume of the same place.
fn asked(input: &SpecInput<'_>) -> Result<Vec<Mount>> {
    let host = &input.record.host_config;
    let mut mounts = Vec::new();
    for device in input.devices.iter().filter(|device| is_bound(device, input)) {
        let destination = check_destination(&device.path_in_container)?;
        mounts.push(Mount::bind(&destination, Path::new(&device.node.path), &["bind", "rprivate"])?);
    }
    for (path, options) in &host.tmpfs {
        mounts.push(tmpfs(&check_destination(path)?, options.split(',').filter(|word| !word.is_empty()))?);
    }
    let hidden: BTreeSet<String> = mounts.iter().map(|mount: &Mount| mount.destination.clone()).collect();
    for point in input.mounts.iter().filter(|point| !hidden.contains(&point.destination)) {
        let destination = check_destination(&point.destination)?;
        mounts.push(match point.kind.as_str() {
            "tmpfs" => {
                let options = point.spec.as_ref().and_then(|spec| spec.tmpfs_options.as_ref());
                let words = tmpfs_words(options, !point.rw);
                tmpfs(&destination, words.iter().map(String::as_str))?
            }
            _ => bind(point, destination, input)?,
        });
    }
    Ok(mounts)
}

/// Absolute, clean, and not the root (T13, T22); that it leads nowhere else by links is the runtime's care.
fn check_destination(path: &str) -> Result<String> {
    let cleaned = clean(path);
    if !path.starts_with('/') || cleaned == "/" || path.contains('\0') {
        return Err(Error::invalid(format!("invalid mount path: '{path}' mount path must be absolute")));
    }
    Ok(cleaned)
}

fn bind(point: &MountPoint, destination: String, input: &SpecInput<'_>) -> Result<Mount> {
    if point.source.is_empty() {
        return Err(Error::system(format!("the mount {destination} has no source")));
    }
    let asked = point.spec.as_ref().and_then(|spec| spec.bind_options.clone()).unwrap_or_default();
    let mut options = vec![if asked.non_recursive { "bind" } else { "rbind" }];
    if !point.rw {
        let able = kernel_version(&input.facts.kernel_version) >= RECURSIVE_READ_ONLY;
        if asked.read_only_force_recursive && !able {
            return Err(Error::invalid(format!(
                "rro is not supported: kernel {} is older than 5.12",
                input.facts.kernel_version
            )));
        }
        let alone = asked.read_only_non_recursive || point.read_only_non_recursive || asked.non_recursive;
        let recursive = able && !alone;
        options.push(if recursive { "rro" } else { "ro" });
    }
    options.push(if point.propagation.is_empty() { "rprivate" } else { &point.propagation });
    Mount::bind(&destination, Path::new(&point.source), &options)
}

fn kernel_version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn tmpfs_words(options: Option<&TmpfsOptions>, read_only: bool) -> Vec<String> {
    let mut words = Vec::new();
    if read_only {
        words.push("ro".into());
    }
    let Some(options) = options else { return words };
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes != 0 {
        words.push(format!("size={}", options.size_bytes));
    }
    words.extend(options.options.iter().flatten().map(|pair| pair.join("=")));
    words
}

/// dockerd's defaults, each replaced by its opposite or by a newer value of the same key.
fn tmpfs<'a>(destination: &str, words: impl Iterator<Item = &'a str>) -> Result<Mount> {
    let mut options = vec!["noexec", "nosuid", "nodev", "rprivate"];
    for word in words {
        let key = tmpfs_key(word).ok_or_else(|| {
            let key = word.split_once('=').map_or(word, |(key, _)| key);
            Error::invalid(format!("invalid tmpfs option {key:?}"))
        })?;
        options.retain(|other| tmpfs_key(other) != Some(key));
        options.push(word);
    }
    Ok(Mount::new(destination, "tmpfs", "tmpfs", &options))
}

/// What an option sets; two with the same key exclude each other.
fn tmpfs_key(word: &str) -> Option<&str> {
    Some(match word {
        "exec" | "noexec" => "exec",
        "suid" | "nosuid" => "suid",
        "dev" | "nodev" => "dev",
        "ro" | "rw" => "write",
        "sync" | "async" => "sync",
        "dirsync" | "nodirsync" => "dirsync",
        "atime" | "noatime" => "atime",
        "diratime" | "nodiratime" => "diratime",
        "relatime" | "norelatime" => "relatime",
        "strictatime" | "nostrictatime" => "strictatime",
        "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" | "unbindable" | "runbindable" => {
            "propagation"
        }
        "remount" | "bind" | "rbind" => return None,
        _ => match word.split_once('=') {
            Some((key @ ("size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol"), _)) => key,
            _ => return None,
        },
    })
}

/// A shared or slave mount needs a root that lets mounts through.
pub(crate) fn root_propagation(input: &SpecInput<'_>) -> Option<&'static str> {
    let any = |words: [&str; 2]| input.mounts.iter().any(|point| words.contains(&point.propagation.as_str()));
    if any(["shared", "rshared"]) {
        Some("shared")
    } else if any(["slave", "rslave"]) {
        Some("rslave")
    } else {
        None
    }
}
