//! Blobs in containerd's content store: written while they arrive, read whole or as a stream, kept by leases and labels.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use containerd_client::services::v1::{
    AbortRequest, AddResourceRequest, DeleteContentRequest, Info, InfoRequest, ListContentRequest, ReadContentRequest,
    Resource, UpdateRequest, WriteAction, WriteContentRequest,
};
use futures::{StreamExt as _, TryStreamExt as _};
use gantry_domain::{Digest, Error, ErrorKind, Result, id::random_hex, ports::ByteStream};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{cache::BlobCache, limits::MAX_DOCUMENT};
use crate::client::{self, Client};

/// Bytes of one message to the content store.
const MESSAGE: usize = 1 << 20;

/// The content store, seen through one lease or none.
#[derive(Clone)]
pub struct Content {
    client: Client,
    lease: Option<String>,
    cache: BlobCache,
}

impl Content {
    pub fn new(client: Client) -> Self {
        Self { client, lease: None, cache: BlobCache::default() }
    }

    /// What is written or claimed through it is kept by the lease.
    pub fn with_lease(&self, lease: &str) -> Result<Self> {
        Ok(Self { client: self.client.with_lease(lease)?, lease: Some(lease.to_owned()), cache: self.cache.clone() })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }
    pub fn cache(&self) -> &BlobCache {
        &self.cache
    }

    /// Puts a blob that is here under our lease and says whether it is: from then on it stays.
    pub async fn claim(&self, digest: &Digest) -> Result<bool> {
        Ok(self.claim_size(digest).await?.is_some())
    }

    /// The same, with its size in bytes.
    pub async fn claim_size(&self, digest: &Digest) -> Result<Option<u64>> {
        // Each change of a lease is a synchronous write of containerd's.
        if self.size(digest).await?.is_none() {
            return Ok(None);
        }
        self.reserve(digest).await?;
        // It may have been collected before the lease had it.
        self.size(digest).await
    }

    /// Puts a blob under our lease, also one that is not here yet: when it comes it stays.
    pub async fn reserve(&self, digest: &Digest) -> Result<()> {
        self.claim_resource(digest.as_str(), "content").await
    }

    /// The same for any kind of resource (`content`, `snapshots/overlayfs`).
    pub async fn claim_resource(&self, id: &str, kind: &str) -> Result<()> {
        let Some(lease) = &self.lease else { return Ok(()) };
        let request = AddResourceRequest {
            id: lease.clone(),
            resource: Some(Resource { id: id.to_owned(), r#type: kind.to_owned() }),
        };
        client::retry(|| {
            let request = request.clone();
            async move { self.client.leases().add_resource(request).await }
        })
        .await?;
        Ok(())
    }

    pub async fn info(&self, digest: &Digest) -> Result<Option<Info>> {
        let request = InfoRequest { digest: digest.to_string() };
        let answer = client::retry(|| {
            let request = request.clone();
            async move { self.client.content().info(request).await }
        });
        match answer.await {
            Ok(answer) => Ok(answer.info),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes; `None` when it is not here.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.info(digest).await?.map(|info| info.size.max(0) as u64))
    }

    pub async fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let mut answers =
            self.client.content().list(ListContentRequest::default()).await.map_err(client::error)?.into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await.map_err(client::error)? {
            // A blob under another algorithm is none of ours.
            all.extend(
                answer
                    .info
                    .iter()
                    .filter_map(|info| Some((Digest::parse(&info.digest).ok()?, info.size.max(0) as u64))),
            );
        }
        Ok(all)
    }

    /// A whole document, its digest checked.
    pub async fn read(&self, digest: &Digest) -> Result<Bytes> {
        if let Some(bytes) = self.cache.get(digest) {
            return Ok(bytes);
        }
        let size = self.size(digest).await?.ok_or_else(|| missing(digest))?;
        if size > MAX_DOCUMENT {
            return Err(Error::invalid(format!("document {digest} is larger than {MAX_DOCUMENT} bytes")));
        }
        let bytes: Vec<u8> = self
            .stream(digest)
            .await?
            .try_fold(Vec::with_capacity(size as usize), |mut all, chunk| async move {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await?;
        if Digest::from_sha256(&Sha256::digest(&bytes)) != *digest {
            return Err(Error::data_loss(format!("blob {digest} is damaged")));
        }
        let bytes = Bytes::from(bytes);
        self.cache.put(digest.clone(), bytes.clone());
        Ok(bytes)
    }

    /// A blob as it is stored; whoever needs it whole and right hashes it.
    pub async fn stream(&self, digest: &Digest) -> Result<ByteStream> {
        self.stream_from(digest, 0).await
    }

    /// The same without its first bytes.
    pub async fn stream_from(&self, digest: &Digest, offset: u64) -> Result<ByteStream> {
        let request = ReadContentRequest { digest: digest.to_string(), offset: offset as i64, size: 0 };
        let answers = self.client.content().read(request).await.map_err(client::error)?.into_inner();
        Ok(answers.map(|answer| answer.map(|answer| Bytes::from(answer.data)).map_err(client::error)).boxed())
    }

    /// Writes a document.
    pub async fn write(&self, bytes: Bytes) -> Result<Digest> {
        let digest = Digest::from_sha256(&Sha256::digest(&bytes));
        if self.claim(&digest).await? {
            return Ok(digest);
        }
        let (sender, receiver) = mpsc::channel(2);
        let size = bytes.len() as u64;
        for part in [Part::Data(bytes.clone()), Part::Commit { digest: digest.clone(), size }] {
            sender.send(part).await.map_err(|_| Error::system("the ingest ended early"))?;
        }
        drop(sender);
        self.ingest(receiver).await?;
        self.cache.put(digest.clone(), bytes);
        Ok(digest)
    }

    /// Takes a blob as it comes. It is there when the last part is `Commit` and the bytes are those of its digest;
    /// otherwise nothing stays.
    pub async fn ingest(&self, parts: mpsc::Receiver<Part>) -> Result<()> {
        let name = format!("gantry-{}", &random_hex()[..24]);
        let written = self.write_parts(&name, parts).await;
        if written.is_err() {
            let abort = AbortRequest { r#ref: name };
            if let Err(error) = self.client.content().abort(abort).await {
                // Not there any more, or containerd is gone: the lease and the age of the ingest see to the rest.
                tracing::debug!(%error, "the ingest was not aborted");
            }
        }
        written
    }

    async fn write_parts(&self, name: &str, parts: mpsc::Receiver<Part>) -> Result<()> {
        let (requests, outgoing) = mpsc::channel(4);
        let mut content = self.client.content();
        let send = send_parts(name, parts, requests);
        let receive = async {
            let mut answers = content.write(ReceiverStream::new(outgoing)).await?.into_inner();
            let mut committed = false;
            while let Some(answer) = answers.message().await? {
                committed |= answer.action == WriteAction::Commit as i32;
            }
            Ok(committed)
        };
        let (sent, received): (Result<()>, Result<bool, tonic::Status>) = tokio::join!(send, receive);
        match received {
            // The status tells why containerd stopped listening; the sender only knows that it did.
            Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(()),
            // What we cut off ourselves ends in a status that only echoes it.
            Err(status) => Err(sent
                .err()
                .filter(|error| error.kind() == ErrorKind::Cancelled || status.code() == tonic::Code::Cancelled)
                .unwrap_or_else(|| client::error(status))),
            Ok(true) => sent,
            Ok(false) => Err(sent.err().unwrap_or_else(|| Error::system("containerd did not take the blob"))),
        }
    }

    /// Takes a blob away, whoever refers to it. Absent is fine.
    pub async fn remove(&self, digest: &Digest) -> Result<()> {
        let request = DeleteContentRequest { digest: digest.to_string() };
        let removed = client::retry(|| {
            let request = request.clone();
            async move { self.client.content().delete(request).await }
        });
        match removed.await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Sets labels on a blob. Keys are containerd's own for garbage collection, values digests and chain ids of ours.
    pub async fn set_labels(&self, digest: &Digest, labels: &BTreeMap<String, String>) -> Result<()> {
        let request = UpdateRequest {
            info: Some(Info {
                digest: digest.to_string(),
                labels: labels.clone().into_iter().collect::<HashMap<_, _>>(),
                ..Info::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: labels.keys().map(|key| format!("labels.{key}")).collect(),
            }),
        };
        client::retry(|| {
            let request = request.clone();
            async move { self.client.content().update(request).await }
        })
        .await?;
        Ok(())
    }
}

/// A part of a blob on its way to the content store.
pub enum Part {
    Data(Bytes),
    Commit { digest: Digest, size: u64 },
}

/// Gathers small pieces into messages.
async fn send_parts(
    name: &str,
    mut parts: mpsc::Receiver<Part>,
    requests: mpsc::Sender<WriteContentRequest>,
) -> Result<()> {
    let stopped = |_| Error::system("containerd stopped taking the blob");
    let mut message = Vec::with_capacity(MESSAGE);
    let mut offset = 0i64;
    while let Some(part) = parts.recv().await {
        let commit = match part {
            Part::Data(data) => {
                message.extend_from_slice(&data);
                None
            }
            Part::Commit { digest, size } => Some((digest, size)),
        };
        if message.len() >= MESSAGE || commit.is_some() && !message.is_empty() {
            let data = std::mem::replace(&mut message, Vec::with_capacity(MESSAGE));
            let length = data.len() as i64;
            requests.send(request(name, WriteAction::Write, offset, data)).await.map_err(stopped)?;
            offset += length;
        }
        if let Some((digest, size)) = commit {
            let total = size as i64;
            let last = request(name, WriteAction::Commit, offset, Vec::new());
            let last = WriteContentRequest { expected: digest.to_string(), total, ..last };
            return requests.send(last).await.map_err(stopped);
        }
    }
    Err(Error::cancelled("the transfer was cut off"))
}

fn request(name: &str, action: WriteAction, offset: i64, data: Vec<u8>) -> WriteContentRequest {
    WriteContentRequest {
        action: action as i32,
        r#ref: name.to_owned(),
        offset,
        data,
        ..WriteContentRequest::default()
    }
}

pub fn missing(digest: &Digest) -> Error {
    Error::not_found(format!("content digest {digest}: not found"))
}
