//! Containers and tasks, as containerd serves them.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BoxStream, ByteSink};
use crate::{ContainerId, ExecId, Result, container::Exit, log::Stream};

/// Containers, tasks, execs. containerd's id of a container is the Docker id.
///
/// Calls wait for containerd to come back for a bounded time (about 10 s) and then answer `Unavailable`.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// What runs below us; for `/version`, `/info` and the checks of T20/T26.
    async fn versions(&self) -> Result<RuntimeVersions>;

    /// Prepares the root file system's snapshot and makes containerd's container object. Undone whole on failure.
    async fn create_container(&self, setup: &RuntimeContainer) -> Result<()>;
    /// Writes a new spec and/or the third copy of the record. `NotFound` when containerd does not know the container.
    async fn update_container(&self, id: &ContainerId, spec: Option<Bytes>, record: Option<Bytes>) -> Result<()>;
    /// Removes the container object, then its snapshot. Absent is `Ok`.
    async fn delete_container(&self, id: &ContainerId) -> Result<()>;
    /// Every container in our namespace that bears our engine id.
    async fn containers(&self) -> Result<Vec<RuntimeContainerInfo>>;
    /// Every container snapshot (key = container id) that bears our engine id, with or without a container object.
    async fn container_snapshots(&self) -> Result<Vec<ContainerId>>;
    /// How to mount the container's root file system.
    async fn root_mounts(&self, id: &ContainerId) -> Result<Vec<RootMount>>;
    /// Bytes and inodes that the container's own layer holds (`SizeRw`).
    async fn root_usage(&self, id: &ContainerId) -> Result<u64>;

    /// Makes the task: the shim and the container's process, not yet running. Both output FIFOs must have readers.
    /// Returns the process id of init.
    async fn create_task(&self, setup: &TaskSetup) -> Result<u32>;
    /// Lets init run. An error carries runc's text in Docker's form
    /// (`failed to create task for container: … exec: "x": executable file not found in $PATH: unknown`).
    async fn start_task(&self, id: &ContainerId) -> Result<()>;
    /// Sends a signal to init (`exec` is `None`) or to an exec. `NotFound` when the process is gone.
    async fn kill(&self, id: &ContainerId, exec: Option<&ExecId>, signal: u32, all: bool) -> Result<()>;
    /// Waits for the exit. `NotFound` when there is no such task or exec.
    async fn wait(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<Exit>;
    /// Removes a dead task with its shim and mounts, or an exec. Absent is `Ok(None)`.
    async fn delete_task(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<Option<Exit>>;
    /// Ends a shim that no longer answers, and what is left of its task: processes, mounts, bundle (T53).
    async fn abandon_task(&self, id: &ContainerId) -> Result<()>;
    /// `None` when there is no task.
    async fn task(&self, id: &ContainerId) -> Result<Option<TaskInfo>>;
    /// All tasks of our namespace.
    async fn tasks(&self) -> Result<Vec<TaskInfo>>;
    /// Every process of the task, host ids; execs have their id.
    async fn pids(&self, id: &ContainerId) -> Result<Vec<TaskPid>>;
    /// Rows and columns of a terminal; absent processes are `NotFound`.
    async fn resize(&self, id: &ContainerId, exec: Option<&ExecId>, height: u32, width: u32) -> Result<()>;
    /// End of input for init or an exec; never call it on a terminal.
    async fn close_stdin(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<()>;
    async fn pause(&self, id: &ContainerId) -> Result<()>;
    async fn resume(&self, id: &ContainerId) -> Result<()>;
    /// New cgroup limits for a running task, as OCI `LinuxResources` JSON.
    async fn update_resources(&self, id: &ContainerId, resources: Bytes) -> Result<()>;

    /// Makes an exec and its FIFOs and starts it. The streams end at the process's end.
    async fn exec(&self, setup: &ExecSetup) -> Result<ExecStarted>;
    /// Joins the streams of an exec that an earlier gantryd started: output from now on.
    async fn adopt_exec(&self, setup: &ExecSetup) -> Result<ExecStarted>;

    /// Exits and out-of-memory kills as they are told; a hint only, events may be missing. Reconnects by itself and
    /// yields `Reconnected` after each gap, upon which the receiver asks for `tasks`.
    fn events(&self) -> BoxStream<RuntimeEvent>;
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeVersions {
    pub containerd: String,
    pub containerd_revision: String,
    pub runc: String,
    pub runc_commit: String,
    /// Path by which the default runtime was found.
    pub runc_path: String,
    /// Its `features` document, in one line; empty where it has none.
    pub runc_features: String,
    /// containerd's socket, and the namespace that is ours.
    pub address: String,
    pub namespace: String,
}

/// What containerd needs to know of a container.
#[derive(Debug, Clone)]
pub struct RuntimeContainer {
    pub id: ContainerId,
    /// Chain id of the image's top layer; empty for an empty root file system.
    pub chain_id: String,
    pub snapshotter: String,
    /// Name of the OCI runtime in `Settings::runtimes`.
    pub runtime: String,
    /// The OCI spec, JSON.
    pub spec: Bytes,
    /// The third copy of the record, opaque to containerd.
    pub record: Bytes,
    /// Name of the image, for people who look with `ctr`.
    pub image: String,
}

#[derive(Debug, Clone)]
pub struct RuntimeContainerInfo {
    pub id: ContainerId,
    pub record: Option<Bytes>,
}

/// One mount as containerd's snapshotters describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootMount {
    pub kind: String,
    pub source: String,
    /// Relative to the root of the mounts before it; mostly empty.
    pub target: String,
    pub options: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct TaskSetup {
    pub id: ContainerId,
    pub terminal: bool,
    /// Paths of the FIFOs; an empty one is `/dev/null`.
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub runtime: String,
    /// The host's user and group that are root in the container: its output is theirs.
    pub stdio_owner: (u32, u32),
    /// SELinux label of its files; empty for none.
    pub mount_label: String,
    /// Rows and columns of the terminal from the first prompt on.
    pub console_size: Option<[u32; 2]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskStatus {
    Created,
    Running,
    Paused,
    Stopped,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    pub id: ContainerId,
    pub status: TaskStatus,
    pub pid: u32,
    /// When `Stopped`.
    pub exit: Option<Exit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPid {
    pub pid: u32,
    pub exec: Option<ExecId>,
}

#[derive(Debug, Clone)]
pub struct ExecSetup {
    pub container: ContainerId,
    pub exec: ExecId,
    /// OCI `Process`, JSON.
    pub process: Bytes,
    pub terminal: bool,
    pub stdin: bool,
    /// Whether somebody reads the output; else it goes to null.
    pub output: bool,
    pub console_size: Option<[u32; 2]>,
}

/// An exec that runs.
pub struct ExecStarted {
    pub pid: u32,
    pub stdin: Option<ByteSink>,
    /// Both outputs, in the order in which they were read; with a terminal all is `Stdout`.
    pub output: Option<BoxStream<Result<OutputChunk>>>,
}

/// Bytes that a process wrote.
#[derive(Debug, Clone)]
pub struct OutputChunk {
    pub stream: Stream,
    pub data: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    Exited {
        id: ContainerId,
        exec: Option<ExecId>,
        code: u32,
        at: Timestamp,
    },
    OutOfMemory {
        id: ContainerId,
    },
    /// Events may have been missed: ask for all tasks.
    Reconnected,
}
