//! Tasks: a container's shim and its first process.

use std::time::Duration;

use bytes::Bytes;
use containerd_client::{
    services::v1::{
        CloseIoRequest, CreateTaskRequest, DeleteTaskRequest, GetRequest, KillRequest, ListPidsRequest,
        ListTasksRequest, PauseTaskRequest, ResizePtyRequest, ResumeTaskRequest, StartRequest, UpdateTaskRequest,
        WaitRequest,
    },
    types::v1::{Process, Status},
};
use gantry_domain::{
    ContainerId, Error, ErrorKind, ExecId, Result,
    container::Exit,
    ports::{TaskInfo, TaskPid, TaskSetup, TaskStatus},
    selinux,
};
use jiff::Timestamp;
use prost::Message;

use super::{ContainerdRuntime, options, start_error};
use crate::client::{Client, error, retry};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl ContainerdRuntime {
    pub(super) async fn make_task(&self, setup: &TaskSetup) -> Result<u32> {
        let config = self.config();
        let other = config.other_shim(&setup.runtime)?;
        let shim = match other {
            Some(other) => other.to_owned(),
            None if config.wants_stock_shim(&setup.runtime)? => String::new(),
            None => self.shim.path(),
        };
        let request = CreateTaskRequest {
            container_id: setup.id.to_string(),
            rootfs: labelled(self.mounts(&setup.id).await?, &setup.mount_label),
            stdin: setup.stdin.clone(),
            stdout: setup.stdout.clone(),
            stderr: setup.stderr.clone(),
            terminal: setup.terminal,
            // Given here too, so that a changed path of a runtime holds from the next start on.
            options: config.options(&setup.runtime, setup.stdio_owner, &self.folders)?,
            runtime_path: shim.clone(),
            ..CreateTaskRequest::default()
        };
        let mut made = self.make_task_of(&setup.id, &request).await;
        if other.is_none() && made.as_ref().is_err_and(|error| self.shim.was_missed(&shim, error)) {
            let request = CreateTaskRequest { runtime_path: String::new(), ..request };
            made = self.make_task_of(&setup.id, &request).await;
        }
        made.map_err(start_error::of_create)
    }

    async fn make_task_of(&self, id: &ContainerId, request: &CreateTaskRequest) -> Result<u32> {
        match self.client.tasks().create(request.clone()).await.map_err(error) {
            Err(error) if error.kind() == ErrorKind::Unavailable => self.make_task_again(id, request.clone()).await,
            done => done.map(|answer| answer.into_inner().pid),
        }
    }

    /// containerd went away during the creation: it has either been done, or been cleaned up by the next containerd.
    async fn make_task_again(&self, id: &ContainerId, request: CreateTaskRequest) -> Result<u32> {
        match self.find_task(id).await? {
            Some(task) if task.status == TaskStatus::Created => Ok(task.pid),
            Some(_) => Err(Error::unavailable("containerd went away while the task was made")),
            None => self.client.tasks().create(request).await.map(|answer| answer.into_inner().pid).map_err(error),
        }
    }

    pub(super) async fn run_task(&self, id: &ContainerId) -> Result<()> {
        let request = StartRequest { container_id: id.to_string(), ..StartRequest::default() };
        let mut result = self.client.tasks().start(request.clone()).await.map(drop).map_err(error);
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
            result = match self.find_task(id).await? {
                Some(task) if task.status != TaskStatus::Created => Ok(()),
                _ => self.client.tasks().start(request).await.map(drop).map_err(error),
            };
        }
        result.map_err(start_error::classified)
    }

    pub(super) async fn signal(&self, id: &ContainerId, exec: Option<&ExecId>, signal: u32, all: bool) -> Result<()> {
        let request = KillRequest { container_id: id.to_string(), exec_id: exec_id(exec), signal, all };
        // When the connection broke a signal may come twice; not at all would be worse.
        retry(|| {
            let request = request.clone();
            async { self.client.tasks().kill(request).await }
        })
        .await
    }

    pub(super) async fn remove_task(&self, id: &ContainerId) -> Result<Option<Exit>> {
        let request = DeleteTaskRequest { container_id: id.to_string() };
        let answer = retry(|| {
            let request = request.clone();
            async { self.client.tasks().delete(request).await }
        })
        .await;
        match answer {
            Ok(answer) => Ok(Some(exit(answer.exit_status, answer.exited_at))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn find_task(&self, id: &ContainerId) -> Result<Option<TaskInfo>> {
        Ok(process(&self.client, id, None).await?.map(|process| info(id.clone(), &process)))
    }

    pub(super) async fn list_tasks(&self) -> Result<Vec<TaskInfo>> {
        let answer = retry(|| async { self.client.tasks().list(ListTasksRequest::default()).await }).await?;
        let tasks = answer.tasks.iter().filter_map(|process| {
            // containerd fills one or the other with the container's id.
            let id = if process.container_id.is_empty() { &process.id } else { &process.container_id };
            Some(info(ContainerId::parse(id).ok()?, process))
        });
        Ok(tasks.collect())
    }

    pub(super) async fn list_pids(&self, id: &ContainerId) -> Result<Vec<TaskPid>> {
        let request = ListPidsRequest { container_id: id.to_string() };
        let answer = retry(|| {
            let request = request.clone();
            async { self.client.tasks().list_pids(request).await }
        })
        .await?;
        let pids = answer.processes.into_iter().map(|process| TaskPid {
            pid: process.pid,
            exec: process.info.and_then(|any| {
                let details = options::ProcessDetails::decode(any.value.as_slice()).ok()?;
                ExecId::parse(&details.exec_id).ok()
            }),
        });
        Ok(pids.collect())
    }

    pub(super) async fn resize_terminal(
        &self,
        id: &ContainerId,
        exec: Option<&ExecId>,
        height: u32,
        width: u32,
    ) -> Result<()> {
        let request = ResizePtyRequest { container_id: id.to_string(), exec_id: exec_id(exec), width, height };
        retry(|| {
            let request = request.clone();
            async { self.client.tasks().resize_pty(request).await }
        })
        .await
    }

    pub(super) async fn freeze(&self, id: &ContainerId) -> Result<()> {
        let request = PauseTaskRequest { container_id: id.to_string() };
        match self.client.tasks().pause(request.clone()).await.map_err(error) {
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            done => return done.map(drop),
        }
        if self.find_task(id).await?.is_some_and(|task| task.status == TaskStatus::Paused) {
            return Ok(());
        }
        self.client.tasks().pause(request).await.map(drop).map_err(error)
    }

    pub(super) async fn thaw(&self, id: &ContainerId) -> Result<()> {
        let request = ResumeTaskRequest { container_id: id.to_string() };
        match self.client.tasks().resume(request.clone()).await.map_err(error) {
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            done => return done.map(drop),
        }
        if self.find_task(id).await?.is_some_and(|task| task.status != TaskStatus::Paused) {
            return Ok(());
        }
        self.client.tasks().resume(request).await.map(drop).map_err(error)
    }

    pub(super) async fn set_resources(&self, id: &ContainerId, resources: Bytes) -> Result<()> {
        let request = UpdateTaskRequest {
            container_id: id.to_string(),
            resources: Some(options::oci("LinuxResources", resources)),
            ..UpdateTaskRequest::default()
        };
        retry(|| {
            let request = request.clone();
            async { self.client.tasks().update(request).await }
        })
        .await
    }
}

/// Waits for the end of a process, through any number of restarts of containerd, and never gives up while the process
/// may still run.
pub async fn wait(client: &Client, id: &ContainerId, exec: Option<&ExecId>) -> Result<Exit> {
    let mut pause = FIRST_PAUSE;
    loop {
        let request = WaitRequest { container_id: id.to_string(), exec_id: exec_id(exec) };
        let failed = match client.tasks().wait(request).await.map_err(error) {
            Ok(answer) => {
                let answer = answer.into_inner();
                return Ok(exit(answer.exit_status, answer.exited_at));
            }
            Err(error) if error.is_not_found() => return Err(error),
            Err(error) => error,
        };
        tracing::debug!(container = %id, error = %failed, "waiting for an exit was cut short, asking again");
        match process(client, id, exec).await {
            Ok(None) => return Err(Error::not_found(format!("process of container {id}: not found"))),
            Ok(Some(process)) if process.status() == Status::Stopped => {
                return Ok(exit(process.exit_status, process.exited_at));
            }
            Ok(Some(_)) | Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

pub async fn close_stdin(client: &Client, id: &ContainerId, exec: Option<&ExecId>) -> Result<()> {
    let request = CloseIoRequest { container_id: id.to_string(), exec_id: exec_id(exec), stdin: true };
    retry(|| {
        let request = request.clone();
        async { client.tasks().close_io(request).await }
    })
    .await
}

/// Every file of the root file system bears the label, whatever it has on disk.
fn labelled(mut mounts: Vec<containerd_client::types::Mount>, label: &str) -> Vec<containerd_client::types::Mount> {
    for mount in mounts.iter_mut().filter(|mount| !label.is_empty() && mount.r#type == "overlay") {
        mount.options.push(selinux::mount_option(label));
    }
    mounts
}

/// What containerd knows of a process; `None` when there is none.
pub async fn process(client: &Client, id: &ContainerId, exec: Option<&ExecId>) -> Result<Option<Process>> {
    let request = GetRequest { container_id: id.to_string(), exec_id: exec_id(exec) };
    let answer = retry(|| {
        let request = request.clone();
        async { client.tasks().get(request).await }
    })
    .await;
    match answer {
        Ok(answer) => Ok(answer.process),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn exec_id(exec: Option<&ExecId>) -> String {
    exec.map(ToString::to_string).unwrap_or_default()
}

/// An exit as containerd tells it. Its own time of the exit is the true one; `now` where it has none.
pub fn exit(status: u32, at: Option<prost_types::Timestamp>) -> Exit {
    Exit { code: status, at: timestamp(at).unwrap_or_else(Timestamp::now), oom_killed: false }
}

/// Go's zero time, year 1, counts as none.
pub fn timestamp(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    at.filter(|at| at.seconds > 0).and_then(|at| Timestamp::new(at.seconds, at.nanos).ok())
}

fn info(id: ContainerId, process: &Process) -> TaskInfo {
    let status = match process.status() {
        Status::Created => TaskStatus::Created,
        Status::Running => TaskStatus::Running,
        Status::Paused | Status::Pausing => TaskStatus::Paused,
        Status::Stopped => TaskStatus::Stopped,
        Status::Unknown => TaskStatus::Unknown,
    };
    let exit = (status == TaskStatus::Stopped).then(|| exit(process.exit_status, process.exited_at));
    TaskInfo { id, status, pid: process.pid, exit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_zero_time_is_no_time() {
        assert_eq!(timestamp(Some(prost_types::Timestamp { seconds: -62_135_596_800, nanos: 0 })), None);
        let at = timestamp(Some(prost_types::Timestamp { seconds: 5, nanos: 7 }));
        assert_eq!(at, Timestamp::new(5, 7).ok());
    }

    #[test]
    fn only_a_stopped_task_has_an_exit() {
        let id = ContainerId::random();
        let process = Process { status: Status::Running as i32, pid: 7, ..Process::default() };
        assert_eq!(info(id.clone(), &process).exit, None);
        let process = Process { status: Status::Stopped as i32, exit_status: 137, ..Process::default() };
        assert_eq!(info(id, &process).exit.map(|exit| exit.code), Some(137));
    }
}
