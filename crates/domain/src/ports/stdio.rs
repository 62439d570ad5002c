//! The companion of a run: owner of its standard streams and writer of its log.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;

use super::{BoxStream, ByteSink, OutputChunk};
use crate::{ContainerId, Result};

/// Sessions with `gantry-stdio`, one for each run of a container.
#[async_trait]
pub trait Stdio: Send + Sync {
    /// Makes the FIFOs, hands them to a companion that stands ready, and returns when both outputs have readers.
    /// May be repeated after a failed start.
    async fn open(&self, setup: &StdioSetup) -> Result<StdioPaths>;
    /// After a restart of gantryd, or when a companion has died: joins the companion of the run, or puts a successor
    /// in its place, which marks the gap in the log. Does nothing harmful when all is well.
    async fn adopt(&self, setup: &StdioSetup) -> Result<()>;
    /// Joins the streams. Output begins with the first byte after `log_position` of the answer.
    /// `NotFound` when the run has no companion.
    async fn attach(&self, id: &ContainerId, request: &AttachRequest) -> Result<AttachStreams>;
    /// Returns when everything the run wrote is in the log, however slowly clients read, or at the companion's death.
    /// To be called when the task has exited.
    async fn drained(&self, id: &ContainerId) -> Result<()>;
    /// Ends the run's streams and removes its FIFOs and socket. Attached clients still get what was written before.
    /// Absent is `Ok`.
    async fn close(&self, id: &ContainerId) -> Result<()>;
    /// Runs for which there are FIFOs or a companion; for the reconciliation.
    async fn sessions(&self) -> Result<Vec<ContainerId>>;
    /// Companions that died since the last call of `next`: the engine answers each with `adopt`.
    fn deaths(&self) -> BoxStream<ContainerId>;
    /// End of input was asked by a client on a container with `StdinOnce`: the engine calls `Runtime::close_stdin`.
    fn stdin_ends(&self) -> BoxStream<ContainerId>;
}

/// How the streams of one run are to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdioSetup {
    pub id: ContainerId,
    /// Number of the run.
    pub run: u64,
    pub terminal: bool,
    pub stdin: bool,
    /// The end of the first client's input ends the container's.
    pub stdin_once: bool,
    pub log: LogSink,
}

/// Where output is kept for `docker logs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSink {
    None,
    /// Docker's json-file format.
    JsonFile(LogFile),
    /// Gantry's compact format, for the driver `local` and as the cursor file of remote drivers.
    Local(LogFile),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    pub path: PathBuf,
    /// Bytes in one file before it is rotated; `None` never.
    pub max_size: Option<u64>,
    /// Files kept, the current one included; at least 1.
    pub max_files: u32,
    pub compress: bool,
    /// Extra attributes of each entry (`labels`, `env`, `tag`).
    pub attrs: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdioPaths {
    /// Empty where there is no such stream.
    pub stdin: String,
    pub stdout: String,
    /// Empty with a terminal.
    pub stderr: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachRequest {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// One client's place at a run.
pub struct AttachStreams {
    /// Bytes in the current log file at the moment of joining: the history for `logs=1` is what lies before it.
    pub log_position: Option<u64>,
    pub output: BoxStream<Result<OutputChunk>>,
    /// Closing it ends this client's input.
    pub stdin: Option<ByteSink>,
}
