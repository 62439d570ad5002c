//! Volumes of the driver `local`: `<data root>/volumes/<name>/_data`, with a copy of the record beside it.

pub(crate) mod filling;
mod foreign;
pub(crate) mod mounting;
mod part;
mod usage;

use std::{
    collections::BTreeSet,
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use gantry_domain::{
    ContainerId, Error, Result,
    ports::{MadeVolume, RootMount, Volumes},
    text::ram_in_bytes,
    volume::{LOCAL, ToldVolume, VolumeRecord},
};

use crate::{blocking::blocking, containers_root::ContainersRoot, plugins::Plugins, quota};

const DATA: &str = "_data";
pub(crate) const RECORD: &str = "record.json";
const USERS: &str = "users";

#[derive(Debug, Clone)]
pub struct LocalVolumes {
    root: PathBuf,
    /// Where parts of volumes are bound.
    parts: PathBuf,
    plugins: Plugins,
    owner: ContainersRoot,
}

impl LocalVolumes {
    pub fn new(data_root: &Path, exec_root: &Path) -> Self {
        let plugins = Plugins::default();
        let owner = ContainersRoot::default();
        Self { root: data_root.join("volumes"), parts: exec_root.join("parts"), plugins, owner }
    }

    /// New volumes belong to the containers' root.
    #[must_use]
    pub fn owned_by(self, owner: ContainersRoot) -> Self {
        Self { owner, ..self }
    }

    /// With the knowledge of plugins that others have too.
    #[must_use]
    pub fn with_plugins(self, plugins: Plugins) -> Self {
        Self { plugins, ..self }
    }

    /// The volume's own folder. Names are checked here once more: they become paths.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.bytes().all(fine) {
            return Err(Error::invalid(format!("{name:?} includes invalid characters for a local volume name")));
        }
        Ok(self.root.join(name))
    }
}

fn create(folder: &Path, volume: &VolumeRecord, owner: ContainersRoot) -> io::Result<MadeVolume> {
    let root = folder.parent().ok_or_else(|| io::Error::other("a volume lies below the data root"))?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    let fresh = match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        made => made.is_ok(),
    };
    match fill(root, folder, volume, fresh, owner) {
        Ok(mountpoint) => Ok(MadeVolume { mountpoint, fresh }),
        Err(error) => {
            if fresh && let Err(undo) = fs::remove_dir_all(folder) {
                tracing::warn!(folder = %folder.display(), error = %undo, "half a volume is left");
            }
            Err(error)
        }
    }
}

/// The data folder and the record's copy in a volume's folder.
fn fill(root: &Path, folder: &Path, volume: &VolumeRecord, fresh: bool, owner: ContainersRoot) -> io::Result<PathBuf> {
    owner.admit(root)?;
    owner.admit(folder)?;
    let data = folder.join(DATA);
    match fs::DirBuilder::new().mode(0o755).create(&data) {
        Ok(()) => {
            fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
            owner.own(&data)?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    if !data.is_dir() {
        return Err(io::Error::other(format!("{} is not a directory", data.display())));
    }
    let own = volume.options.as_ref().filter(|_| volume.driver == LOCAL);
    let size = own.and_then(|options| ram_in_bytes(options.get("size")?).ok());
    if let Some(bytes) = size.and_then(|size| u64::try_from(size).ok()).filter(|bytes| *bytes > 0 && fresh) {
        quota::limit(&[&data], bytes)?;
    }
    let (new, json) = (folder.join("record.json.tmp"), serde_json::to_vec(volume)?);
    let mut file = fs::File::create(&new)?;
    file.write_all(&json)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(RECORD))?;
    sync(folder)?;
    sync(root)?;
    Ok(data)
}

fn remove(folder: &Path) -> io::Result<()> {
    mounting::unmount_all(&folder.join(DATA))?;
    if let Some(mounted) = mounting::mounted_below(folder)? {
        // Removing through a mount would delete what is not the volume's.
        return Err(io::Error::other(format!("{} is mounted", mounted.display())));
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match folder.parent().map(sync) {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What `remove` would stumble over; the volume's own mount is none of it.
fn check_removable(folder: &Path) -> io::Result<()> {
    match mounting::mounted_inside(&folder.join(DATA))? {
        Some(mounted) => Err(io::Error::other(format!("{} is mounted", mounted.display()))),
        None => Ok(()),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

fn found(root: &Path) -> io::Result<Vec<VolumeRecord>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut records = Vec::new();
    for entry in entries {
        let folder = entry?.path();
        let read = fs::read(folder.join(RECORD)).and_then(|json| Ok(serde_json::from_slice::<VolumeRecord>(&json)?));
        match read {
            Ok(mut record) if folder.file_name().is_some_and(|name| name == record.name.as_str()) => {
                // Written before the folder was made, and the data root may have moved since.
                record.mountpoint = folder.join(DATA).to_string_lossy().into_owned();
                records.push(record);
            }
            Ok(record) => {
                tracing::warn!(folder = %folder.display(), name = record.name, "a volume's record is another's")
            }
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "a volume's record cannot be read"),
        }
    }
    records.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(records)
}

fn failed(what: &str, name: &str, error: io::Error) -> Error {
    Error::system(format!("{what} {name}: {error}")).with_source(error)
}

#[async_trait]
impl Volumes for LocalVolumes {
    async fn find_driver(&self, name: &str) -> Result<()> {
        let name = if name.is_empty() { LOCAL } else { name };
        self.plugin(name).await.map(drop)
    }

    async fn create(&self, volume: &VolumeRecord) -> Result<MadeVolume> {
        let plugin = self.plugin(&volume.driver).await;
        let plugin = plugin.map_err(|error| error.context(format!("create {}", volume.name)))?;
        let (folder, wanted, owner) = (self.folder(&volume.name)?, volume.clone(), self.owner);
        let made = blocking(move || {
            create(&folder, &wanted, owner).map_err(|error| match error.kind() {
                io::ErrorKind::Unsupported => Error::invalid("quota size requested but no quota support"),
                _ => failed("create", &wanted.name, error),
            })
        })
        .await?;
        let Some(plugin) = plugin else { return Ok(made) };
        match self.create_there(&plugin, volume).await {
            Ok(new) => Ok(MadeVolume { fresh: made.fresh && new, ..made }),
            Err(error) => {
                let folder = self.folder(&volume.name)?;
                if made.fresh {
                    let gone =
                        move || remove(&folder).map_err(|error| failed("remove", &folder.to_string_lossy(), error));
                    blocking(gone).await?;
                }
                Err(error)
            }
        }
    }

    async fn check_removable(&self, name: &str) -> Result<()> {
        let (folder, same) = (self.folder(name)?, name.to_owned());
        let at = folder.clone();
        blocking(move || check_removable(&at).map_err(|error| failed("remove", &same, error))).await?;
        // A plugin may refuse for reasons of its own: that is known when it was done alone.
        match self.plugin_of(&folder).await? {
            Some(plugin) => self.remove_there(&plugin, name).await,
            None => Ok(()),
        }
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let folder = self.folder(name)?;
        let told = match self.plugin_of(&folder).await {
            // Mostly done by `check_removable`.
            Ok(Some(plugin)) if plugin.volume_get(name).await.is_ok() => self.remove_there(&plugin, name).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            // It was decided that the volume goes: what the plugin keeps of it is the plugin's.
            tracing::warn!(volume = name, %error, "a plugin was not told of a removal");
        }
        let name = name.to_owned();
        blocking(move || remove(&folder).map_err(|error| failed("remove", &name, error))).await
    }

    async fn mount(&self, volume: &VolumeRecord, user: &ContainerId) -> Result<()> {
        let plugin = self.plugin(&volume.driver).await?;
        let options = match &plugin {
            Some(plugin) => Some(mounting::Options::bind(&self.mount_there(plugin, volume, user).await?)),
            None => mounting::Options::of(volume)?,
        };
        let (folder, id, name) = (self.folder(&volume.name)?, user.clone(), volume.name.clone());
        let mounted = blocking(move || {
            let failed = |error| failed("mount", &name, error);
            let _turn = filling::turn(&folder).map_err(failed)?;
            if let Some(options) = options {
                mounting::mount_for(&folder.join(DATA), &folder.join(USERS), &options, id.as_str())?;
            }
            filling::undo_half(&folder).map_err(failed)
        })
        .await;
        if let (Err(_), Some(plugin)) = (&mounted, plugin)
            && let Err(error) = plugin.volume_unmount(&volume.name, user.as_str()).await
        {
            tracing::warn!(volume = volume.name, %error, "a plugin's volume is left mounted");
        }
        mounted
    }

    async fn unmount(&self, volume: &VolumeRecord, user: &ContainerId) -> Result<()> {
        if volume.driver == LOCAL && mounting::Options::of(volume)?.is_none() {
            return Ok(());
        }
        let (folder, id, name) = (self.folder(&volume.name)?, user.clone(), volume.name.clone());
        let used = blocking(move || {
            let users = folder.join(USERS);
            let used = users.join(id.as_str()).exists();
            let unmounted = match filling::turn(&folder) {
                Ok(_turn) => mounting::unmount_for(&folder.join(DATA), &users, id.as_str()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            unmounted.map(|()| used).map_err(|error| failed("unmount", &name, error))
        })
        .await?;
        if volume.driver != LOCAL && used {
            // The container has it no more, whatever the plugin says or whether it is there: nothing else hangs on it.
            let told = match self.plugin(&volume.driver).await {
                Ok(Some(plugin)) => plugin.volume_unmount(&volume.name, user.as_str()).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                tracing::warn!(volume = volume.name, %error, "a plugin was not told of an unmount");
            }
        }
        Ok(())
    }

    fn part_place(&self, user: &ContainerId, number: usize) -> PathBuf {
        self.parts.join(user.as_str()).join(number.to_string())
    }

    async fn mount_part(&self, volume: &VolumeRecord, subpath: &str, user: &ContainerId, number: usize) -> Result<()> {
        let (data, place) = (self.folder(&volume.name)?.join(DATA), self.part_place(user, number));
        let subpath = subpath.to_owned();
        blocking(move || part::mount(&data, &subpath, &place)).await
    }

    async fn mount_image(&self, image: &[RootMount], subpath: &str, user: &ContainerId, number: usize) -> Result<()> {
        let (image, subpath, place) = (image.to_owned(), subpath.to_owned(), self.part_place(user, number));
        blocking(move || part::mount_image(&image, &subpath, &place)).await
    }

    async fn mount_memory(&self, process: u32, user: &ContainerId, number: usize) -> Result<()> {
        let place = self.part_place(user, number);
        blocking(move || part::mount_memory(process, &place)).await
    }

    async fn unmount_parts(&self, user: &ContainerId) -> Result<()> {
        let (folder, user) = (self.parts.join(user.as_str()), user.clone());
        blocking(move || part::unmount(&folder).map_err(|error| failed("unmount the parts of", user.short(), error)))
            .await
    }

    async fn part_users(&self) -> Result<Vec<ContainerId>> {
        let folder = self.parts.clone();
        blocking(move || part::users(&folder).map_err(|error| failed("read", "the parts of volumes", error))).await
    }

    async fn usage(&self, volume: &VolumeRecord) -> Result<u64> {
        if volume.driver != LOCAL {
            // As much of it as is here: the rest is the plugin's.
            return Ok(0);
        }
        let (data, name) = (self.folder(&volume.name)?.join(DATA), volume.name.clone());
        blocking(move || usage::of(&data).map_err(|error| failed("usage of", &name, error))).await
    }

    async fn plugins(&self) -> BTreeSet<String> {
        self.plugins.names().await
    }

    fn drivers(&self) -> Vec<String> {
        self.plugins.found("VolumeDriver")
    }

    async fn list(&self, driver: &str) -> Result<Vec<ToldVolume>> {
        self.list_there(driver).await
    }

    async fn look(&self, driver: &str, name: &str) -> Result<Option<ToldVolume>> {
        self.look_there(driver, name).await
    }

    async fn seek(&self, name: &str) -> Option<ToldVolume> {
        self.seek_there(name, self.plugins.names().await).await
    }

    async fn seek_in_haste(&self, name: &str) -> Option<ToldVolume> {
        let mut plugins = self.plugins.names().await;
        plugins.retain(|plugin| !self.plugins.is_slow(plugin));
        self.seek_there(name, plugins).await
    }

    async fn found(&self) -> Result<Vec<VolumeRecord>> {
        let root = self.root.clone();
        blocking(move || found(&root).map_err(|error| failed("read", "the volumes", error))).await
    }
}

#[cfg(test)]
mod tests;
