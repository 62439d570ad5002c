//! The runtime port: containers, tasks and execs that are entries in a map.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use gantry_domain::{
    ContainerId, Error, ExecId, Result,
    container::Exit,
    ports::{
        BoxStream, ExecSetup, ExecStarted, OutputChunk, RootMount, Runtime, RuntimeContainer, RuntimeContainerInfo,
        RuntimeEvent, RuntimeVersions, TaskInfo, TaskPid, TaskSetup, TaskStatus,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{Fakes, world::World};

const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

#[async_trait]
impl Runtime for Fakes {
    async fn versions(&self) -> Result<RuntimeVersions> {
        self.calls.pass("runtime.versions")?;
        Ok(RuntimeVersions { containerd: "fake".into(), runc: "fake".into(), ..RuntimeVersions::default() })
    }

    async fn create_container(&self, setup: &RuntimeContainer) -> Result<()> {
        self.calls.pass("runtime.create_container")?;
        let mut world = self.world();
        world.snapshots.insert(setup.id.clone());
        world.containers.insert(setup.id.clone(), setup.clone());
        Ok(())
    }

    async fn update_container(&self, id: &ContainerId, spec: Option<Bytes>, record: Option<Bytes>) -> Result<()> {
        self.calls.pass_in_time("runtime.update_container").await?;
        let mut world = self.world();
        let container = world.containers.get_mut(id).ok_or_else(|| absent(id))?;
        container.spec = spec.unwrap_or_else(|| container.spec.clone());
        container.record = record.unwrap_or_else(|| container.record.clone());
        Ok(())
    }

    async fn delete_container(&self, id: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("runtime.delete_container").await?;
        let mut world = self.world();
        world.containers.remove(id);
        world.snapshots.remove(id);
        Ok(())
    }

    async fn containers(&self) -> Result<Vec<RuntimeContainerInfo>> {
        self.calls.pass("runtime.containers")?;
        let world = self.world();
        let all = world.containers.values();
        Ok(all.map(|one| RuntimeContainerInfo { id: one.id.clone(), record: Some(one.record.clone()) }).collect())
    }

    async fn container_snapshots(&self) -> Result<Vec<ContainerId>> {
        self.calls.pass("runtime.container_snapshots")?;
        Ok(self.world().snapshots.iter().cloned().collect())
    }

    async fn root_mounts(&self, id: &ContainerId) -> Result<Vec<RootMount>> {
        self.calls.pass("runtime.root_mounts")?;
        if self.world().snapshots.contains(id) { Ok(Vec::new()) } else { Err(absent(id)) }
    }

    async fn root_usage(&self, _: &ContainerId) -> Result<u64> {
        self.calls.pass("runtime.root_usage")?;
        Ok(0)
    }

    async fn create_task(&self, setup: &TaskSetup) -> Result<u32> {
        self.calls.pass_in_time("runtime.create_task").await?;
        let mut world = self.world();
        if !world.sessions.contains_key(&setup.id) {
            return Err(Error::system("the outputs have no reader: the shim would wait for ever"));
        }
        if world.processes.contains_key(&(setup.id.clone(), None)) {
            return Err(Error::conflict("a task is there already"));
        }
        Ok(world.begin(&setup.id, None, TaskStatus::Created))
    }

    async fn start_task(&self, id: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("runtime.start_task").await?;
        let mut world = self.world();
        let process = world.processes.get_mut(&(id.clone(), None)).ok_or_else(|| absent(id))?;
        process.status = TaskStatus::Running;
        Ok(())
    }

    async fn kill(&self, id: &ContainerId, exec: Option<&ExecId>, signal: u32, _all: bool) -> Result<()> {
        self.calls.pass_in_time("runtime.kill").await?;
        let mut world = self.world();
        let process = world.processes.get_mut(&(id.clone(), exec.cloned())).ok_or_else(|| absent(id))?;
        if process.status == TaskStatus::Stopped {
            return Err(absent(id));
        }
        process.signals.push(signal);
        if signal == SIGKILL || (signal == SIGTERM && !process.stubborn) {
            let exit = Exit { code: 128 + signal, at: jiff::Timestamp::now(), oom_killed: false };
            world.exit(id, exec, exit);
        }
        Ok(())
    }

    async fn wait(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<Exit> {
        self.calls.pass_in_time("runtime.wait").await?;
        let seen = self.world().processes.get(&(id.clone(), exec.cloned())).map(|process| process.exit.subscribe());
        let mut exit = seen.ok_or_else(|| absent(id))?;
        let seen = exit.wait_for(Option::is_some).await.map(|exit| *exit).ok().flatten();
        seen.ok_or_else(|| absent(id))
    }

    async fn delete_task(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<Option<Exit>> {
        self.calls.pass_in_time("runtime.delete_task").await?;
        let mut world = self.world();
        let key = (id.clone(), exec.cloned());
        let Some(process) = world.processes.get(&key) else { return Ok(None) };
        // containerd's own delete of a task that never ran, or runs on, kills it first.
        let exit = *process.exit.borrow();
        world.processes.remove(&key);
        if exec.is_none() {
            world.processes.retain(|(owner, _), _| owner != id);
        }
        Ok(exit)
    }

    async fn abandon_task(&self, id: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("runtime.abandon_task").await?;
        self.world().processes.retain(|(owner, _), _| owner != id);
        Ok(())
    }

    async fn task(&self, id: &ContainerId) -> Result<Option<TaskInfo>> {
        self.calls.pass("runtime.task")?;
        Ok(tasks(&self.world()).into_iter().find(|task| task.id == *id))
    }

    async fn tasks(&self) -> Result<Vec<TaskInfo>> {
        self.calls.pass("runtime.tasks")?;
        let world = self.world();
        let mut listed = tasks(&world);
        listed.retain(|task| !world.unlisted.contains(&task.id));
        Ok(listed)
    }

    async fn pids(&self, id: &ContainerId) -> Result<Vec<TaskPid>> {
        self.calls.pass("runtime.pids")?;
        let world = self.world();
        let living =
            world.processes.iter().filter(|((owner, _), process)| owner == id && process.status != TaskStatus::Stopped);
        Ok(living.map(|((_, exec), process)| TaskPid { pid: process.pid, exec: exec.clone() }).collect())
    }

    async fn resize(&self, _: &ContainerId, _: Option<&ExecId>, _: u32, _: u32) -> Result<()> {
        self.calls.pass("runtime.resize")
    }

    async fn close_stdin(&self, _: &ContainerId, _: Option<&ExecId>) -> Result<()> {
        self.calls.pass("runtime.close_stdin")
    }

    async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.calls.pass_in_time("runtime.pause").await?;
        set_status(&mut self.world(), id, TaskStatus::Paused)
    }

    async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.calls.pass("runtime.resume")?;
        set_status(&mut self.world(), id, TaskStatus::Running)
    }

    async fn update_resources(&self, id: &ContainerId, resources: Bytes) -> Result<()> {
        self.calls.pass_in_time("runtime.update_resources").await?;
        self.world().limits.insert(id.clone(), resources);
        Ok(())
    }

    async fn exec(&self, setup: &ExecSetup) -> Result<ExecStarted> {
        self.calls.pass_in_time("runtime.exec").await?;
        let mut world = self.world();
        let pid = world.begin(&setup.container, Some(setup.exec.clone()), TaskStatus::Running);
        let Some((code, data)) = world.exec_ends.clone() else {
            let silent = setup.output.then(|| futures::stream::pending().boxed());
            return Ok(ExecStarted { pid, stdin: None, output: silent });
        };
        let exit = Exit { code, at: jiff::Timestamp::now(), oom_killed: false };
        world.exit(&setup.container, Some(&setup.exec), exit);
        let chunk = OutputChunk { stream: gantry_domain::log::Stream::Stdout, data };
        let output = setup.output.then(|| futures::stream::iter([Ok(chunk)]).boxed());
        Ok(ExecStarted { pid, stdin: None, output })
    }

    async fn adopt_exec(&self, setup: &ExecSetup) -> Result<ExecStarted> {
        self.calls.pass("runtime.adopt_exec")?;
        let world = self.world();
        let key = (setup.container.clone(), Some(setup.exec.clone()));
        let process = world.processes.get(&key).ok_or_else(|| absent(&setup.container))?;
        Ok(ExecStarted { pid: process.pid, stdin: None, output: None })
    }

    fn events(&self) -> BoxStream<RuntimeEvent> {
        let (sender, events) = mpsc::unbounded_channel();
        self.world().events.push(sender);
        UnboundedReceiverStream::new(events).boxed()
    }
}

fn tasks(world: &World) -> Vec<TaskInfo> {
    let inits = world.processes.iter().filter(|((_, exec), _)| exec.is_none());
    inits
        .map(|((id, _), process)| TaskInfo {
            id: id.clone(),
            status: process.status,
            pid: process.pid,
            exit: *process.exit.borrow(),
        })
        .collect()
}

fn set_status(world: &mut World, id: &ContainerId, status: TaskStatus) -> Result<()> {
    let process = world.processes.get_mut(&(id.clone(), None)).ok_or_else(|| absent(id))?;
    process.status = status;
    Ok(())
}

fn absent(id: &ContainerId) -> Error {
    Error::not_found(format!("{id}: not found"))
}
