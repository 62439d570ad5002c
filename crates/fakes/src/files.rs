//! Container folders, notes of execs, volumes and root file systems in memory.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use gantry_domain::{
    ContainerId, Error, ExecId, Result,
    container::{
        copy::{PathChange, PathStat},
        log_shipment::LogShipment,
        record::ExecRecord,
    },
    log::{LogBatch, LogQuery},
    ports::{
        BoxStream, ByteStream, ContainerFiles, ExecFiles, ExtractOptions, Keep, LogEnd, MadeVolume, OpenRoot,
        ResolvConf, RootBind, RootFs, RootMount, RootRef, RootView, Volumes,
    },
    volume::{ToldVolume, VolumeRecord},
};

use crate::Fakes;

#[async_trait]
impl ContainerFiles for Fakes {
    fn path(&self, id: &ContainerId) -> PathBuf {
        PathBuf::from("/var/lib/fake/containers").join(id.as_str())
    }

    async fn write(&self, id: &ContainerId, files: Vec<(String, Bytes)>) -> Result<()> {
        self.calls.pass("files.write")?;
        self.world().folders.entry(id.clone()).or_default().extend(files);
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("files.remove").await?;
        let mut world = self.world();
        world.folders.remove(id);
        world.shipments.remove(id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ContainerId>> {
        self.calls.pass("files.list")?;
        let world = self.world();
        Ok(world.folders.keys().chain(world.shipments.keys()).cloned().collect())
    }

    async fn resolv_conf(&self) -> Result<ResolvConf> {
        self.calls.pass("files.resolv_conf")?;
        Ok(ResolvConf { path: "/etc/resolv.conf".into(), content: "nameserver 192.0.2.1\n".into() })
    }

    async fn host_resolv_conf(&self) -> Result<ResolvConf> {
        self.calls.pass("files.host_resolv_conf")?;
        Ok(ResolvConf { path: "/etc/resolv.conf".into(), content: "nameserver 192.0.2.1\n".into() })
    }

    async fn read_log(&self, _: PathBuf, _: LogQuery, end: LogEnd) -> Result<BoxStream<Result<LogBatch>>> {
        self.calls.pass("files.read_log")?;
        // No log is kept: a reading ends when it would have read everything.
        let until = async move {
            if let LogEnd::Until(over) = end {
                over.await;
            }
        };
        Ok(futures::stream::once(until).filter_map(|()| std::future::ready(None)).boxed())
    }

    async fn ship_log(&self, shipment: &LogShipment) -> Result<()> {
        self.calls.pass_in_time("files.ship_log").await?;
        self.world().shipments.insert(shipment.id.clone(), shipment.clone());
        Ok(())
    }

    async fn end_log(&self, id: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("files.end_log").await?;
        self.world().shipments.remove(id);
        Ok(())
    }
}

#[async_trait]
impl ExecFiles for Fakes {
    async fn put(&self, record: &ExecRecord) -> Result<()> {
        self.calls.pass("execs.put")?;
        self.world().exec_notes.insert(record.id.clone(), record.clone());
        Ok(())
    }

    async fn remove(&self, id: &ExecId) -> Result<()> {
        self.calls.pass("execs.remove")?;
        self.world().exec_notes.remove(id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ExecRecord>> {
        self.calls.pass("execs.list")?;
        Ok(self.world().exec_notes.values().cloned().collect())
    }
}

#[async_trait]
impl Volumes for Fakes {
    async fn find_driver(&self, _: &str) -> Result<()> {
        Ok(())
    }
    async fn create(&self, volume: &VolumeRecord) -> Result<MadeVolume> {
        self.calls.pass("volumes.create")?;
        let made = volume.clone();
        let before = self.on_a_thread(move |world| world.volumes.insert(made.name.clone(), made)).await;
        let mountpoint = PathBuf::from("/var/lib/fake/volumes").join(&volume.name).join("_data");
        Ok(MadeVolume { mountpoint, fresh: before.is_none() })
    }

    async fn check_removable(&self, _: &str) -> Result<()> {
        self.calls.pass("volumes.check_removable")
    }

    async fn remove(&self, name: &str) -> Result<()> {
        self.calls.pass("volumes.remove")?;
        let name = name.to_owned();
        self.on_a_thread(move |world| world.volumes.remove(&name)).await;
        Ok(())
    }

    async fn plugins(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn drivers(&self) -> Vec<String> {
        Vec::new()
    }

    async fn list(&self, driver: &str) -> Result<Vec<ToldVolume>> {
        Err(Error::not_found(format!("plugin \"{driver}\" not found")))
    }

    async fn look(&self, _: &str, _: &str) -> Result<Option<ToldVolume>> {
        Ok(None)
    }

    async fn seek(&self, _: &str) -> Option<ToldVolume> {
        None
    }

    async fn seek_in_haste(&self, _: &str) -> Option<ToldVolume> {
        None
    }

    async fn mount(&self, volume: &VolumeRecord, user: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("volumes.mount").await?;
        let mount = (volume.name.clone(), user.clone());
        self.on_a_thread(move |world| world.volume_mounts.insert(mount)).await;
        Ok(())
    }

    async fn unmount(&self, volume: &VolumeRecord, user: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("volumes.unmount").await?;
        self.world().volume_mounts.remove(&(volume.name.clone(), user.clone()));
        Ok(())
    }

    fn part_place(&self, user: &ContainerId, number: usize) -> PathBuf {
        PathBuf::from("/run/fake/parts").join(user.as_str()).join(number.to_string())
    }

    async fn mount_part(&self, _: &VolumeRecord, _: &str, user: &ContainerId, number: usize) -> Result<()> {
        self.calls.pass_in_time("volumes.mount_part").await?;
        let part = (user.clone(), number);
        self.on_a_thread(move |world| world.volume_parts.insert(part)).await;
        Ok(())
    }

    async fn mount_image(&self, _: &[RootMount], _: &str, user: &ContainerId, number: usize) -> Result<()> {
        self.calls.pass_in_time("volumes.mount_image").await?;
        let part = (user.clone(), number);
        self.on_a_thread(move |world| world.volume_parts.insert(part)).await;
        Ok(())
    }

    async fn mount_memory(&self, _: u32, user: &ContainerId, number: usize) -> Result<()> {
        self.calls.pass_in_time("volumes.mount_memory").await?;
        let part = (user.clone(), number);
        self.on_a_thread(move |world| world.volume_parts.insert(part)).await;
        Ok(())
    }

    async fn unmount_parts(&self, user: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("volumes.unmount_parts").await?;
        self.world().volume_parts.retain(|(owner, _)| owner != user);
        Ok(())
    }

    async fn part_users(&self) -> Result<Vec<ContainerId>> {
        self.calls.pass("volumes.part_users")?;
        Ok(self.world().volume_parts.iter().map(|(owner, _)| owner.clone()).collect())
    }

    async fn usage(&self, _: &VolumeRecord) -> Result<u64> {
        self.calls.pass("volumes.usage")?;
        Ok(0)
    }

    async fn found(&self) -> Result<Vec<VolumeRecord>> {
        self.calls.pass("volumes.found")?;
        Ok(self.world().volumes.values().cloned().collect())
    }
}

#[async_trait]
impl RootFs for Fakes {
    async fn read(&self, _: &RootRef, _: &str, _: u64) -> Result<Option<Vec<u8>>> {
        self.calls.pass("rootfs.read")?;
        Ok(None)
    }

    async fn upper_changes(&self, _: &[RootMount], _: &[&str]) -> Result<bool> {
        self.calls.pass("rootfs.upper_changes")?;
        Ok(false)
    }

    async fn is_link(&self, _: &[RootMount], _: &str) -> Result<bool> {
        self.calls.pass("rootfs.is_link")?;
        Ok(false)
    }

    async fn make_marks(&self, _: &[RootMount]) -> Result<()> {
        self.calls.pass("rootfs.make_marks")
    }

    async fn limit(&self, _: &[RootMount], _: u64) -> Result<()> {
        self.calls.pass("rootfs.limit")
    }

    async fn copy_up(&self, _: &RootRef, _: &str, _: &Path) -> Result<()> {
        self.calls.pass("rootfs.copy_up")
    }

    async fn make_dir(&self, _: &RootRef, _: &str, _: u32, _: u32) -> Result<()> {
        self.calls.pass("rootfs.make_dir")
    }

    async fn open(&self, _: RootView, keep: Keep) -> Result<Arc<dyn OpenRoot>> {
        self.calls.pass("rootfs.open")?;
        let opened = self.world().opened.clone();
        opened.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(FakeRoot { opened, _keep: keep }))
    }

    async fn make_places(&self, _: &[RootMount], _: &[RootBind]) -> Result<()> {
        self.calls.pass("rootfs.make_places")
    }

    async fn changes(&self, _: &[RootMount]) -> Result<Vec<PathChange>> {
        self.calls.pass("rootfs.changes")?;
        Ok(Vec::new())
    }

    async fn layer(&self, _: &[RootMount]) -> Result<Option<ByteStream>> {
        self.calls.pass("rootfs.layer")?;
        Ok(None)
    }
}

/// A container's files without any file; counted while it is held.
struct FakeRoot {
    opened: Arc<AtomicUsize>,
    _keep: Keep,
}

impl Drop for FakeRoot {
    fn drop(&mut self) {
        self.opened.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl OpenRoot for FakeRoot {
    async fn stat(&self, path: &str) -> Result<PathStat> {
        Ok(PathStat { name: path.to_owned(), ..PathStat::default() })
    }

    async fn archive(&self, path: &str) -> Result<(PathStat, ByteStream)> {
        Ok((self.stat(path).await?, futures::stream::empty().boxed()))
    }

    async fn export(&self) -> Result<ByteStream> {
        Ok(futures::stream::empty().boxed())
    }

    /// Takes the whole archive, for as long as it comes.
    async fn extract(&self, _: &str, mut archive: ByteStream, how: ExtractOptions) -> Result<()> {
        how.rules.check("/")?;
        while let Some(piece) = archive.next().await {
            piece?;
        }
        Ok(())
    }
}
