//! The mount that a path of the host lies on, and whether it shares what is mounted below it.

use std::{fs, io, path::Path};

use gantry_domain::{Result, ports::MountOf};

use crate::volumes::mounting::unescape;

pub fn of(path: &Path) -> Result<MountOf> {
    // A source that is made for the start lies on the mount of the folder above it.
    let path = path.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_else(|| "/".into());
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
    found(&table, &path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
}

/// The deepest place above the path; of several there, the one that is seen.
fn found(table: &str, path: &Path) -> Option<MountOf> {
    let mounts = table.lines().filter_map(mount).filter(|mount| path.starts_with(&mount.place));
    mounts.max_by_key(|mount| Path::new(&mount.place).components().count())
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`
fn mount(line: &str) -> Option<MountOf> {
    let (about, _) = line.split_once(" - ")?;
    let mut fields = about.split(' ').skip(4);
    let place = unescape(fields.next()?.as_bytes());
    let mut mount = MountOf { place: place.to_string_lossy().into_owned(), ..MountOf::default() };
    for field in fields.skip(1) {
        mount.shared |= field.starts_with("shared:");
        mount.slave |= field.starts_with("master:");
    }
    Some(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /srv rw - tmpfs tmpfs rw
31 30 0:26 / /srv/with\\040blank rw master:7 - tmpfs tmpfs rw
32 30 0:27 / /srv/both rw shared:3 master:7 - tmpfs tmpfs rw
33 22 0:28 / /srv rw master:9 - tmpfs tmpfs rw
";

    #[test]
    fn the_deepest_and_last_mount_above_a_path_is_its_own() {
        let of = |path: &str| found(TABLE, Path::new(path)).map(|mount| (mount.place, mount.shared, mount.slave));
        assert_eq!(of("/home/x"), Some(("/".into(), true, false)));
        assert_eq!(of("/srvs"), Some(("/".into(), true, false)));
        assert_eq!(of("/srv/x"), Some(("/srv".into(), false, true)));
        assert_eq!(of("/srv/with blank/x"), Some(("/srv/with blank".into(), false, true)));
        assert_eq!(of("/srv/both"), Some(("/srv/both".into(), true, true)));
    }
}
