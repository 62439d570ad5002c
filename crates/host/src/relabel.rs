//! SELinux labels put on files of the host, on descriptors: no link is followed, and what is moved meanwhile is left out.

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use gantry_domain::{Error, Result, selinux::check_relabelling};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, XattrFlags, lsetxattr, openat, statat},
    io::Errno,
};

const LABEL: &CStr = c"security.selinux";
/// Each level holds a descriptor.
const DEEPEST: usize = 256;

/// Labels `path`, a folder after all that is in it. `InvalidParameter` for what the host lives by, named or reached by a
/// link.
pub fn relabel(path: &Path, label: &str) -> Result<()> {
    let home = std::env::var("HOME").unwrap_or_default();
    let failed = |error: io::Error| {
        let text = format!("failed to set file label on {}: {error}", path.display());
        Error::system(text).with_source(error)
    };
    let true_path = fs::canonicalize(path).map_err(failed)?;
    for named in [path, &true_path] {
        check_relabelling(&named.to_string_lossy(), &home)?;
    }
    let folder = true_path.parent().unwrap_or(Path::new("/"));
    let name = true_path.file_name().ok_or_else(|| failed(Errno::INVAL.into()))?;
    let name = std::ffi::CString::new(name.as_encoded_bytes()).map_err(|error| failed(error.into()))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(rustix::fs::CWD, folder, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    match one(&folder, &name, label, 0) {
        // A file system without labels needs none.
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(()),
        other => other.map_err(failed),
    }
}

fn one(folder: &OwnedFd, name: &CStr, label: &str, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("folders are nested too deeply"));
    }
    let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = openat(folder, name, flags, Mode::empty())?;
        for entry in Dir::read_from(&inner)? {
            let entry = entry?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                one(&inner, entry.file_name(), label, depth + 1)?;
            }
        }
    }
    // Where descriptors take no name: this path names ours and cannot be redirected.
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let path = path.join(std::ffi::OsStr::new(name.to_str().map_err(io::Error::other)?));
    match lsetxattr(&path, LABEL, label.as_bytes(), XattrFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn label_of(path: &Path) -> Option<String> {
        let mut value = [0u8; 256];
        let length = rustix::fs::lgetxattr(path, LABEL, &mut value[..]).ok()?;
        Some(String::from_utf8_lossy(&value[..length]).trim_end_matches('\0').to_owned())
    }

    #[test]
    fn a_tree_is_labelled_and_links_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let (tree, outside) = (place.path().join("tree"), place.path().join("outside"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/f"), "").unwrap();
        fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        relabel(&tree, label).unwrap();
        if label_of(&tree).is_none() {
            eprintln!("skipped: this file system keeps no labels");
            return;
        }
        for path in ["", "a", "a/b", "a/b/f"] {
            assert_eq!(label_of(&tree.join(path)).as_deref(), Some(label), "{path}");
        }
        assert_eq!(label_of(&outside), None);
    }

    #[test]
    fn what_the_host_lives_by_is_refused_also_behind_a_link() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        for path in [Path::new("/etc"), Path::new("/usr/"), &link, Path::new("/")] {
            let error = relabel(path, "x").unwrap_err();
            assert!(error.message().contains("is not allowed"), "{error}");
        }
    }
}
