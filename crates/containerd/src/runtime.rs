//! The runtime port on containerd: containers, snapshots, tasks, execs and events.
//!
//! One file for each noun; this one holds what they share and joins them to the port.

mod abandon;
mod cgroup;
mod container;
mod events;
mod exec;
mod fifo;
mod kernel_log;
mod options;
mod pump;
mod runtimes;
mod start_error;
mod stdin;
mod task;
mod versions;

pub use runtimes::RuntimeConfig;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use gantry_domain::{
    ContainerId, ExecId, Result,
    container::Exit,
    engine_id::EngineId,
    ports::{
        BoxStream, ExecSetup, ExecStarted, RootMount, Runtime, RuntimeContainer, RuntimeContainerInfo, RuntimeEvent,
        RuntimeVersions, TaskInfo, TaskPid, TaskSetup,
    },
};
use parking_lot::{Mutex, RwLock};
use tokio_util::task::TaskTracker;

use crate::{client::Client, process::Containerd};

/// Containers and tasks in containerd.
pub struct ContainerdRuntime {
    client: Client,
    engine: EngineId,
    folders: Folders,
    /// Swapped whole when the configuration is reloaded; an operation reads it once.
    config: RwLock<Arc<RuntimeConfig>>,
    shim: runtimes::Shim,
    /// What the last look at the runtime's binary told, until the binary changes.
    runtime_version: Mutex<Option<versions::Known>>,
    /// Owner of the tasks that carry output of execs and events; they end with their streams.
    tasks: TaskTracker,
}

/// Where things lie on this host.
#[derive(Debug, Clone)]
struct Folders {
    /// containerd's bundles are under these.
    state: PathBuf,
    root: PathBuf,
    /// FIFOs of execs, by exec id.
    exec: PathBuf,
    /// runc's own state, by namespace and id.
    runc: PathBuf,
    /// Scripts that add a configured runtime's arguments.
    wrappers: PathBuf,
}

impl ContainerdRuntime {
    /// `exec_root` is gantryd's run directory. Must be called within a tokio runtime; connects when first used.
    pub fn new(
        containerd: &Containerd,
        engine: EngineId,
        exec_root: impl Into<PathBuf>,
        config: RuntimeConfig,
    ) -> Self {
        let exec_root = exec_root.into();
        let folders = Folders {
            state: containerd.state().to_owned(),
            root: containerd.root().to_owned(),
            exec: exec_root.join("exec"),
            runc: exec_root.join("runtime"),
            wrappers: exec_root.join("runtime-wrappers"),
        };
        Self {
            client: containerd.client(),
            engine,
            folders,
            config: RwLock::new(Arc::new(config)),
            shim: runtimes::Shim::default(),
            runtime_version: Mutex::new(None),
            tasks: TaskTracker::new(),
        }
    }

    /// Containers are run by this shim of ours from their next start on; without one by containerd's.
    #[must_use]
    pub fn with_shim(self, program: impl Into<PathBuf>) -> Self {
        Self { shim: runtimes::Shim::new(program.into()), ..self }
    }

    /// Takes effect on what is created and started from now on.
    pub fn configure(&self, config: RuntimeConfig) {
        *self.config.write() = Arc::new(config);
    }

    fn config(&self) -> Arc<RuntimeConfig> {
        self.config.read().clone()
    }
}

#[async_trait]
impl Runtime for ContainerdRuntime {
    async fn versions(&self) -> Result<RuntimeVersions> {
        self.read_versions().await
    }

    async fn create_container(&self, setup: &RuntimeContainer) -> Result<()> {
        self.make_container(setup).await
    }
    async fn update_container(&self, id: &ContainerId, spec: Option<Bytes>, record: Option<Bytes>) -> Result<()> {
        self.rewrite_container(id, spec, record).await
    }
    async fn delete_container(&self, id: &ContainerId) -> Result<()> {
        self.remove_container(id).await
    }
    async fn containers(&self) -> Result<Vec<RuntimeContainerInfo>> {
        self.list_containers().await
    }
    async fn container_snapshots(&self) -> Result<Vec<ContainerId>> {
        self.list_snapshots().await
    }
    async fn root_mounts(&self, id: &ContainerId) -> Result<Vec<RootMount>> {
        self.read_root_mounts(id).await
    }
    async fn root_usage(&self, id: &ContainerId) -> Result<u64> {
        self.read_root_usage(id).await
    }

    async fn create_task(&self, setup: &TaskSetup) -> Result<u32> {
        self.make_task(setup).await
    }
    async fn start_task(&self, id: &ContainerId) -> Result<()> {
        self.run_task(id).await
    }
    async fn kill(&self, id: &ContainerId, exec: Option<&ExecId>, signal: u32, all: bool) -> Result<()> {
        self.signal(id, exec, signal, all).await
    }
    async fn wait(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<Exit> {
        let exit = task::wait(&self.client, id, exec).await?;
        Ok(if exec.is_none() { self.with_memory(id, exit).await } else { exit })
    }
    async fn delete_task(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<Option<Exit>> {
        match exec {
            None => self.remove_task(id).await,
            Some(exec) => self.remove_exec(id, exec).await,
        }
    }
    async fn abandon_task(&self, id: &ContainerId) -> Result<()> {
        self.abandon(id).await
    }
    async fn task(&self, id: &ContainerId) -> Result<Option<TaskInfo>> {
        self.find_task(id).await
    }
    async fn tasks(&self) -> Result<Vec<TaskInfo>> {
        let mut tasks = self.list_tasks().await?;
        for task in &mut tasks {
            if let Some(exit) = task.exit {
                task.exit = Some(self.with_memory(&task.id, exit).await);
            }
        }
        Ok(tasks)
    }
    async fn pids(&self, id: &ContainerId) -> Result<Vec<TaskPid>> {
        self.list_pids(id).await
    }
    async fn resize(&self, id: &ContainerId, exec: Option<&ExecId>, height: u32, width: u32) -> Result<()> {
        self.resize_terminal(id, exec, height, width).await
    }
    async fn close_stdin(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<()> {
        task::close_stdin(&self.client, id, exec).await
    }
    async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.freeze(id).await
    }
    async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.thaw(id).await
    }
    async fn update_resources(&self, id: &ContainerId, resources: Bytes) -> Result<()> {
        self.set_resources(id, resources).await
    }

    async fn exec(&self, setup: &ExecSetup) -> Result<ExecStarted> {
        self.start_exec(setup).await
    }
    async fn adopt_exec(&self, setup: &ExecSetup) -> Result<ExecStarted> {
        self.join_exec(setup).await
    }

    fn events(&self) -> BoxStream<RuntimeEvent> {
        events::subscribe(self.client.clone(), &self.tasks)
    }
}
