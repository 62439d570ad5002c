//! Facts of this host, read from `/proc` and `/sys` each time they are asked for.

mod apparmor;
mod cdi;
mod cgroup;
mod devices;
mod mounts;
mod ps;
mod system;
#[cfg(test)]
mod tree;
mod usage;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use gantry_domain::{
    Error, Result,
    container::{security::DEFAULT_APPARMOR_PROFILE, usage::ResourceUsage},
    ports::{CdiSpecs, DeviceNode, Facts, HostFacts, MountOf, PathKind},
};

use crate::containers_root::ContainersRoot;

/// The host that this process runs on. The root is `/` but in tests, which read recorded trees.
pub struct Host {
    root: PathBuf,
    data_root: PathBuf,
    owner: ContainersRoot,
}

impl Host {
    pub fn new(data_root: &Path) -> Self {
        Self { root: PathBuf::from("/"), data_root: data_root.to_owned(), owner: ContainersRoot::default() }
    }

    /// Folders that are made for containers belong to their root.
    #[must_use]
    pub fn owned_by(self, owner: ContainersRoot) -> Self {
        Self { owner, ..self }
    }
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|failed| Error::system(failed.to_string()))
}

#[async_trait]
impl HostFacts for Host {
    async fn facts(&self) -> Facts {
        let (root, data_root) = (self.root.clone(), self.data_root.clone());
        blocking(move || system::read(&root, &data_root)).await.unwrap_or_else(|error| Facts {
            warnings: vec![format!("WARNING: the host could not be read: {error}")],
            ..Facts::default()
        })
    }

    async fn load_apparmor_default(&self) -> Result<()> {
        let root = self.root.clone();
        if blocking(move || apparmor::is_loaded(&root, DEFAULT_APPARMOR_PROFILE)).await? {
            return Ok(());
        }
        apparmor::load(&self.root).await
    }

    fn boot_id(&self) -> String {
        system::line(&self.root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default()
    }

    async fn path_kind(&self, path: &str) -> Result<Option<PathKind>> {
        match tokio::fs::metadata(path).await {
            Ok(found) if found.is_dir() => Ok(Some(PathKind::Directory)),
            Ok(found) if found.is_file() => Ok(Some(PathKind::File)),
            Ok(_) => Ok(Some(PathKind::Other)),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn mount_of(&self, path: &str) -> Result<MountOf> {
        let path = path.to_owned();
        blocking(move || mounts::of(Path::new(&path))).await?
    }

    async fn make_bind_source(&self, path: &str) -> Result<()> {
        let (folder, owner) = (PathBuf::from(path), self.owner);
        let made = blocking(move || owner.make_folders(&folder)).await?;
        made.map_err(|error| {
            Error::system(format!("error while creating mount source path '{path}': mkdir {path}: {error}"))
        })
    }

    async fn relabel(&self, path: &str, label: &str) -> Result<()> {
        let (path, label) = (PathBuf::from(path), label.to_owned());
        blocking(move || crate::relabel::relabel(&path, &label)).await?
    }

    async fn devices(&self, path: &str) -> Result<Vec<DeviceNode>> {
        let path = path.to_owned();
        blocking(move || devices::nodes(Path::new(&path))).await?
    }

    async fn cdi_specs(&self, folders: &[String]) -> CdiSpecs {
        let folders = folders.to_vec();
        blocking(move || cdi::read(&folders)).await.unwrap_or_else(|error| {
            let errors = vec![(String::new(), error.to_string())];
            CdiSpecs { errors, ..CdiSpecs::default() }
        })
    }

    async fn program(&self, name: &str) -> Option<String> {
        let path = std::env::var_os("PATH")?;
        let places = std::env::split_paths(&path).map(|folder| folder.join(name));
        let found = places.filter(|place| place.is_absolute()).find(|place| place.is_file())?;
        found.into_os_string().into_string().ok()
    }

    async fn read_file(&self, path: &str, max: u64) -> Result<Vec<u8>> {
        let path = path.to_owned();
        blocking(move || system::read_capped(Path::new(&path), max)).await?
    }

    async fn ps(&self, pids: &[u32], args: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        ps::run(pids, args).await
    }

    async fn usage(&self, pid: u32) -> Result<ResourceUsage> {
        let root = self.root.clone();
        blocking(move || usage::read(&root, pid)).await?
    }

    async fn signal(&self, pid: u32, signal: u32) -> Result<()> {
        let number = i32::try_from(signal).map_err(|_| Error::invalid(format!("invalid signal: {signal}")))?;
        let process = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let (Some(process), Some(signal)) = (process, rustix::process::Signal::from_named_raw(number)) else {
            return Err(Error::invalid(format!("invalid process {pid} or signal {signal}")));
        };
        match rustix::process::kill_process(process, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::system(error.to_string())),
        }
    }
}
