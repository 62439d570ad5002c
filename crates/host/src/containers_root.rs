//! Root of the containers: the host's own, or with user namespaces somebody else, who must come by what is theirs.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, lchown},
    path::Path,
};

/// The host's user and group that are root in containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainersRoot {
    pub uid: u32,
    pub gid: u32,
}

impl From<(u32, u32)> for ContainersRoot {
    fn from((uid, gid): (u32, u32)) -> Self {
        Self { uid, gid }
    }
}

impl ContainersRoot {
    fn is_hosts(self) -> bool {
        self == Self::default()
    }

    /// Gives a file or folder to it.
    pub fn own(self, path: &Path) -> io::Result<()> {
        if self.is_hosts() { Ok(()) } else { lchown(path, Some(self.uid), Some(self.gid)) }
    }

    /// Lets it pass through a folder of ours, and see nothing there that it cannot name.
    pub fn admit(self, folder: &Path) -> io::Result<()> {
        if self.is_hosts() {
            return Ok(());
        }
        chown(folder, None, Some(self.gid))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o710))
    }

    /// Makes a folder with those that lead to it; what is there already stays whose it is.
    pub fn make_folders(self, path: &Path) -> io::Result<()> {
        if self.is_hosts() {
            return fs::create_dir_all(path);
        }
        let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            match fs::DirBuilder::new().mode(0o755).create(folder) {
                Ok(()) => self.own(folder)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn only_folders_that_were_missing_change_hands() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let (old, new) = (place.path().join("old"), place.path().join("old/new/er"));
        fs::create_dir(&old).unwrap();
        let root = ContainersRoot { uid: 100_000, gid: 200_000 };
        root.make_folders(&new).unwrap();
        root.make_folders(&new).unwrap();
        let owner = |path: &Path| fs::metadata(path).map(|stat| (stat.uid(), stat.gid())).unwrap();
        assert_eq!(
            (owner(&old), owner(&place.path().join("old/new")), owner(&new)),
            ((0, 0), (100_000, 200_000), (100_000, 200_000))
        );
        root.admit(&old).unwrap();
        assert_eq!((owner(&old), fs::metadata(&old).unwrap().mode() & 0o777), ((0, 200_000), 0o710));
    }
}
