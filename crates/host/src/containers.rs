//! The folder of each container under the data root.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bytes::Bytes;
use gantry_domain::{
    ContainerId, Error, Result,
    container::log_shipment::LogShipment,
    log::{LogBatch, LogQuery},
    ports::{BoxStream, ContainerFiles, LogEnd, ResolvConf},
};

use crate::{blocking::blocking, containers_root::ContainersRoot, log_reading, shipping::Shipping};

/// Where systemd-resolved keeps the servers behind its stub.
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// `<data root>/containers/<id>/…`. Others cannot pass through the folders: what a container needs of them is
/// bind-mounted as a file (T40a).
#[derive(Debug, Clone)]
pub struct ContainerFolders {
    root: PathBuf,
    resolv_conf: PathBuf,
    upstream: PathBuf,
    shipping: Shipping,
    owner: ContainersRoot,
}

impl ContainerFolders {
    /// `logship` is the program that delivers logs.
    pub fn new(data_root: &Path, logship: PathBuf) -> Self {
        Self {
            root: data_root.join("containers"),
            resolv_conf: "/etc/resolv.conf".into(),
            upstream: UPSTREAM.into(),
            shipping: Shipping::new(data_root.join("logship"), logship),
            owner: ContainersRoot::default(),
        }
    }

    /// The files that containers see belong to their root.
    #[must_use]
    pub fn owned_by(self, owner: ContainersRoot) -> Self {
        Self { owner, ..self }
    }

    fn write_files(root: &Path, folder: &Path, files: &[(String, Bytes)], owner: ContainersRoot) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o710).create(root)?;
        builder.mode(0o700).create(folder)?;
        owner.admit(root)?;
        owner.admit(folder)?;
        for (name, content) in files {
            if name.contains('/') || name == "." || name == ".." {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file name without folders is expected"));
            }
            write_in_place(&folder.join(name), content)?;
            owner.own(&folder.join(name))?;
        }
        Ok(())
    }
}

/// The inode must stay: a running container has it bind-mounted, and would not see a file renamed over it.
/// Shortened last, so that a reader in between never finds it empty.
fn write_in_place(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    // Readable inside whatever umask the daemon runs with.
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[async_trait]
impl ContainerFiles for ContainerFolders {
    fn path(&self, id: &ContainerId) -> PathBuf {
        self.root.join(id.as_str())
    }

    async fn write(&self, id: &ContainerId, files: Vec<(String, Bytes)>) -> Result<()> {
        let (root, folder, owner) = (self.root.clone(), self.path(id), self.owner);
        blocking(move || {
            Self::write_files(&root, &folder, &files, owner)
                .map_err(|error| said("cannot write files to", &folder, error))
        })
        .await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        let (folder, shipping, id) = (self.path(id), self.shipping.clone(), id.clone());
        blocking(move || {
            shipping.remove(&id)?;
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(said("cannot remove", &folder, error)),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn list(&self) -> Result<Vec<ContainerId>> {
        let (root, shipping) = (self.root.clone(), self.shipping.clone());
        blocking(move || {
            let entries = match fs::read_dir(&root) {
                Ok(entries) => Some(entries),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(said("cannot list", &root, error)),
            };
            let entries = entries.into_iter().flatten();
            let mut ids: Vec<_> =
                entries.filter_map(|entry| ContainerId::parse(entry.ok()?.file_name().to_str()?).ok()).collect();
            ids.extend(shipping.list());
            ids.sort();
            ids.dedup();
            Ok(ids)
        })
        .await
    }

    async fn resolv_conf(&self) -> Result<ResolvConf> {
        let (own, upstream) = (self.resolv_conf.clone(), self.upstream.clone());
        blocking(move || {
            let content = read_or_empty(&own)?;
            if only_loopback(&content)
                && let Ok(behind) = fs::read_to_string(&upstream)
            {
                return Ok(ResolvConf { path: upstream.display().to_string(), content: behind });
            }
            Ok(ResolvConf { path: own.display().to_string(), content })
        })
        .await
    }

    async fn host_resolv_conf(&self) -> Result<ResolvConf> {
        let own = self.resolv_conf.clone();
        blocking(move || Ok(ResolvConf { path: own.display().to_string(), content: read_or_empty(&own)? })).await
    }

    async fn read_log(&self, path: PathBuf, query: LogQuery, end: LogEnd) -> Result<BoxStream<Result<LogBatch>>> {
        log_reading::read(path, query, end).await
    }

    async fn ship_log(&self, shipment: &LogShipment) -> Result<()> {
        let (shipping, shipment) = (self.shipping.clone(), shipment.clone());
        blocking(move || shipping.put(&shipment)).await
    }

    async fn end_log(&self, id: &ContainerId) -> Result<()> {
        let (shipping, id) = (self.shipping.clone(), id.clone());
        blocking(move || shipping.end(&id)).await
    }
}

/// A host without the file has no resolvers; that is no error.
fn read_or_empty(path: &Path) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(said("cannot read", path, error)),
    }
}

/// Whether there are name servers, and all of them are on the loopback interface.
fn only_loopback(content: &str) -> bool {
    let mut servers = content.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()).flatten()?.parse::<std::net::IpAddr>().ok()
    });
    servers.next().is_some_and(|first| first.is_loopback()) && servers.all(|server| server.is_loopback())
}

fn said(what: &str, path: &Path, error: io::Error) -> Error {
    Error::system(format!("{what} {}: {error}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[tokio::test]
    async fn writing_again_keeps_the_inode_that_a_container_has_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let (files, id) = (ContainerFolders::new(dir.path(), "gantry-logship".into()), ContainerId::random());
        files.write(&id, vec![("hosts".into(), "a longer first text".into())]).await.unwrap();
        let path = files.path(&id).join("hosts");
        let before = fs::metadata(&path).unwrap();
        files.write(&id, vec![("hosts".into(), "short".into())]).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
        assert_eq!(fs::read_to_string(&path).unwrap(), "short");
        assert_eq!(before.mode() & 0o777, 0o644);
        assert_eq!(fs::metadata(files.path(&id)).unwrap().mode() & 0o777, 0o700);
        assert_eq!(files.list().await.unwrap(), vec![id.clone()]);
        files.remove(&id).await.unwrap();
        files.remove(&id).await.unwrap();
        assert!(files.list().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_file_behind_a_local_stub_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (own, upstream) = (dir.path().join("resolv.conf"), dir.path().join("upstream"));
        let files = ContainerFolders {
            resolv_conf: own.clone(),
            upstream: upstream.clone(),
            ..ContainerFolders::new(dir.path(), "gantry-logship".into())
        };
        assert_eq!(files.resolv_conf().await.unwrap().content, "");
        fs::write(&own, "nameserver 127.0.0.53\noptions edns0\n").unwrap();
        assert_eq!(files.resolv_conf().await.unwrap().path, own.display().to_string());
        fs::write(&upstream, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(files.resolv_conf().await.unwrap().content, "nameserver 192.0.2.1\n");
        fs::write(&own, "nameserver 127.0.0.53\nnameserver 192.0.2.2\n").unwrap();
        assert_eq!(files.resolv_conf().await.unwrap().path, own.display().to_string());
    }
}
