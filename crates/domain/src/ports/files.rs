//! The rest of the host: container folders, volumes, root file systems, log files, facts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{BoxStream, ByteStream, RootMount};
use crate::{
    ContainerId, Result,
    container::{
        copy::{CopyRules, PathChange, PathStat},
        log_shipment::LogShipment,
    },
    log::{LogBatch, LogQuery},
    volume::{ToldVolume, VolumeRecord},
};

/// The folder of each container under the data root: log, `hosts`, `hostname`, `resolv.conf`.
#[async_trait]
pub trait ContainerFiles: Send + Sync {
    /// Where the container's files lie; made by `write`.
    fn path(&self, id: &ContainerId) -> PathBuf;
    /// Writes files by name (whole, readable by all inside the container), making the folder. Not synced.
    async fn write(&self, id: &ContainerId, files: Vec<(String, Bytes)>) -> Result<()>;
    /// Removes the folder and all in it, with its log's shipment. What is not delivered yet has a few seconds. Absent is
    /// `Ok`.
    async fn remove(&self, id: &ContainerId) -> Result<()>;
    /// Containers that have a folder or a shipment.
    async fn list(&self) -> Result<Vec<ContainerId>>;
    /// The host's resolver configuration: `/etc/resolv.conf`, or the upstream file of the stub resolver it names.
    async fn resolv_conf(&self) -> Result<ResolvConf>;
    /// `/etc/resolv.conf` of the host as it is, stub resolvers and all.
    async fn host_resolv_conf(&self) -> Result<ResolvConf>;
    /// The log at `path` (with its rotated files), from old to new.
    async fn read_log(&self, path: PathBuf, query: LogQuery, end: LogEnd) -> Result<BoxStream<Result<LogBatch>>>;
    /// Delivers the log to its remote driver from now on, from where the last delivery ended; goes on without us. May be
    /// repeated. `System` where the driver cannot work on this host.
    async fn ship_log(&self, shipment: &LogShipment) -> Result<()>;
    /// The run is over: the shipment ends when all of the log is delivered. Absent is `Ok`.
    async fn end_log(&self, id: &ContainerId) -> Result<()>;
}

/// Where a reading of a log ends.
pub enum LogEnd {
    /// At what is there now.
    Now,
    /// At this many bytes of the current file (the seam between history and a live attach).
    At(u64),
    /// Follow until this resolves, then read to the end.
    Until(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Which file it is.
    pub path: String,
    pub content: String,
}

/// Volumes: one folder each under the data root, which holds those of the driver `local` and is where those of a plugin
/// are bound. `NotFound` where a plugin is not there, `System` with its words where it fails.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Whether there is such a driver; empty is our own. `NotFound` in dockerd's words.
    async fn find_driver(&self, name: &str) -> Result<()>;
    /// Makes the folder (durably) with a copy of the record beside it. May be repeated; undone whole on failure.
    async fn create(&self, volume: &VolumeRecord) -> Result<MadeVolume>;
    /// Whether `remove` would go through now: it does not where something of another's is mounted in it. A plugin has
    /// removed its part when this is `Ok`.
    async fn check_removable(&self, name: &str) -> Result<()>;
    /// Removes it with its content. Absent is `Ok`.
    async fn remove(&self, name: &str) -> Result<()>;
    /// Mounts a volume with options for one more user; nothing to do for a plain one.
    async fn mount(&self, volume: &VolumeRecord, user: &ContainerId) -> Result<()>;
    async fn unmount(&self, volume: &VolumeRecord, user: &ContainerId) -> Result<()>;
    /// Where a part of a volume is bound for a container's start; `number` tells its parts apart.
    fn part_place(&self, user: &ContainerId, number: usize) -> PathBuf;
    /// Binds what lies at `subpath` in a mounted volume to its place. `InvalidParameter` for a path that leads out of
    /// the volume, `System` where there is nothing.
    async fn mount_part(&self, volume: &VolumeRecord, subpath: &str, user: &ContainerId, number: usize) -> Result<()>;
    /// Mounts an image, or what lies at `subpath` in it, at its place, read-only. Errors as of `mount_part`.
    async fn mount_image(&self, image: &[RootMount], subpath: &str, user: &ContainerId, number: usize) -> Result<()>;
    /// Mounts the `/dev/shm` of a process's container at the place of a part, for one that shares its memory.
    async fn mount_memory(&self, process: u32, user: &ContainerId, number: usize) -> Result<()>;
    /// Unmounts all parts of a container. May be repeated.
    async fn unmount_parts(&self, user: &ContainerId) -> Result<()>;
    /// Containers that have parts mounted.
    async fn part_users(&self) -> Result<Vec<ContainerId>>;
    /// Bytes in use.
    async fn usage(&self, volume: &VolumeRecord) -> Result<u64>;
    /// The names of the plugins of this host, of whatever kind: none is asked.
    async fn plugins(&self) -> BTreeSet<String>;
    /// Those of volumes that have been found so far.
    fn drivers(&self) -> Vec<String>;
    /// The volumes that a plugin has, within seconds. `NotFound` where it is none for volumes, `Unavailable` where it
    /// cannot be asked even that.
    async fn list(&self, driver: &str) -> Result<Vec<ToldVolume>>;
    /// What a plugin says of a volume; `None` where it knows none of that name. Within seconds.
    async fn look(&self, driver: &str, name: &str) -> Result<Option<ToldVolume>>;
    /// The volume of this name of whatever plugin has one, the first by name. One that is away has none.
    async fn seek(&self, name: &str) -> Option<ToldVolume>;
    /// The same, and one that lately kept somebody waiting for nothing is not asked.
    async fn seek_in_haste(&self, name: &str) -> Option<ToldVolume>;
    /// The records found beside the volumes: the third copy, for a rebuild.
    async fn found(&self) -> Result<Vec<VolumeRecord>>;
}

/// A volume's folder as `create` leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeVolume {
    pub mountpoint: PathBuf,
    /// There was nothing of this name before: it may be taken back.
    pub fresh: bool,
}

/// What a root file system is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootRef {
    /// By the root of a running process.
    Process(u32),
    /// By mounting it in a thread's own mount namespace.
    Mounts(Vec<RootMount>),
}

/// How a container's files are to be opened for copying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootView {
    pub root: RootRef,
    /// May be written. A root that is mounted for it must be mounted nowhere else.
    pub write: bool,
    /// What is bound into a mounted root, parents first; a running process has its mounts.
    pub binds: Vec<RootBind>,
    /// Folders that the runtime fills in a running container (`/dev`): shown as empty.
    pub veiled: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootBind {
    /// On the host.
    pub source: PathBuf,
    pub destination: String,
    pub read_only: bool,
    pub recursive: bool,
}

/// Kept by who uses opened files; dropped when nothing of them is open any more.
pub type Keep = Box<dyn std::any::Any + Send + Sync>;

/// A container's files, held open. What was opened stays mounted, for us alone, until this and every stream of it is
/// dropped; nothing is left of it when the process dies.
///
/// Errors are `NotFound` for a path that is not there; other errors name the system call as Go does.
#[async_trait]
pub trait OpenRoot: Send + Sync {
    async fn stat(&self, path: &str) -> Result<PathStat>;
    /// A tar of the path, whose members begin with its last component; of a symlink, the symlink.
    async fn archive(&self, path: &str) -> Result<(PathStat, ByteStream)>;
    /// Everything, without a member for the root itself; hidden behind no mount.
    async fn export(&self) -> Result<ByteStream>;
    /// Lays an archive (plain or compressed) out in a folder. What is there is merged with or replaced.
    async fn extract(&self, path: &str, archive: ByteStream, how: ExtractOptions) -> Result<()>;
}

#[derive(Debug, Clone, Default)]
pub struct ExtractOptions {
    pub rules: CopyRules,
    /// A folder is not replaced by a file, nor a file by a folder.
    pub no_overwrite: bool,
    /// Owner of everything instead of what the archive says.
    pub owner: Option<(u32, u32)>,
}

/// Looks into and fills root file systems, on descriptors; never follows a link out of one.
#[async_trait]
pub trait RootFs: Send + Sync {
    /// A regular file of at most `max` bytes; `None` when absent. Anything else (device, FIFO, larger) is
    /// `InvalidParameter` (T18).
    async fn read(&self, root: &RootRef, path: &str, max: u64) -> Result<Option<Vec<u8>>>;
    /// Whether an overlay's own layer changes one of these paths; cheap, no mount.
    async fn upper_changes(&self, mounts: &[RootMount], paths: &[&str]) -> Result<bool>;
    /// Whether what the root has under this name is a symbolic link; cheap, no mount (T22).
    async fn is_link(&self, mounts: &[RootMount], name: &str) -> Result<bool>;
    /// Puts `/.dockerenv` and `/etc/mtab` into an overlay's own layer where the image has none; cheap, no mount. Nothing
    /// with snapshotters of another kind.
    async fn make_marks(&self, mounts: &[RootMount]) -> Result<()>;
    /// Limits an overlay's own layer, which nobody has written to yet, to so many bytes. `InvalidParameter` where its
    /// file system cannot.
    async fn limit(&self, mounts: &[RootMount], bytes: u64) -> Result<()>;
    /// Fills an empty volume from the image's folder, with owners and modes; nothing to do when the one is not empty or
    /// the other not there. `Conflict` where there is a file.
    async fn copy_up(&self, root: &RootRef, path: &str, volume: &std::path::Path) -> Result<()>;
    /// Makes sure that a working directory exists (T21).
    async fn make_dir(&self, root: &RootRef, path: &str, uid: u32, gid: u32) -> Result<()>;
    /// Opens a container's files. For a running process the caller checks afterwards that it was still the container's.
    async fn open(&self, view: RootView, keep: Keep) -> Result<Arc<dyn OpenRoot>>;
    /// Makes the places in a root that is mounted nowhere on which `binds` can be mounted, as the runtime would.
    async fn make_places(&self, mounts: &[RootMount], binds: &[RootBind]) -> Result<()>;
    /// Paths in which an overlay's own layer differs from those below, sorted.
    async fn changes(&self, mounts: &[RootMount]) -> Result<Vec<PathChange>>;
    /// An overlay's own layer as an archive: deletions are `.wh.` members. `None` when it holds nothing.
    async fn layer(&self, mounts: &[RootMount]) -> Result<Option<ByteStream>>;
}

/// Facts of this host; each is read anew, cheaply.
#[async_trait]
pub trait HostFacts: Send + Sync {
    /// For `/info`; partial problems become warnings.
    async fn facts(&self) -> Facts;
    /// Loads the AppArmor profile `docker-default` unless the kernel has it. Something else may unload it at any time,
    /// so each start asks. Only for hosts with AppArmor.
    async fn load_apparmor_default(&self) -> Result<()>;
    /// Holds for one boot of the host.
    fn boot_id(&self) -> String;
    /// What the source of a bind mount is; `None` when absent.
    async fn path_kind(&self, path: &str) -> Result<Option<PathKind>>;
    /// The mount that a path lies on, or will lie on when it is made.
    async fn mount_of(&self, path: &str) -> Result<MountOf>;
    /// Makes a missing source of a bind mount (a folder), as dockerd does for `-v`.
    async fn make_bind_source(&self, path: &str) -> Result<()>;
    /// Gives a file, or a folder with all that is in it, an SELinux label; nothing where the file system has none.
    /// `InvalidParameter` for what the host itself lives by.
    async fn relabel(&self, _path: &str, _label: &str) -> Result<()> {
        Ok(())
    }
    /// A device node of the host, or the devices below a folder.
    async fn devices(&self, path: &str) -> Result<Vec<DeviceNode>>;
    /// The specs of device vendors in these folders.
    async fn cdi_specs(&self, folders: &[String]) -> CdiSpecs;
    /// Where a program is on the engine's `PATH`.
    async fn program(&self, name: &str) -> Option<String>;
    /// A file of the daemon's host (seccomp profile), at most `max` bytes.
    async fn read_file(&self, path: &str, max: u64) -> Result<Vec<u8>>;
    /// `ps` of these processes: titles and rows, filtered from the host's `ps` with these arguments.
    async fn ps(&self, pids: &[u32], args: &str) -> Result<(Vec<String>, Vec<Vec<String>>)>;
    /// What the container of this process uses now. `NotFound` when the process is gone.
    async fn usage(&self, pid: u32) -> Result<crate::container::usage::ResourceUsage> {
        Err(crate::Error::not_found(format!("process {pid} is gone")))
    }
    /// Signals a process by number, for what containerd can no longer reach.
    async fn signal(&self, pid: u32, signal: u32) -> Result<()>;
}

/// What was read of the vendors' specs, and what could not be: path and why.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CdiSpecs {
    pub files: Vec<crate::cdi::SpecFile>,
    pub errors: Vec<(String, String)>,
}

/// A mount of the host's, as far as propagation goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOf {
    pub place: String,
    pub shared: bool,
    pub slave: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    File,
    Directory,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    pub path: String,
    /// `b`, `c` or `p`.
    pub kind: char,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub kernel_version: String,
    pub operating_system: String,
    pub os_version: String,
    pub architecture: String,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// `0` or `0-1,4`; empty is unknown.
    pub memory_nodes: String,
    pub hostname: String,
    /// 1 or 2; hybrid is 1.
    pub cgroup_version: u32,
    pub systemd: bool,
    pub cgroup: CgroupFacts,
    /// The kernel has AppArmor, switched on.
    pub apparmor: bool,
    /// `docker-default` is loaded; without it no container can name it.
    pub apparmor_default: bool,
    pub ipv4_forwarding: bool,
    pub bridge_nf_iptables: bool,
    pub bridge_nf_ip6tables: bool,
    pub open_files: u32,
    /// Backing file system of the data root, as `/info` names it (`extfs`, `xfs`, `btrfs`).
    pub backing_filesystem: String,
    pub warnings: Vec<String>,
    /// gantryd's own bounding set (`CapBnd` in `/proc/self/status`), by bit: no container can have more. 0 is unknown.
    pub capabilities: u64,
    /// Docker's `DockerRootDir` and the like are the daemon's; this is for what the host adds.
    pub extra: BTreeMap<String, String>,
}

/// Which limits the kernel can keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupFacts {
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub kernel_memory_tcp: bool,
    pub cpu_cfs_period: bool,
    pub cpu_cfs_quota: bool,
    pub cpu_shares: bool,
    pub cpu_realtime: bool,
    pub cpuset: bool,
    pub pids_limit: bool,
    pub oom_kill_disable: bool,
    pub blkio_weight: bool,
    pub blkio_throttle: bool,
}

/// Execs that run, kept under the run directory so that a new gantryd finds them; not synced, gone with the boot.
#[async_trait]
pub trait ExecFiles: Send + Sync {
    /// Written before the exec is made.
    async fn put(&self, record: &crate::container::record::ExecRecord) -> Result<()>;
    /// Absent is `Ok`.
    async fn remove(&self, id: &crate::ExecId) -> Result<()>;
    /// What is there; unreadable ones are skipped with a line in the log.
    async fn list(&self) -> Result<Vec<crate::container::record::ExecRecord>>;
}
