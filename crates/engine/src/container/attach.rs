//! `POST /containers/{id}/attach`: a client joins a run, or waits for the next one.
//!
//! On a container that does not run, the session lives here until a start joins it to the companion, before the
//! process begins, so that no byte is missed.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use gantry_domain::{
    ContainerId, Error, Result,
    container::Status,
    log::LogQuery,
    ports::{AttachRequest, AttachStreams, BoxStream, ByteSink, LogEnd, OutputChunk},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Attached, ContainerAttach,
    owner::{Handle, Owner},
};
use crate::Engine;

/// Chunks of input that a client may send before the container starts.
const EARLY_INPUT: usize = 64;

/// A client that waits for a run to begin.
pub(crate) struct PendingAttach {
    pub request: AttachRequest,
    pub joined: oneshot::Sender<AttachStreams>,
}

impl Engine {
    /// Joins the streams; allowed on a created, running or exited container.
    pub async fn container_attach(&self, name: &str, request: ContainerAttach) -> Result<Attached> {
        let handle = self.parts.container(name)?;
        let snapshot = handle.snapshot();
        snapshot.may_attach(name)?;
        let record = snapshot.record.clone();
        let streams = AttachRequest {
            stdin: request.stdin && record.config.open_stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        let live = if request.stream { Some(self.join(&handle, streams).await?) } else { None };
        let position = live.as_ref().and_then(|joined| joined.log_position);
        let history = if request.logs { Some(self.history(&handle, &request, position).await?) } else { None };
        self.parts.events.publish(super::owner::container_event(&record, "attach".into(), &[], jiff::Timestamp::now()));
        let (live_output, stdin) = match live {
            Some(Joined { output, stdin, .. }) => (output, stdin),
            None => (Box::pin(stream::empty()) as BoxStream<_>, None),
        };
        let output = match history {
            Some(history) => Box::pin(history.chain(live_output)) as BoxStream<_>,
            None => live_output,
        };
        Ok(Attached {
            id: record.id.clone(),
            terminal: record.config.tty,
            output,
            stdin: stdin.filter(|_| request.stdin),
        })
    }

    /// The client typed the detach keys: the container goes on.
    pub fn container_detached(&self, id: &ContainerId) {
        if let Ok(handle) = self.parts.container(id.as_str()) {
            let record = handle.snapshot().record;
            self.parts.events.publish(super::owner::container_event(
                &record,
                "detach".into(),
                &[],
                jiff::Timestamp::now(),
            ));
        }
    }

    async fn join(&self, handle: &Arc<Handle>, request: AttachRequest) -> Result<Joined> {
        handle.run_unless_hurried(move |owner| owner.attach(request).boxed()).await
    }

    async fn history(
        &self,
        handle: &Arc<Handle>,
        request: &ContainerAttach,
        position: Option<u64>,
    ) -> Result<BoxStream<Result<OutputChunk>>> {
        let record = handle.snapshot().record;
        if record.log_path.is_empty() {
            return Ok(Box::pin(stream::empty()));
        }
        let query = LogQuery { stdout: request.stdout, stderr: request.stderr, ..LogQuery::default() };
        let end = match position {
            Some(position) => LogEnd::At(position),
            None => LogEnd::Now,
        };
        let batches = self.parts.ports.files.read_log(record.log_path.clone().into(), query, end).await?;
        let chunks = batches.map_ok(|batch| {
            let entries = batch.entries;
            let data = batch.data;
            stream::iter(entries.into_iter().map(move |entry| {
                let from = entry.start as usize;
                Ok(OutputChunk { stream: entry.stream, data: data.slice(from..from + entry.len as usize) })
            }))
        });
        Ok(Box::pin(chunks.try_flatten()))
    }
}

/// A client's streams, of a run that is on or one that will be.
pub(crate) struct Joined {
    pub log_position: Option<u64>,
    pub output: BoxStream<Result<OutputChunk>>,
    pub stdin: Option<ByteSink>,
}

impl From<AttachStreams> for Joined {
    fn from(streams: AttachStreams) -> Self {
        Self { log_position: streams.log_position, output: streams.output, stdin: streams.stdin }
    }
}

impl Owner {
    async fn attach(&mut self, request: AttachRequest) -> Result<Joined> {
        if self.status == Status::Running {
            match self.parts.ports.stdio.attach(self.id(), &request).await {
                Ok(streams) => return Ok(streams.into()),
                // The run is just ending: this client waits for the next one, as it would a moment later.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        // A client that went away is forgotten with the next one.
        self.pending.retain(|pending| !pending.joined.is_closed());
        let (joined, joining) = oneshot::channel();
        self.pending.push(PendingAttach { request, joined });
        Ok(later(request, joining))
    }

    /// Joins those who waited to the companion; called between its opening and the task's start.
    pub(crate) async fn join_pending(&mut self) -> Result<()> {
        for pending in std::mem::take(&mut self.pending) {
            if pending.joined.is_closed() {
                continue;
            }
            let streams = self.parts.ports.stdio.attach(&self.record.id, &pending.request).await?;
            // A client that just left drops the streams.
            let _ = pending.joined.send(streams);
        }
        Ok(())
    }
}

/// Streams whose other end comes with the start; they end if the container goes without one.
fn later(request: AttachRequest, joining: oneshot::Receiver<AttachStreams>) -> Joined {
    let (early, mut input) = mpsc::channel::<Bytes>(EARLY_INPUT);
    let output = async move {
        let Ok(streams) = joining.await else { return Box::pin(stream::empty()) as BoxStream<_> };
        let Some(mut stdin) = streams.stdin else { return streams.output };
        // Ends with the client's input or the container's; it holds nothing else.
        let pump = async move {
            while let Some(bytes) = input.recv().await {
                if stdin.send(bytes).await.is_err() {
                    return;
                }
            }
            let _ = stdin.close().await;
        };
        Box::pin(WithPump { output: streams.output, pump: AbortOnDrop(tokio::spawn(pump)) }) as BoxStream<_>
    };
    let sink = tokio_util::sync::PollSender::new(early)
        .sink_map_err(|_| Error::cancelled("the container does not read its input"));
    Joined {
        log_position: None,
        output: Box::pin(output.flatten_stream()),
        stdin: request.stdin.then(|| Box::pin(sink) as ByteSink),
    }
}

/// The output of a client together with the task that carries its input.
struct WithPump {
    output: BoxStream<Result<OutputChunk>>,
    #[expect(dead_code, reason = "held so that the pump ends with the client")]
    pump: AbortOnDrop,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl futures::Stream for WithPump {
    type Item = Result<OutputChunk>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.output.poll_next_unpin(context)
    }
}
