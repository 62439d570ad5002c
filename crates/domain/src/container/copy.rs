//! Files that are copied into and out of a container: what is told of them, and where may be written.

use serde::{Deserialize, Serialize};

use super::{ContainerRecord, validate::mounts::clean};
use crate::{Error, GoTime, Result};

/// What `X-Docker-Container-Path-Stat` tells of a path, itself and not what it points to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// Go's `os.FileMode`.
    pub mode: u32,
    pub mtime: GoTime,
    /// Where a symlink leads in the end, inside the container, as far as it can be told.
    pub link_target: String,
}

/// Go's `os.FileMode` of a `st_mode`: permission bits below, kinds in bits of Go's own above.
pub fn go_mode(st_mode: u32) -> u32 {
    const KINDS: [(u32, u32); 6] = [
        (0o040_000, 1 << 31),
        (0o120_000, 1 << 27),
        (0o010_000, 1 << 25),
        (0o140_000, 1 << 24),
        (0o060_000, 1 << 26),
        (0o020_000, 1 << 26 | 1 << 21),
    ];
    let kind = KINDS.iter().find(|(kind, _)| st_mode & 0o170_000 == *kind).map_or(0, |(_, bits)| *bits);
    let special: u32 = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)]
        .iter()
        .filter(|(bit, _)| st_mode & bit != 0)
        .map(|(_, go)| go)
        .sum();
    kind | special | st_mode & 0o777
}

/// Where in a container a copy may write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyRules {
    pub read_only_root: bool,
    /// Mounts with a file system of their own: destination, and whether it may be written.
    pub places: Vec<(String, bool)>,
}

impl CopyRules {
    /// `running`: a tmpfs is there while the container runs.
    pub fn of(record: &ContainerRecord, running: bool) -> Self {
        let host = &record.host_config;
        let mounts = record.mounts.iter().filter(|point| running || point.kind != "tmpfs");
        let mut places: Vec<(String, bool)> = mounts.map(|point| (clean(&point.destination), point.rw)).collect();
        if running {
            places.extend(host.tmpfs.iter().map(|(path, options)| {
                let read_only = options.split(',').any(|option| option == "ro");
                (clean(path), !read_only)
            }));
        }
        Self { read_only_root: host.readonly_rootfs, places }
    }

    /// `path` is absolute and free of links.
    pub fn check(&self, path: &str) -> Result<()> {
        let inside = |place: &str| {
            path == place || path.strip_prefix(place.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
        };
        // The innermost mount is the one that is written to.
        let place = self.places.iter().filter(|(place, _)| inside(place)).max_by_key(|(place, _)| place.len());
        match place {
            Some((_, true)) => Ok(()),
            Some((_, false)) => Err(Error::invalid("mounted volume is marked read-only")),
            None if self.read_only_root => Err(Error::invalid("container rootfs is marked read-only")),
            None => Ok(()),
        }
    }
}

/// One path that differs from the image, as `docker diff` shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathChange {
    pub path: String,
    pub kind: ChangeKind,
}

/// The numbers are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Modified = 0,
    Added = 1,
    Deleted = 2,
}

/// What the engine mounts into every container, and what it marks one with: they are nobody's change.
pub const ENGINE_PLACES: [&str; 13] = [
    "/.dockerenv",
    "/dev",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
    "/sbin/docker-init",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100_644), 420);
        assert_eq!(go_mode(0o040_755), 2_147_484_141);
        assert_eq!(go_mode(0o120_777), 134_218_239);
        assert_eq!(go_mode(0o020_644), 69_206_436);
        assert_eq!(go_mode(0o060_660), 1 << 26 | 0o660);
        assert_eq!(go_mode(0o010_600), 1 << 25 | 0o600);
        assert_eq!(go_mode(0o140_600), 1 << 24 | 0o600);
        assert_eq!(go_mode(0o104_755), 1 << 23 | 0o755);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(0o102_755), 1 << 22 | 0o755);
    }

    #[test]
    fn the_innermost_mount_decides_whether_a_copy_may_write() {
        let rules = CopyRules {
            read_only_root: true,
            places: vec![("/data".into(), true), ("/data/fixed".into(), false), ("/rw".into(), true)],
        };
        assert!(rules.check("/data").is_ok());
        assert!(rules.check("/data/sub").is_ok());
        assert_eq!(
            rules.check("/data/fixed/x").expect_err("read-only").message(),
            "mounted volume is marked read-only"
        );
        for path in ["/", "/database", "/etc"] {
            assert_eq!(rules.check(path).expect_err("root").message(), "container rootfs is marked read-only");
        }
        assert!(CopyRules::default().check("/").is_ok());
    }
}
