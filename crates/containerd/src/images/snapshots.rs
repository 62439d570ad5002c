//! Unpacked layers in containerd's snapshotter: staged, put on top of their parents, measured, viewed.
//!
//! A layer is extracted before its parents are known: into a snapshot without a parent, in overlayfs's own form. When
//! the manifest has come it moves, by renames, into a snapshot on top of the right parent. Neither is ever mounted.

mod adopt;
mod disk;

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use containerd_client::{
    services::v1::snapshots::{
        CommitSnapshotRequest, Info, ListSnapshotsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
        StatSnapshotRequest, UsageRequest, ViewSnapshotRequest,
    },
    types::Mount,
};
use gantry_domain::{
    Digest, Error, Result,
    id::random_hex,
    id_maps::IdMaps,
    ports::{ImageView, LayerUsage, RootMount},
    settings::SNAPSHOTTER,
};
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use self::disk::Flushing;
use super::{
    chunks::Chunks,
    content::Content,
    extract::{self, Extracted},
    leases::{self, Collect},
    limits::Limits,
};
use crate::client;

/// A layer of so many bytes is brought to disk as soon as it is extracted.
const EARLY_SYNC: u64 = 8 << 20;

/// Snapshots, seen through the content's lease.
#[derive(Clone)]
pub struct Snapshots {
    content: Content,
    name: String,
    /// Bytes of committed layers. A short lock, never held across an await.
    sizes: Arc<Mutex<HashMap<String, u64>>>,
    /// Owners of the files in the layers.
    maps: Arc<IdMaps>,
    /// The folder of all snapshots is prepared for many.
    spread: Arc<AtomicBool>,
}

/// A layer that is extracted and waits for its place.
#[derive(Debug)]
pub struct Staged {
    pub key: String,
    pub folder: PathBuf,
    pub extracted: Extracted,
    /// Its files are on disk; those of small layers are brought there together.
    pub durable: bool,
}

impl Staged {
    /// Brings all of the file system to disk, other staged layers too.
    fn sync(&self) -> Result<()> {
        sync(&self.folder)
    }

    /// The same from a task.
    pub async fn synced(&self) -> Result<()> {
        let folder = self.folder.clone();
        let syncing = tokio::task::spawn_blocking(move || sync(&folder));
        syncing.await.map_err(|error| Error::system(format!("unpacking stopped: {error}")))?
    }
}

fn sync(folder: &Path) -> Result<()> {
    rustix::fs::syncfs(open_folder(folder)?).map_err(extract::errno)
}

/// A prepared snapshot, as overlayfs describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upper {
    pub key: String,
    pub folder: PathBuf,
    /// Topmost first.
    pub lowers: Vec<PathBuf>,
}

/// The chain id of each layer: of itself on top of those before it.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        chain.push(match chain.last() {
            None => diff.clone(),
            Some(parent) => Digest::from_sha256(&Sha256::digest(format!("{parent} {diff}"))),
        });
    }
    chain
}

impl Snapshots {
    pub fn new(content: Content, name: impl Into<String>) -> Self {
        Self { content, name: name.into(), sizes: Arc::default(), maps: Arc::default(), spread: Arc::default() }
    }

    pub fn with_lease(&self, lease: &str) -> Result<Self> {
        Ok(Self { content: self.content.with_lease(lease)?, ..self.clone() })
    }

    #[must_use]
    pub fn with_id_maps(self, maps: Arc<IdMaps>) -> Self {
        Self { maps, ..self }
    }

    /// The host's user and group that are root in the layers.
    fn root(&self) -> (u32, u32) {
        self.maps.root()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether we fill its folders ourselves; others are filled by containerd.
    pub fn is_overlay(&self) -> bool {
        self.name == SNAPSHOTTER
    }

    /// `NotImplemented` where containerd would extract, which knows nothing of other owners.
    pub fn check_plain_owners(&self) -> Result<()> {
        if self.maps.is_identity() {
            return Ok(());
        }
        Err(Error::not_implemented(format!("user namespaces are not implemented with the snapshotter {}", self.name)))
    }

    /// Puts a snapshot that is here under our lease and says whether it is: from then on it stays.
    pub async fn claim(&self, chain: &Digest) -> Result<bool> {
        if !self.exists(chain.as_str()).await? {
            return Ok(false);
        }
        self.content.claim_resource(chain.as_str(), &format!("snapshots/{}", self.name)).await?;
        self.exists(chain.as_str()).await
    }

    pub async fn exists(&self, key: &str) -> Result<bool> {
        let request = StatSnapshotRequest { snapshotter: self.name.clone(), key: key.to_owned() };
        let stat = client::retry(|| {
            let request = request.clone();
            async move { self.content.client().snapshots().stat(request).await }
        });
        match stat.await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Extracts a layer, from a thread of its own that may block; the snapshot is kept by the lease alone.
    pub fn stage(&self, runtime: &tokio::runtime::Handle, source: impl Chunks, limits: Limits) -> Result<Staged> {
        let upper = runtime.block_on(self.prepare(""))?;
        let root = open_folder(&upper.folder)?;
        self.spread(&upper.folder);
        let (flusher, writing) = disk::writing(&upper.folder)?;
        let extracted = extract::extract(Flushing::new(source, flusher), root, limits, &self.maps);
        let written = writing.ended();
        let extracted = extracted?;
        written?;
        let staged = Staged { key: upper.key, folder: upper.folder, durable: extracted.bytes >= EARLY_SYNC, extracted };
        if staged.durable {
            // While others still come.
            staged.sync()?;
        }
        Ok(staged)
    }

    /// Of the folder that all snapshots are in, once.
    fn spread(&self, snapshot: &Path) {
        let all = snapshot.parent().and_then(Path::parent);
        if let Some(all) = all.filter(|_| !self.spread.swap(true, Ordering::Relaxed)) {
            disk::spread(all);
        }
    }

    pub async fn prepare(&self, parent: &str) -> Result<Upper> {
        let key = format!("gantry-unpack-{}", &random_hex()[..24]);
        let mounts = self.prepare_mounts(&key, parent).await?;
        parse_upper(key, &mounts)
    }

    pub async fn prepare_mounts(&self, key: &str, parent: &str) -> Result<Vec<Mount>> {
        let request = PrepareSnapshotRequest {
            snapshotter: self.name.clone(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: HashMap::new(),
        };
        let answer = self.content.client().snapshots().prepare(request).await.map_err(client::error)?;
        Ok(answer.into_inner().mounts)
    }

    /// Gives an active snapshot its lasting name. One that has come into being meanwhile is as good: the layers are
    /// the same.
    pub async fn commit(&self, key: &str, chain: &Digest) -> Result<()> {
        let request = CommitSnapshotRequest {
            snapshotter: self.name.clone(),
            name: chain.to_string(),
            key: key.to_owned(),
            labels: HashMap::new(),
        };
        match self.content.client().snapshots().commit(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == tonic::Code::AlreadyExists => {
                self.remove(key).await?;
                match self.claim(chain).await? {
                    true => Ok(()),
                    false => Err(Error::system(format!("snapshot {chain} came and went"))),
                }
            }
            Err(status) => Err(client::error(status)),
        }
    }

    /// Absent is fine.
    pub async fn remove(&self, key: &str) -> Result<()> {
        let request = RemoveSnapshotRequest { snapshotter: self.name.clone(), key: key.to_owned() };
        let removed = client::retry(|| {
            let request = request.clone();
            async move { self.content.client().snapshots().remove(request).await }
        });
        match removed.await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Bytes of each unpacked layer. A committed one never changes: it is measured once.
    pub async fn usage(&self) -> Result<Vec<LayerUsage>> {
        let layers = self.committed().await?;
        let known = |info: &Info| self.sizes.lock().get(&info.name).copied();
        let mut measured = HashMap::new();
        for info in &layers {
            let size = match known(info) {
                Some(size) => Some(size),
                None => self.measure(&info.name).await?,
            };
            measured.extend(size.map(|size| (info.name.clone(), size)));
        }
        *self.sizes.lock() = measured.clone();
        let layer = |info: Info| {
            let size = *measured.get(&info.name)?;
            Some(LayerUsage { chain_id: info.name, parent: info.parent, size })
        };
        Ok(layers.into_iter().filter_map(layer).collect())
    }

    async fn committed(&self) -> Result<Vec<Info>> {
        let request =
            ListSnapshotsRequest { snapshotter: self.name.clone(), filters: vec!["kind==committed".to_owned()] };
        let mut answers = self.content.client().snapshots().list(request).await.map_err(client::error)?.into_inner();
        let mut layers = Vec::new();
        while let Some(answer) = answers.message().await.map_err(client::error)? {
            layers.extend(answer.info);
        }
        Ok(layers)
    }

    /// `None` when it was collected since it was listed.
    async fn measure(&self, key: &str) -> Result<Option<u64>> {
        let request = UsageRequest { snapshotter: self.name.clone(), key: key.to_owned() };
        match self.content.client().snapshots().usage(request).await {
            Ok(usage) => Ok(Some(usage.into_inner().size.max(0) as u64)),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(client::error(status)),
        }
    }

    /// A read-only view of a layer and those below it. Key and lease have one name; the lease ends a view that nobody
    /// released.
    pub async fn view(&self, chain_id: &str) -> Result<ImageView> {
        let key = leases::create(self.content.client(), "view").await?;
        let leased = self.content.client().with_lease(&key)?;
        let request = ViewSnapshotRequest {
            snapshotter: self.name.clone(),
            key: key.clone(),
            parent: chain_id.to_owned(),
            labels: HashMap::new(),
        };
        match leased.snapshots().view(request).await {
            Ok(answer) => {
                Ok(ImageView { key, mounts: answer.into_inner().mounts.into_iter().map(root_mount).collect() })
            }
            Err(status) => {
                leases::delete(self.content.client(), &key, Collect::Later).await?;
                Err(client::error(status))
            }
        }
    }

    pub async fn release_view(&self, view: &ImageView) -> Result<()> {
        self.remove(&view.key).await?;
        leases::delete(self.content.client(), &view.key, Collect::Later).await
    }
}

fn root_mount(mount: Mount) -> RootMount {
    RootMount { kind: mount.r#type, source: mount.source, target: mount.target, options: mount.options }
}

/// The folders of an overlayfs snapshot: one bind mount without parents, else `upperdir` and `lowerdir`.
fn parse_upper(key: String, mounts: &[Mount]) -> Result<Upper> {
    let unknown = || Error::system("snapshotter overlayfs describes a mount that is not known here");
    let [mount] = mounts else { return Err(unknown()) };
    if mount.r#type == "bind" {
        return Ok(Upper { key, folder: PathBuf::from(&mount.source), lowers: Vec::new() });
    }
    // Rootless containerd keeps its marks under other names.
    if mount.r#type != "overlay" || mount.options.iter().any(|option| option == "userxattr") {
        return Err(unknown());
    }
    let option = |name: &str| mount.options.iter().find_map(|option| option.strip_prefix(name));
    let folder = option("upperdir=").ok_or_else(unknown)?;
    let lowers = option("lowerdir=").ok_or_else(unknown)?;
    Ok(Upper { key, folder: PathBuf::from(folder), lowers: lowers.split(':').map(PathBuf::from).collect() })
}

pub fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(extract::errno)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_chain_id_is_made_of_all_layers_so_far() {
        let digest = |byte| Digest::from_sha256(&[byte; 32]);
        let chain = chain_ids(&[digest(1), digest(2)]);
        assert_eq!(chain[0], digest(1));
        let text = format!("{} {}", digest(1), digest(2));
        assert_eq!(chain[1], Digest::from_sha256(&Sha256::digest(text)));
        assert!(chain_ids(&[]).is_empty());
    }

    #[test]
    fn folders_are_taken_from_the_mount_options() {
        let mount = |kind: &str, options: &[&str]| Mount {
            r#type: kind.into(),
            source: "/s/1/fs".into(),
            target: String::new(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        let bind = parse_upper("k".into(), &[mount("bind", &["rw", "rbind"])]).unwrap();
        assert_eq!((bind.folder, bind.lowers.len()), (PathBuf::from("/s/1/fs"), 0));
        let options = ["index=off", "workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs"];
        let overlay = parse_upper("k".into(), &[mount("overlay", &options)]).unwrap();
        assert_eq!(overlay.folder, PathBuf::from("/s/3/fs"));
        assert_eq!(overlay.lowers, [PathBuf::from("/s/2/fs"), PathBuf::from("/s/1/fs")]);
        assert!(parse_upper("k".into(), &[mount("overlay", &["userxattr"])]).is_err());
        assert!(parse_upper("k".into(), &[]).is_err());
    }
}
