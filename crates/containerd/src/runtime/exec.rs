//! Execs: one more process in a running container, with FIFOs whose other end is in this process.
//!
//! ```text
//!  make FIFOs ─► open readers ─► Tasks.Exec ─► Tasks.Start ─► open stdin ─► session task: carry output, wait for the
//!      └──────── on failure: kill, DeleteProcess, remove ◄────────┘         exit, remove the FIFOs
//! ```

use std::time::Duration;

use containerd_client::services::v1::{DeleteProcessRequest, ExecProcessRequest, StartRequest};
use gantry_domain::{
    ContainerId, Error, ErrorKind, ExecId, Result,
    container::Exit,
    ports::{ByteSink, ExecSetup, ExecStarted},
};
use tokio::{
    net::unix::pipe::{Receiver, Sender},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    ContainerdRuntime,
    container::absent_is_ok,
    fifo::{self, Fifos, Streams},
    options, pump, start_error,
    stdin::Stdin,
    task,
};
use crate::client::{error, retry};

const KILL: u32 = 9;
/// A killed process is gone at once, but on a host that is very busy.
const DYING: Duration = Duration::from_secs(5);

impl ContainerdRuntime {
    pub(super) async fn start_exec(&self, setup: &ExecSetup) -> Result<ExecStarted> {
        let fifos = self.fifos(setup);
        let made = fifos.make().map_err(|error| Error::from(error).context("making the streams of an exec"));
        let started = match made {
            Ok(()) => self.run_exec(setup, &fifos).await,
            Err(error) => Err(error),
        };
        if started.is_err() {
            if let Err(error) = self.undo_exec(setup).await {
                tracing::warn!(exec = %setup.exec, %error, "could not undo a failed exec");
            }
            fifos.remove()?;
        }
        started
    }

    /// The process may run although its start failed for us, and is deleted only when it has ended.
    async fn undo_exec(&self, setup: &ExecSetup) -> Result<()> {
        let (id, exec) = (&setup.container, Some(&setup.exec));
        let living = task::process(&self.client, id, exec).await?.is_some_and(|process| process.pid != 0);
        if living && self.signal(id, exec, KILL, false).await.is_ok() {
            // Without an end in time the deletion fails, and says so.
            let _ = tokio::time::timeout(DYING, task::wait(&self.client, id, exec)).await;
        }
        self.remove_exec(id, &setup.exec).await.map(drop)
    }

    async fn run_exec(&self, setup: &ExecSetup, fifos: &Fifos) -> Result<ExecStarted> {
        // Before Exec, so that the shim never waits for a reader.
        let (stdout, stderr) = (fifo::reader(&fifos.stdout)?, fifo::reader(&fifos.stderr)?);
        let request = ExecProcessRequest {
            container_id: setup.container.to_string(),
            exec_id: setup.exec.to_string(),
            stdin: fifos.stdin.clone(),
            stdout: fifos.stdout.clone(),
            stderr: fifos.stderr.clone(),
            terminal: setup.terminal,
            spec: Some(options::oci("Process", setup.process.clone())),
        };
        self.client.tasks().exec(request).await.map_err(|status| start_error::classified(error(status)))?;
        let pid = self.start_process(setup).await?;
        let stdin = self.open_stdin(setup, &fifos.stdin).await;
        Ok(self.session(setup, fifos.clone(), pid, stdin, stdout, stderr))
    }

    async fn start_process(&self, setup: &ExecSetup) -> Result<u32> {
        let request = StartRequest { container_id: setup.container.to_string(), exec_id: setup.exec.to_string() };
        match self.client.tasks().start(request).await.map_err(error) {
            Ok(answer) => Ok(answer.into_inner().pid),
            // It may have been started all the same.
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                match task::process(&self.client, &setup.container, Some(&setup.exec)).await? {
                    Some(process) if process.pid != 0 => Ok(process.pid),
                    _ => Err(error),
                }
            }
            Err(error) => Err(start_error::classified(error)),
        }
    }

    pub(super) async fn join_exec(&self, setup: &ExecSetup) -> Result<ExecStarted> {
        let fifos = self.fifos(setup);
        let Some(process) = task::process(&self.client, &setup.container, Some(&setup.exec)).await? else {
            fifos.remove()?;
            return Err(Error::not_found(format!("No such exec instance: {}", setup.exec)));
        };
        if !fifos.present() {
            return Ok(ExecStarted { pid: process.pid, stdin: None, output: None });
        }
        let (stdout, stderr) = (fifo::reader(&fifos.stdout)?, fifo::reader(&fifos.stderr)?);
        let stdin = self.open_stdin(setup, &fifos.stdin).await;
        Ok(self.session(setup, fifos, process.pid, stdin, stdout, stderr))
    }

    /// Nobody reads the input of a process that is about to end, which is no reason to lose its output.
    async fn open_stdin(&self, setup: &ExecSetup, path: &str) -> Option<Sender> {
        fifo::writer(path).await.unwrap_or_else(|error| {
            tracing::debug!(exec = %setup.exec, %error, "an exec takes no input");
            None
        })
    }

    fn fifos(&self, setup: &ExecSetup) -> Fifos {
        let streams = Streams { stdin: setup.stdin, stdout: setup.output, stderr: setup.output && !setup.terminal };
        Fifos::at(&self.folders.exec, &setup.exec, streams)
    }

    /// Spawns the owner of the streams and hands out their near ends.
    fn session(
        &self,
        setup: &ExecSetup,
        fifos: Fifos,
        pid: u32,
        stdin: Option<Sender>,
        stdout: Option<Receiver>,
        stderr: Option<Receiver>,
    ) -> ExecStarted {
        if fifos.is_empty() {
            return ExecStarted { pid, stdin: None, output: None };
        }
        let exited = CancellationToken::new();
        let stdin = stdin.map(|pipe| self.input(setup, pipe, exited.clone()));
        let (sender, receiver) = mpsc::channel(1);
        let output = (stdout.is_some() || stderr.is_some()).then(|| Box::pin(ReceiverStream::new(receiver)) as _);
        let (client, container, exec) = (self.client.clone(), setup.container.clone(), setup.exec.clone());
        self.tasks.spawn(async move {
            let watch = async {
                // An error means that it is gone as well.
                let _ = task::wait(&client, &container, Some(&exec)).await;
                exited.cancel();
            };
            tokio::join!(pump::carry(stdout, stderr, sender, &exited), watch);
            if let Err(error) = fifos.remove() {
                tracing::warn!(%exec, %error, "could not remove the streams of an exec");
            }
        });
        ExecStarted { pid, stdin, output }
    }

    fn input(&self, setup: &ExecSetup, pipe: Sender, exited: CancellationToken) -> ByteSink {
        let stdin = Stdin::new(pipe, exited);
        if setup.terminal {
            return Box::pin(stdin);
        }
        Box::pin(stdin.ending(self.client.clone(), setup.container.clone(), setup.exec.clone()))
    }

    /// Takes away what containerd and we hold of an exec that has ended; its output should have been read by then.
    pub(super) async fn remove_exec(&self, id: &ContainerId, exec: &ExecId) -> Result<Option<Exit>> {
        let request = DeleteProcessRequest { container_id: id.to_string(), exec_id: exec.to_string() };
        let answer = retry(|| {
            let request = request.clone();
            async { self.client.tasks().delete_process(request).await }
        })
        .await;
        let exit = answer.as_ref().ok().map(|answer| task::exit(answer.exit_status, answer.exited_at));
        absent_is_ok(answer)?;
        let none = Streams { stdin: false, stdout: false, stderr: false };
        Fifos::at(&self.folders.exec, exec, none).remove()?;
        Ok(exit)
    }
}
