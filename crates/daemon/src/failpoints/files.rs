//! The ports that are about files: containers' folders, volumes, root file systems, notes of execs.

use std::collections::BTreeSet;

use gantry_domain::volume::ToldVolume;

use super::*;

#[async_trait]
impl ContainerFiles for Points<dyn ContainerFiles> {
    fn path(&self, id: &ContainerId) -> PathBuf {
        self.0.path(id)
    }
    async fn write(&self, id: &ContainerId, files: Vec<(String, Bytes)>) -> Result<()> {
        through!("files.write", self.0.write(id, files))
    }
    async fn remove(&self, id: &ContainerId) -> Result<()> {
        through!("files.remove", self.0.remove(id))
    }
    async fn list(&self) -> Result<Vec<ContainerId>> {
        through!("files.list", self.0.list())
    }
    async fn resolv_conf(&self) -> Result<ResolvConf> {
        through!("files.resolv_conf", self.0.resolv_conf())
    }
    async fn host_resolv_conf(&self) -> Result<ResolvConf> {
        through!("files.host_resolv_conf", self.0.host_resolv_conf())
    }
    async fn read_log(&self, path: PathBuf, query: LogQuery, end: LogEnd) -> Result<BoxStream<Result<LogBatch>>> {
        through!("files.read_log", self.0.read_log(path, query, end))
    }
    async fn ship_log(&self, shipment: &LogShipment) -> Result<()> {
        through!("files.ship_log", self.0.ship_log(shipment))
    }
    async fn end_log(&self, id: &ContainerId) -> Result<()> {
        through!("files.end_log", self.0.end_log(id))
    }
}

#[async_trait]
impl Volumes for Points<dyn Volumes> {
    async fn find_driver(&self, name: &str) -> Result<()> {
        self.0.find_driver(name).await
    }
    async fn create(&self, volume: &VolumeRecord) -> Result<MadeVolume> {
        through!("volumes.create", self.0.create(volume))
    }
    async fn check_removable(&self, name: &str) -> Result<()> {
        through!("volumes.check_removable", self.0.check_removable(name))
    }
    async fn remove(&self, name: &str) -> Result<()> {
        through!("volumes.remove", self.0.remove(name))
    }
    async fn mount(&self, volume: &VolumeRecord, user: &ContainerId) -> Result<()> {
        through!("volumes.mount", self.0.mount(volume, user))
    }
    async fn unmount(&self, volume: &VolumeRecord, user: &ContainerId) -> Result<()> {
        through!("volumes.unmount", self.0.unmount(volume, user))
    }
    fn part_place(&self, user: &ContainerId, number: usize) -> PathBuf {
        self.0.part_place(user, number)
    }
    async fn mount_part(&self, volume: &VolumeRecord, subpath: &str, user: &ContainerId, number: usize) -> Result<()> {
        through!("volumes.mount_part", self.0.mount_part(volume, subpath, user, number))
    }
    async fn mount_image(&self, image: &[RootMount], subpath: &str, user: &ContainerId, number: usize) -> Result<()> {
        through!("volumes.mount_image", self.0.mount_image(image, subpath, user, number))
    }
    async fn mount_memory(&self, process: u32, user: &ContainerId, number: usize) -> Result<()> {
        through!("volumes.mount_memory", self.0.mount_memory(process, user, number))
    }
    async fn unmount_parts(&self, user: &ContainerId) -> Result<()> {
        through!("volumes.unmount_parts", self.0.unmount_parts(user))
    }
    async fn part_users(&self) -> Result<Vec<ContainerId>> {
        through!("volumes.part_users", self.0.part_users())
    }
    async fn usage(&self, volume: &VolumeRecord) -> Result<u64> {
        through!("volumes.usage", self.0.usage(volume))
    }
    // What is only looked at changes nothing: a kill there is one anywhere.
    async fn plugins(&self) -> BTreeSet<String> {
        self.0.plugins().await
    }
    fn drivers(&self) -> Vec<String> {
        self.0.drivers()
    }
    async fn list(&self, driver: &str) -> Result<Vec<ToldVolume>> {
        self.0.list(driver).await
    }
    async fn look(&self, driver: &str, name: &str) -> Result<Option<ToldVolume>> {
        self.0.look(driver, name).await
    }
    async fn seek(&self, name: &str) -> Option<ToldVolume> {
        self.0.seek(name).await
    }
    async fn seek_in_haste(&self, name: &str) -> Option<ToldVolume> {
        self.0.seek_in_haste(name).await
    }
    async fn found(&self) -> Result<Vec<VolumeRecord>> {
        through!("volumes.found", self.0.found())
    }
}

#[async_trait]
impl RootFs for Points<dyn RootFs> {
    async fn read(&self, root: &RootRef, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
        through!("rootfs.read", self.0.read(root, path, max))
    }
    async fn upper_changes(&self, mounts: &[RootMount], paths: &[&str]) -> Result<bool> {
        through!("rootfs.upper_changes", self.0.upper_changes(mounts, paths))
    }
    async fn is_link(&self, mounts: &[RootMount], name: &str) -> Result<bool> {
        through!("rootfs.is_link", self.0.is_link(mounts, name))
    }
    async fn make_marks(&self, mounts: &[RootMount]) -> Result<()> {
        through!("rootfs.make_marks", self.0.make_marks(mounts))
    }
    async fn limit(&self, mounts: &[RootMount], bytes: u64) -> Result<()> {
        through!("rootfs.limit", self.0.limit(mounts, bytes))
    }
    async fn copy_up(&self, root: &RootRef, path: &str, volume: &std::path::Path) -> Result<()> {
        through!("rootfs.copy_up", self.0.copy_up(root, path, volume))
    }
    async fn make_dir(&self, root: &RootRef, path: &str, uid: u32, gid: u32) -> Result<()> {
        through!("rootfs.make_dir", self.0.make_dir(root, path, uid, gid))
    }
    async fn open(&self, view: RootView, keep: Keep) -> Result<Arc<dyn OpenRoot>> {
        through!("rootfs.open", self.0.open(view, keep))
    }
    async fn make_places(&self, mounts: &[RootMount], binds: &[RootBind]) -> Result<()> {
        through!("rootfs.make_places", self.0.make_places(mounts, binds))
    }
    async fn changes(&self, mounts: &[RootMount]) -> Result<Vec<PathChange>> {
        through!("rootfs.changes", self.0.changes(mounts))
    }
    async fn layer(&self, mounts: &[RootMount]) -> Result<Option<ByteStream>> {
        through!("rootfs.layer", self.0.layer(mounts))
    }
}

#[async_trait]
impl ExecFiles for Points<dyn ExecFiles> {
    async fn put(&self, record: &ExecRecord) -> Result<()> {
        through!("execs.put", self.0.put(record))
    }
    async fn remove(&self, id: &ExecId) -> Result<()> {
        through!("execs.remove", self.0.remove(id))
    }
    async fn list(&self) -> Result<Vec<ExecRecord>> {
        through!("execs.list", self.0.list())
    }
}
