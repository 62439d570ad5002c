//! A blob that is written piece by piece and may be gone on with by a later writer: containerd keeps what has come under
//! the name of the blob's digest, for a day, whether this process lives on or not.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use containerd_client::services::v1::{AbortRequest, ListStatusesRequest, Status, WriteAction, WriteContentRequest};
use gantry_domain::{Digest, Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use super::{chunks::PIECE, content::Content};
use crate::client;

/// What the names of such blobs begin with.
const PREFIX: &str = "gantry-blob-";
/// Bytes of one message to the content store.
const MESSAGE: usize = 1 << 20;
/// A writer whose process was killed is let go of soon.
const LOCKED_TRIES: u32 = 50;
const LOCKED_WAIT: Duration = Duration::from_millis(100);

pub struct Writer {
    content: Content,
    digest: Digest,
    size: u64,
    /// Bytes that came to us, of which the last are in `pending`.
    offset: u64,
    pending: Vec<u8>,
    /// Put on the blob with its commit.
    labels: HashMap<String, String>,
    requests: mpsc::Sender<WriteContentRequest>,
    /// Reads containerd's answers to the end; whether the blob was committed.
    answers: AbortOnDropHandle<Result<bool, tonic::Status>>,
}

impl Writer {
    /// `None` when the blob is here. Nobody else in this process may write it meanwhile.
    pub async fn open(content: &Content, digest: &Digest, size: u64) -> Result<Option<Self>> {
        for _ in 0..LOCKED_TRIES {
            match Self::try_open(content, digest, size).await {
                Ok(writer) => return Ok(Some(writer)),
                Err(status) if status.code() == tonic::Code::AlreadyExists => return Ok(None),
                Err(status) if status.message().contains("locked") => tokio::time::sleep(LOCKED_WAIT).await,
                Err(status) => return Err(client::error(status)),
            }
        }
        Err(Error::unavailable(format!("blob {digest} is being written by another process")))
    }

    async fn try_open(content: &Content, digest: &Digest, size: u64) -> Result<Self, tonic::Status> {
        let (requests, outgoing) = mpsc::channel(2);
        let stat = WriteContentRequest {
            action: WriteAction::Stat as i32,
            total: size as i64,
            expected: digest.to_string(),
            ..WriteContentRequest::default()
        };
        let stat = WriteContentRequest { r#ref: name(digest), ..stat };
        requests.send(stat).await.map_err(|_| tonic::Status::cancelled("closed"))?;
        let mut answers = content.client().content().write(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = answers.message().await?.ok_or_else(|| tonic::Status::cancelled("no answer"))?;
        let reading = tokio::spawn(async move {
            let mut committed = false;
            while let Some(answer) = answers.message().await? {
                committed |= answer.action == WriteAction::Commit as i32;
            }
            Ok(committed)
        });
        Ok(Self {
            content: content.clone(),
            digest: digest.clone(),
            size,
            offset: first.offset.max(0) as u64,
            pending: Vec::with_capacity(MESSAGE + PIECE),
            labels: HashMap::new(),
            requests,
            answers: AbortOnDropHandle::new(reading),
        })
    }

    /// Bytes that are here.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes; more than the blob's size are refused.
    pub async fn write(&mut self, data: &Bytes) -> Result<()> {
        if self.offset + data.len() as u64 > self.size {
            return Err(self.wrong());
        }
        self.offset += data.len() as u64;
        self.pending.extend_from_slice(data);
        if self.pending.len() >= MESSAGE { self.flush().await } else { Ok(()) }
    }

    /// Hands containerd what waits here, so that it stays whatever becomes of us.
    pub async fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.pending, Vec::with_capacity(MESSAGE + PIECE));
        let offset = self.offset - data.len() as u64;
        self.send(WriteAction::Write, offset, data).await
    }

    async fn send(&mut self, action: WriteAction, offset: u64, data: Vec<u8>) -> Result<()> {
        let request = WriteContentRequest {
            action: action as i32,
            r#ref: name(&self.digest),
            offset: offset as i64,
            data,
            ..WriteContentRequest::default()
        };
        let request = match action {
            WriteAction::Commit => WriteContentRequest {
                expected: self.digest.to_string(),
                total: self.size as i64,
                labels: std::mem::take(&mut self.labels),
                ..request
            },
            _ => request,
        };
        if self.requests.send(request).await.is_ok() {
            return Ok(());
        }
        match (&mut self.answers).await {
            Ok(Err(status)) => Err(client::error(status)),
            _ => Err(Error::system("containerd stopped taking the blob")),
        }
    }

    /// The blob is here when this returns, its digest checked by containerd over every byte. `DataLoss` when the bytes
    /// are not those of the digest: then nothing stays.
    pub async fn commit(mut self, labels: HashMap<String, String>) -> Result<()> {
        self.flush().await?;
        self.labels = labels;
        self.send(WriteAction::Commit, self.offset, Vec::new()).await?;
        let Self { content, digest, requests, answers, .. } = self;
        drop(requests);
        let ended = answers.await.map_err(|error| Error::system(format!("writing a blob stopped: {error}")))?;
        match ended {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::system("containerd did not take the blob")),
            Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(()),
            Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                tracing::warn!(%digest, error = status.message(), "a registry sent wrong bytes");
                abort(&content, &digest).await;
                Err(verification_failed(&digest))
            }
            Err(status) => Err(client::error(status)),
        }
    }

    /// Throws away what has come.
    pub async fn abort(self) {
        let Self { content, digest, requests, answers, .. } = self;
        drop(requests);
        // Its lock goes with the call; how it ends says nothing.
        let _ = answers.await;
        abort(&content, &digest).await;
    }

    fn wrong(&self) -> Error {
        verification_failed(&self.digest)
    }
}

pub fn verification_failed(digest: &Digest) -> Error {
    Error::new(ErrorKind::DataLoss, format!("filesystem layer verification failed for digest {digest}"))
}

/// Blobs of which a part is here, with its bytes.
pub async fn partial(content: &Content) -> Result<Vec<(Digest, u64)>> {
    let answer = client::retry(|| async {
        content.client().content().list_statuses(ListStatusesRequest { filters: Vec::new() }).await
    });
    let known = |status: Status| {
        let digest = Digest::parse(status.r#ref.strip_prefix(PREFIX)?).ok()?;
        Some((digest, status.offset.max(0) as u64))
    };
    Ok(answer.await?.statuses.into_iter().filter_map(known).collect())
}

fn name(digest: &Digest) -> String {
    format!("{PREFIX}{digest}")
}

pub async fn abort(content: &Content, digest: &Digest) {
    if let Err(error) = content.client().content().abort(AbortRequest { r#ref: name(digest) }).await {
        // Not there any more, or containerd is gone: its age sees to the rest.
        tracing::debug!(%digest, %error, "the ingest was not aborted");
    }
}
