//! `SecurityOpt`, read: no-new-privileges, seccomp, AppArmor and SELinux; and the names of capabilities.

use crate::{Error, Result};

/// The profile of every container that asks for none and is not privileged.
pub const DEFAULT_APPARMOR_PROFILE: &str = "docker-default";

/// What a list of `--security-opt` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// `None` leaves it to the engine's default.
    pub no_new_privileges: Option<bool>,
    /// `unconfined`, `builtin`, or a profile's JSON as the CLI sends it.
    pub seccomp: Option<String>,
    /// `unconfined` or the name of a loaded profile.
    pub apparmor: Option<String>,
    /// `disable`, `type:x`, …
    pub labels: Vec<String>,
    pub writable_cgroups: Option<bool>,
}

impl SecurityOptions {
    /// `InvalidParameter` `invalid --security-opt 1: "x"` without a value, `… 2: "x"` for an unknown key or bad value.
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            match option.as_str() {
                "no-new-privileges" => parsed.no_new_privileges = Some(true),
                "disable" => parsed.labels.push("disable".into()),
                _ => parsed.take(option)?,
            }
        }
        Ok(parsed)
    }

    /// The AppArmor profile that is in force: the one that was asked for, none for a privileged container, else the
    /// default.
    pub fn apparmor_profile(&self, privileged: bool) -> &str {
        let default = if privileged { "unconfined" } else { DEFAULT_APPARMOR_PROFILE };
        self.apparmor.as_deref().unwrap_or(default)
    }

    fn take(&mut self, option: &str) -> Result<()> {
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        let (key, value) = pair.ok_or_else(|| Error::invalid(format!("invalid --security-opt 1: {option:?}")))?;
        let bad = || Error::invalid(format!("invalid --security-opt 2: {option:?}"));
        match key {
            "label" => self.labels.push(value.into()),
            "apparmor" => self.apparmor = Some(value.into()),
            "seccomp" => self.seccomp = Some(value.into()),
            "no-new-privileges" => self.no_new_privileges = Some(parse_bool(value).ok_or_else(bad)?),
            "writable-cgroups" => self.writable_cgroups = Some(parse_bool(value).ok_or_else(bad)?),
            _ => return Err(bad()),
        }
        Ok(())
    }
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// What a container has unless told otherwise, in dockerd's order (T23).
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Every capability that Linux has, by number.
pub const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// `net_admin`, `CAP_NET_ADMIN`, `ALL` → `CAP_NET_ADMIN`, `ALL`; `unknown capability: "CAP_X"`.
pub fn normalize_capability(name: &str) -> Result<String> {
    let upper = name.trim().to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(upper);
    }
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if ALL_CAPABILITIES.contains(&full.as_str()) {
        Ok(full)
    } else {
        Err(Error::invalid(format!("unknown capability: {full:?}")))
    }
}

/// The capabilities of a container, in a stable order: dockerd's rules on `CapAdd`, `CapDrop`, `ALL` and privileged.
pub fn capabilities(add: &[String], drop: &[String], privileged: bool) -> Result<Vec<&'static str>> {
    if privileged {
        return Ok(ALL_CAPABILITIES.to_vec());
    }
    let normal = |list: &[String]| list.iter().map(|name| normalize_capability(name)).collect::<Result<Vec<_>>>();
    let add = normal(add).map_err(|error| error.context("invalid CapAdd"))?;
    let drop = normal(drop).map_err(|error| error.context("invalid CapDrop"))?;
    let (add_all, drop_all) = (add.iter().any(|cap| cap == "ALL"), drop.iter().any(|cap| cap == "ALL"));
    let dropped = |cap: &str| drop.iter().any(|name| name == cap);
    let added = |cap: &str| add.iter().any(|name| name == cap);
    if add_all {
        return Ok(ALL_CAPABILITIES.into_iter().filter(|cap| !dropped(cap)).collect());
    }
    let kept = DEFAULT_CAPABILITIES.into_iter().filter(|cap| !drop_all && !dropped(cap) && !added(cap));
    Ok(kept.chain(ALL_CAPABILITIES.into_iter().filter(|cap| added(cap))).collect())
}

/// Whether a process whose bounding set is `bounding` can give this capability away; 0 is unknown and taken for all.
pub fn can_give(capability: &str, bounding: u64) -> bool {
    let number = ALL_CAPABILITIES.iter().position(|known| *known == capability);
    bounding == 0 || number.is_some_and(|number| bounding >> number & 1 == 1)
}

/// Paths hidden from a container that is not privileged (T25), as in moby master.
pub fn masked_paths(cpus: u32) -> Vec<String> {
    const PATHS: [&str; 12] = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    let thermal = (0..cpus).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    PATHS.into_iter().map(str::to_owned).chain(thermal).collect()
}

/// Paths that a container that is not privileged may only read.
pub fn readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn options_in_both_spellings() {
        let options =
            ["no-new-privileges", "seccomp=unconfined", "apparmor:x", "label=disable", "writable-cgroups=true"];
        let parsed = SecurityOptions::parse(&list(&options)).unwrap();
        assert_eq!(parsed.no_new_privileges, Some(true));
        assert_eq!(parsed.seccomp.as_deref(), Some("unconfined"));
        assert_eq!(parsed.apparmor.as_deref(), Some("x"));
        assert_eq!((parsed.labels, parsed.writable_cgroups), (list(&["disable"]), Some(true)));
        for (bad, text) in [
            ("nonsense", "invalid --security-opt 1: \"nonsense\""),
            ("a=b", "invalid --security-opt 2: \"a=b\""),
            ("no-new-privileges=perhaps", "invalid --security-opt 2: \"no-new-privileges=perhaps\""),
        ] {
            assert_eq!(SecurityOptions::parse(&list(&[bad])).unwrap_err().message(), text);
        }
    }

    #[test]
    fn capabilities_are_listed_by_number() {
        assert!(can_give("CAP_SYS_RESOURCE", 1 << 24) && !can_give("CAP_SYS_RESOURCE", !(1 << 24)));
        assert!(can_give("CAP_CHECKPOINT_RESTORE", 1 << 40) && can_give("CAP_CHOWN", 0));
    }

    #[test]
    fn added_dropped_and_all() {
        let caps = |add: &[&str], drop: &[&str]| capabilities(&list(add), &list(drop), false).unwrap();
        assert_eq!(caps(&[], &[]), DEFAULT_CAPABILITIES);
        assert_eq!(caps(&["sys_time"], &["ALL"]), ["CAP_SYS_TIME"]);
        assert_eq!(caps(&["chown"], &["ALL"]), ["CAP_CHOWN"]);
        assert_eq!(caps(&["ALL"], &["CAP_SYS_ADMIN"]).len(), 40);
        assert_eq!(caps(&[], &["NET_RAW"]).len(), 13);
        let error = capabilities(&list(&["flying"]), &[], false).unwrap_err();
        assert_eq!(error.message(), "invalid CapAdd: unknown capability: \"CAP_FLYING\"");
    }
}
