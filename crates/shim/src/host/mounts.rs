//! Mounts of a container's root file system, as containerd describes them (fstab's options). Source: containerd's
//! `core/mount`, mount(2).

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
        mount_remount, unmount,
    },
};

use super::overlay;
use crate::proto::task::Mount;

/// How long a root that is still used may take to become free, as under the Go shim.
const BUSY: Duration = Duration::from_millis(2500);
const PAUSE: Duration = Duration::from_millis(10);

/// Options in mount(2)'s terms.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    bind: bool,
    recursive: bool,
    flags: u32,
    propagation: Option<MountPropagationFlags>,
    data: Vec<String>,
}

/// Mounts all at `root`, which is made; on failure nothing stays mounted.
pub(crate) fn mount_root(mounts: &[Mount], root: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o711).create(root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for one in mounts {
        if let Err(error) = mount_one(one, root) {
            let _ = unmount_all(root);
            let what = format!("failed to mount {:?} of type {:?} at {}", one.source, one.kind, root.display());
            return Err(io::Error::new(error.kind(), format!("{what}: {error}")));
        }
    }
    Ok(())
}

fn mount_one(one: &Mount, root: &Path) -> io::Result<()> {
    let target = root.join(one.target.trim_start_matches('/'));
    let options = parse(&one.options)?;
    let flags = MountFlags::from_bits_retain(options.flags);
    if options.bind || one.kind == "bind" {
        if options.recursive {
            mount_bind_recursive(&one.source, &target)?
        } else {
            mount_bind(&one.source, &target)?
        }
        // A bind takes no other flag at once.
        if !flags.is_empty() {
            mount_remount(&target, MountFlags::BIND | flags, c"")?;
        }
    } else if one.kind == "overlay" && overlay::is_long(&options.data) {
        let short = overlay::shorten(&options.data)?;
        overlay::within(&short.folder, || mount_as(one, &target, flags, &short.data))?;
    } else {
        mount_as(one, &target, flags, &options.data.join(","))?;
    }
    if let Some(propagation) = options.propagation {
        mount_change(&target, propagation)?;
    }
    Ok(())
}

fn mount_as(one: &Mount, target: &Path, flags: MountFlags, data: &str) -> io::Result<()> {
    let data = CString::new(data)?;
    Ok(mount(&one.source, target, &one.kind, flags, data.as_c_str())?)
}

fn parse(options: &[String]) -> io::Result<Options> {
    let mut parsed = Options::default();
    for option in options {
        if let Some((set, flag)) = flag(option) {
            parsed.flags = if set { parsed.flags | flag.bits() } else { parsed.flags & !flag.bits() };
            continue;
        }
        match option.as_str() {
            "" | "defaults" | "rw" => {}
            "bind" => parsed.bind = true,
            "rbind" => (parsed.bind, parsed.recursive) = (true, true),
            "loop" => return Err(io::Error::other("loop devices are not offered by this shim")),
            other if other.starts_with("uidmap=") || other.starts_with("gidmap=") => {
                return Err(io::Error::other("id-mapped root file systems are not offered by this shim"));
            }
            // Words of snapshotters among themselves.
            other if other.starts_with("X-containerd.") || other.starts_with("x-containerd.") => {}
            other => match propagation(other) {
                Some(flags) => parsed.propagation = Some(flags),
                None => parsed.data.push(other.to_owned()),
            },
        }
    }
    Ok(parsed)
}

fn flag(option: &str) -> Option<(bool, MountFlags)> {
    Some(match option {
        "ro" => (true, MountFlags::RDONLY),
        "nosuid" => (true, MountFlags::NOSUID),
        "suid" => (false, MountFlags::NOSUID),
        "nodev" => (true, MountFlags::NODEV),
        "dev" => (false, MountFlags::NODEV),
        "noexec" => (true, MountFlags::NOEXEC),
        "exec" => (false, MountFlags::NOEXEC),
        "sync" => (true, MountFlags::SYNCHRONOUS),
        "async" => (false, MountFlags::SYNCHRONOUS),
        "dirsync" => (true, MountFlags::DIRSYNC),
        "noatime" => (true, MountFlags::NOATIME),
        "atime" => (false, MountFlags::NOATIME),
        "nodiratime" => (true, MountFlags::NODIRATIME),
        "diratime" => (false, MountFlags::NODIRATIME),
        "relatime" => (true, MountFlags::RELATIME),
        "norelatime" => (false, MountFlags::RELATIME),
        "strictatime" => (true, MountFlags::STRICTATIME),
        "nostrictatime" => (false, MountFlags::STRICTATIME),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<MountPropagationFlags> {
    let (kind, recursive) = option.strip_prefix('r').map_or((option, false), |kind| (kind, true));
    let flags = match kind {
        "private" => MountPropagationFlags::PRIVATE,
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(if recursive { flags | MountPropagationFlags::REC } else { flags })
}

/// Unmounts what lies at `root`, several mounts over one another too. Not a mount point, or nothing there, is fine.
/// It may take long: a file system may write back first.
pub(crate) fn unmount_all(root: &Path) -> io::Result<()> {
    let patience = Instant::now() + BUSY;
    loop {
        match unmount(root, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < patience => sleep(PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(text: &str) -> Options {
        parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn flags_are_told_from_what_the_file_system_takes() {
        let options = parsed("rw,nosuid,ro,rslave,index=off,lowerdir=/a:/b,suid");
        assert_eq!(options.flags, MountFlags::RDONLY.bits());
        assert_eq!(options.data, ["index=off", "lowerdir=/a:/b"]);
        assert_eq!(options.propagation, Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC));
        assert!(parsed("rbind,rw").recursive);
    }

    #[test]
    fn what_is_not_offered_is_refused_and_not_passed_over() {
        assert!(parse(&["loop".to_owned()]).is_err());
        assert!(parse(&["uidmap=0:1:2".to_owned()]).is_err());
    }

    #[test]
    fn a_root_of_a_hundred_layers_is_mounted_and_unmounted() {
        let dir = tempfile::Builder::new().prefix(&"long-".repeat(10)).tempdir().unwrap();
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let folder = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            path.to_string_lossy().into_owned()
        };
        let layers: Vec<String> = (0..100).map(|layer| folder(&layer.to_string())).collect();
        fs::write(Path::new(&layers[99]).join("deepest"), "x").unwrap();
        let options = [("lowerdir", layers.join(":")), ("upperdir", folder("upper")), ("workdir", folder("work"))];
        let options = options.map(|(name, value)| format!("{name}={value}")).to_vec();
        assert!(overlay::is_long(&options));
        let mount = Mount { kind: "overlay".into(), source: "overlay".into(), target: String::new(), options };
        let root = dir.path().join("root");
        mount_root(&[mount], &root).unwrap();
        assert!(root.join("deepest").exists());
        unmount_all(&root).unwrap();
        assert!(!root.join("deepest").exists());
    }

    #[test]
    fn nothing_to_unmount_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        unmount_all(dir.path()).unwrap();
        unmount_all(&dir.path().join("absent")).unwrap();
    }
}
