//! Kernel, distribution, memory and file system.

use std::{io::Read as _, path::Path};

use gantry_domain::{Error, Result, container::security::DEFAULT_APPARMOR_PROFILE, ports::Facts};

use super::{apparmor, cgroup};

/// Everything `/info` asks of the host. What cannot be read stays empty.
pub(super) fn read(root: &Path, data_root: &Path) -> Facts {
    let release = std::fs::read_to_string(root.join("etc/os-release"))
        .or_else(|_| std::fs::read_to_string(root.join("usr/lib/os-release")))
        .unwrap_or_default();
    let name = rustix::system::uname();
    let sysctl = |path: &str| line(&root.join("proc/sys").join(path)).unwrap_or_default();
    let (cgroup_version, cgroup) = cgroup::read(root);
    let mut facts = Facts {
        kernel_version: sysctl("kernel/osrelease"),
        operating_system: value(&release, "PRETTY_NAME").unwrap_or_else(|| "Linux".into()),
        os_version: value(&release, "VERSION_ID").unwrap_or_default(),
        architecture: name.machine().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        memory: memory(root),
        memory_nodes: line(&root.join("sys/devices/system/node/online")).unwrap_or_default(),
        capabilities: capabilities(root),
        hostname: sysctl("kernel/hostname"),
        cgroup_version,
        cgroup,
        systemd: root.join("run/systemd/system").is_dir(),
        apparmor: apparmor::enabled(root),
        apparmor_default: apparmor::is_loaded(root, DEFAULT_APPARMOR_PROFILE),
        ipv4_forwarding: sysctl("net/ipv4/ip_forward") == "1",
        bridge_nf_iptables: sysctl("net/bridge/bridge-nf-call-iptables") == "1",
        bridge_nf_ip6tables: sysctl("net/bridge/bridge-nf-call-ip6tables") == "1",
        open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| u32::try_from(entries.count()).unwrap_or(0)),
        backing_filesystem: backing_filesystem(data_root),
        ..Facts::default()
    };
    facts.warnings = warnings(&facts);
    facts
}

/// dockerd's words for what the kernel does not do.
fn warnings(facts: &Facts) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |missing: bool, text: &str| {
        if missing {
            warnings.push(format!("WARNING: {text}"));
        }
    };
    warn(!facts.cgroup.memory_limit, "No memory limit support");
    warn(!facts.cgroup.swap_limit, "No swap limit support");
    warn(!facts.cgroup.cpu_cfs_quota, "No cpu cfs quota support");
    warn(!facts.cgroup.cpu_cfs_period, "No cpu cfs period support");
    warn(!facts.cgroup.cpu_shares, "No cpu shares support");
    warn(!facts.cgroup.cpuset, "No cpuset support");
    warn(!facts.cgroup.pids_limit, "No pids limit support");
    let unconfined = facts.apparmor && !facts.apparmor_default;
    warn(unconfined, "AppArmor is on but its profile docker-default is not loaded: containers run without it");
    warn(!facts.ipv4_forwarding, "IPv4 forwarding is disabled");
    warnings
}

fn memory(root: &Path) -> u64 {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0u64) * 1024
}

/// The bounding set of this process: what runc cannot give to anyone.
fn capabilities(root: &Path) -> u64 {
    let status = std::fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let set = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapBnd:")?.trim(), 16).ok());
    set.unwrap_or(0)
}

/// A value of os-release without its quotes.
fn value(release: &str, key: &str) -> Option<String> {
    let found = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(found.trim_matches(['"', '\'']).to_owned())
}

/// The first line of a file, trimmed.
pub(super) fn line(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A regular file of the daemon's host, at most `max` bytes.
pub(super) fn read_capped(path: &Path, max: u64) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Error::not_found } else { Error::system };
        kind(format!("open {}: {error}", path.display()))
    })?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(Error::invalid(format!("{} is larger than {max} bytes", path.display())));
    }
    Ok(bytes)
}

/// Magic numbers of statfs(2), by the names that `/info` has always used.
fn backing_filesystem(path: &Path) -> String {
    let Ok(found) = rustix::fs::statfs(path) else { return "unknown".into() };
    #[allow(clippy::useless_conversion, reason = "the kernel's type differs between architectures")]
    let magic = i64::from(found.f_type);
    match magic {
        0xEF53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794C_7630 => "overlayfs",
        0x2FC1_2FC1 => "zfs",
        0x6969 => "nfs",
        0xF2F5_2010 => "f2fs",
        _ => "unknown",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values_lose_their_quotes() {
        assert_eq!(value("NAME=x\nPRETTY_NAME=\"Debian 12\"\n", "PRETTY_NAME").as_deref(), Some("Debian 12"));
    }

    #[test]
    fn this_host_can_be_read() {
        let facts = read(Path::new("/"), Path::new("/"));
        assert!(!facts.kernel_version.is_empty() && facts.memory > 0 && facts.cpus > 0);
    }

    #[test]
    fn a_file_over_the_cap_is_refused() {
        let error = read_capped(Path::new("/dev/zero"), 10).expect_err("endless");
        assert!(error.message().contains("larger than 10 bytes"));
    }
}
