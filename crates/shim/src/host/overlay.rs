//! Overlay options that are longer than a page: mount(2) takes no more, and images have up to 127 layers. Paths are made
//! relative to the folder that all lower ones share, and the mount is made from there.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags};

/// The kernel copies one page, the zero at its end included.
const PAGE: usize = 4096;
const LOWER: &str = "lowerdir=";

/// Options that hold in this folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Short {
    pub(crate) folder: PathBuf,
    pub(crate) data: String,
}

pub(crate) fn is_long(data: &[String]) -> bool {
    data.iter().map(|option| option.len() + 1).sum::<usize>() > PAGE
}

pub(crate) fn shorten(data: &[String]) -> io::Result<Short> {
    let lower = data.iter().find_map(|option| option.strip_prefix(LOWER)).unwrap_or_default();
    let folder = shared_folder(lower).ok_or_else(|| io::Error::other("the lower folders share no parent"))?;
    let prefix = format!("{folder}/");
    let relative = |path: &str| path.strip_prefix(&prefix).unwrap_or(path).to_owned();
    let option = |option: &String| match option.split_once('=') {
        Some(("lowerdir", paths)) => format!("{LOWER}{}", paths.split(':').map(relative).collect::<Vec<_>>().join(":")),
        Some((name @ ("upperdir" | "workdir"), path)) => format!("{name}={}", relative(path)),
        _ => option.clone(),
    };
    let data = data.iter().map(option).collect::<Vec<_>>().join(",");
    if data.len() >= PAGE {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    Ok(Short { folder: PathBuf::from(folder), data })
}

/// The deepest folder that all paths lie in.
fn shared_folder(paths: &str) -> Option<String> {
    let mut paths = paths.split(':');
    let mut folder = Path::new(paths.next()?).parent()?;
    for path in paths {
        while !Path::new(path).starts_with(folder) {
            folder = folder.parent()?;
        }
    }
    Some(folder.to_str()?.trim_end_matches('/').to_owned()).filter(|folder| !folder.is_empty())
}

/// Does something in another folder and comes back: the shim has one thread, so nobody else is moved.
pub(crate) fn within(folder: &Path, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let back = rustix::fs::openat(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::chdir(folder)?;
    let done = work();
    rustix::process::fchdir(back)?;
    done
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn many_layers_fit_when_their_paths_are_relative() {
        let base = "/var/lib/gantry/containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let layers: Vec<String> = (0..127).map(|layer| format!("{base}/{layer}/fs")).collect();
        let data =
            [format!("workdir={base}/9/work"), format!("upperdir={base}/9/fs"), format!("{LOWER}{}", layers.join(":"))];
        assert!(is_long(&data));
        let short = shorten(&data).unwrap();
        assert_eq!(short.folder, Path::new(base));
        assert!(short.data.starts_with("workdir=9/work,upperdir=9/fs,lowerdir=0/fs:1/fs:"), "{}", short.data);
        assert!(short.data.len() < PAGE);
    }

    #[test]
    fn layers_without_a_common_folder_are_refused() {
        let data = [format!("{LOWER}/a/b:/c/d")];
        assert!(shorten(&data).is_err());
    }
}
