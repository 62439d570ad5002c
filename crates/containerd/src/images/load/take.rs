//! The one pass over an archive of images, on a thread of its own: every member is hashed and stored, every layer is
//! extracted while it comes in.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use gantry_domain::{Digest, Error, Result, ports::LoadProgress};
use sha2::{Digest as _, Sha256};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::task::AbortOnDropHandle;

use super::Progress;
use crate::images::{
    archive::{Kind, Member, TarReader},
    chunks::{Chunks, PipeSender, pipe},
    compression::{Compression, Decompressed},
    content::{Content, Part},
    extract::clean,
    limits::{Kept, MAX_DOCUMENT},
    snapshots::Staged,
    threads,
    unpack::{StagedLayers, Unpacker},
    weighed::Weighed,
};

/// Layers that are extracted at the same time.
const EXTRACTIONS: usize = 3;
/// Blobs that are on their way to the content store or being made durable there.
const INGESTS: usize = 4;
/// Bytes of the names of all members and of what links lead to.
const MAX_NAMES: usize = 16 << 20;
/// Bytes between two progress items of a layer.
const PROGRESS_STEP: u64 = 4 << 20;

/// What the archive held.
#[derive(Default)]
pub struct Archive {
    pub index: Option<Bytes>,
    pub manifest: Option<Bytes>,
    pub repositories: Option<Bytes>,
    /// Members by their path.
    pub members: HashMap<String, Blob>,
    /// Symlinks and hard links: older archives share layers by them.
    pub links: HashMap<String, String>,
    extractions: Vec<(Digest, Extraction)>,
    ingests: Vec<(Digest, bool, AbortOnDropHandle<Result<()>>)>,
}

type Extraction = AbortOnDropHandle<Result<Staged>>;

#[derive(Debug, Clone)]
pub struct Blob {
    pub digest: Digest,
    pub size: u64,
    pub compression: Compression,
}

impl Archive {
    /// Waits until every blob is in the store and under the lease.
    pub async fn stored(&mut self, content: &Content) -> Result<()> {
        for (digest, unknown, ingest) in self.ingests.drain(..) {
            ingest.await.map_err(|error| Error::system(format!("writing a blob stopped: {error}")))??;
            if unknown && !content.claim(&digest).await? {
                return Err(Error::system(format!("blob {digest} came and went")));
            }
        }
        Ok(())
    }

    /// Waits for the layers that are still being extracted. One that failed is left to be extracted from its blob, if
    /// an image needs it, and fails again there.
    pub async fn staged(&mut self) -> StagedLayers {
        let mut staged = StagedLayers::new();
        for (digest, extraction) in self.extractions.drain(..) {
            match extraction.await {
                Ok(Ok(layer)) => drop(staged.insert(digest, layer)),
                Ok(Err(error)) => tracing::debug!(%digest, %error, "a layer was not extracted while it came in"),
                Err(error) => tracing::warn!(%digest, %error, "extraction stopped"),
            }
        }
        staged
    }
}

pub struct Taker {
    unpacker: Unpacker,
    runtime: Handle,
    progress: Progress,
    extractions: Arc<Semaphore>,
    ingests: Arc<Semaphore>,
    names: Kept,
    archive: Archive,
}

impl Taker {
    pub fn new(unpacker: Unpacker, runtime: Handle, progress: Progress) -> Self {
        let slots = |count| Arc::new(Semaphore::new(count));
        let (extractions, ingests) = (slots(EXTRACTIONS), slots(INGESTS));
        let names = Kept::of(MAX_NAMES);
        Self { unpacker, runtime, progress, extractions, ingests, names, archive: Archive::default() }
    }

    /// For waiting until they have ended, however the load goes.
    pub fn extractions(&self) -> Extractions {
        Extractions(self.extractions.clone())
    }

    pub fn take(mut self, source: impl Chunks) -> Result<Archive> {
        let limits = self.unpacker.limits;
        let (stream, _) = Decompressed::new(source)?;
        let mut reader = TarReader::new(Weighed::new(stream, limits));
        let mut count = 0;
        while let Some(member) = reader.next_member()? {
            count += 1;
            if count > limits.members {
                return Err(Error::invalid(format!("archive of images has more than {} members", limits.members)));
            }
            self.member(&member, &mut reader)?;
        }
        reader.drain()?;
        if count == 0 {
            return Err(Error::invalid("the archive is empty or is no tar archive"));
        }
        Ok(self.archive)
    }

    fn member<C: Chunks>(&mut self, member: &Member, reader: &mut TarReader<C>) -> Result<()> {
        let path = String::from_utf8(clean(&member.path)?).map_err(|_| Error::invalid("name is not UTF-8"))?;
        self.names.entry(path.len() + member.link.len())?;
        match member.kind {
            Kind::Symlink => self.link(path, member, true),
            Kind::HardLink => self.link(path, member, false),
            Kind::File if member.sparse.is_some() => Err(Error::invalid("sparse file in an archive of images")),
            Kind::File => self.file(path, member, reader),
            // Folders say nothing; devices and FIFOs have no place here and none in the store.
            _ => Ok(()),
        }
    }

    fn link(&mut self, path: String, member: &Member, relative: bool) -> Result<()> {
        let folder = match path.rsplit_once('/') {
            Some((folder, _)) if relative => folder.as_bytes(),
            _ => b"",
        };
        let target = clean(&[folder, b"/", &member.link].concat())?;
        let target = String::from_utf8(target).map_err(|_| Error::invalid("name is not UTF-8"))?;
        self.archive.links.insert(path, target);
        Ok(())
    }

    fn file<C: Chunks>(&mut self, path: String, member: &Member, reader: &mut TarReader<C>) -> Result<()> {
        let slot = match path.as_str() {
            "index.json" => &mut self.archive.index,
            "manifest.json" => &mut self.archive.manifest,
            "repositories" => &mut self.archive.repositories,
            _ if is_bookkeeping(&path) => return Ok(()),
            _ => return self.blob(path, member.size, reader),
        };
        let document = reader.data_whole(MAX_DOCUMENT)?;
        // Two of them would let each reader choose another.
        match slot.replace(document.into()) {
            None => Ok(()),
            Some(_) => Err(Error::invalid(format!("archive holds {path} twice"))),
        }
    }

    fn blob<C: Chunks>(&mut self, path: String, size: u64, reader: &mut TarReader<C>) -> Result<()> {
        let expected = match path.strip_prefix("blobs/") {
            None => None,
            Some(blob) => Some(Digest::parse(&blob.replacen('/', ":", 1))?),
        };
        let here = match &expected {
            Some(digest) => self.runtime.block_on(self.unpacker.content.claim(digest))?,
            None => false,
        };
        let head = head_of(reader, size)?;
        let compression = Compression::detect(&head);
        let ingest = if here { None } else { Some(self.ingest()?) };
        let extraction = match !here && self.unpacker.snapshots.is_overlay() && is_layer(&head, compression) {
            true => Some(self.extract()?),
            false => None,
        };
        let digest = self.pour(&path, head, size, reader, ingest.as_ref(), extraction.as_ref())?;
        if expected.as_ref().is_some_and(|expected| *expected != digest) {
            return Err(Error::invalid(format!("digest mismatch: {path} has {digest}")));
        }
        if let Some(ingest) = ingest {
            ingest.send(Part::Commit { digest: digest.clone(), size });
            // One of unknown digest may have been here already, and then our lease does not hold it yet.
            self.archive.ingests.push((digest.clone(), expected.is_none(), ingest.task));
        }
        if let Some((sender, extraction)) = extraction {
            sender.end();
            self.archive.extractions.push((digest.clone(), extraction));
        }
        self.archive.members.insert(path, Blob { digest, size, compression });
        Ok(())
    }

    /// Hands every byte to the hash, the content store and the extraction.
    fn pour<C: Chunks>(
        &self,
        path: &str,
        head: Bytes,
        size: u64,
        reader: &mut TarReader<C>,
        ingest: Option<&Ingest>,
        extraction: Option<&(PipeSender, Extraction)>,
    ) -> Result<Digest> {
        let mut hash = Sha256::new();
        let (mut current, mut told) = (0u64, 0u64);
        let mut next = Some(head);
        while let Some(data) = next {
            hash.update(&data);
            current += data.len() as u64;
            if let Some((sender, _)) = extraction {
                // One that failed keeps its error; the blob is stored all the same.
                sender.send(data.clone());
            }
            if let Some(ingest) = ingest {
                ingest.send(Part::Data(data));
            }
            if extraction.is_some() && (current - told >= PROGRESS_STEP || current == size) {
                told = current;
                self.tell(path, current, size);
            }
            next = reader.data()?;
        }
        Ok(Digest::from_sha256(&hash.finalize()))
    }

    fn tell(&self, path: &str, current: u64, total: u64) {
        let name = path.rsplit('/').find(|part| *part != "layer.tar").unwrap_or(path);
        let id: String = name.chars().take(12).collect();
        // A slow client misses a line and delays nothing.
        let _ = self.progress.try_send(Ok(LoadProgress::Layer { id, current, total }));
    }

    fn ingest(&self) -> Result<Ingest> {
        let permit = self.slot(&self.ingests)?;
        let (sender, receiver) = mpsc::channel(crate::images::chunks::DEPTH);
        let content = self.unpacker.content.clone();
        let task = self.runtime.spawn(async move {
            let written = content.ingest(receiver).await;
            drop(permit);
            written
        });
        Ok(Ingest { sender, task: AbortOnDropHandle::new(task) })
    }

    fn slot(&self, of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
        self.runtime.block_on(of.clone().acquire_owned()).map_err(|_| Error::system("the load is closed"))
    }

    fn extract(&self) -> Result<(PipeSender, Extraction)> {
        let permit = self.slot(&self.extractions)?;
        let (sender, source) = pipe();
        let (snapshots, limits, runtime) =
            (self.unpacker.snapshots.clone(), self.unpacker.limits, self.runtime.clone());
        let work = threads::run("gantry-extract", move || {
            let staged = snapshots.stage(&runtime, source, limits);
            drop(permit);
            staged
        });
        Ok((sender, AbortOnDropHandle::new(self.runtime.spawn(work))))
    }
}

/// The slots of the layers that are being extracted.
pub struct Extractions(Arc<Semaphore>);

impl Extractions {
    pub async fn ended(&self) {
        // Fails only when closed, and nobody closes it.
        let _ = self.0.acquire_many(EXTRACTIONS as u32).await;
    }
}

struct Ingest {
    sender: mpsc::Sender<Part>,
    task: AbortOnDropHandle<Result<()>>,
}

impl Ingest {
    fn send(&self, part: Part) {
        // A failed ingest tells why when its task is awaited.
        let _ = self.sender.blocking_send(part);
    }
}

/// What old archives keep beside each layer, and the mark of an OCI layout.
fn is_bookkeeping(path: &str) -> bool {
    path == "oci-layout" || path.ends_with("/VERSION") || path.ends_with("/json")
}

/// Enough of the member to tell what it is.
fn head_of<C: Chunks>(reader: &mut TarReader<C>, size: u64) -> Result<Bytes> {
    let mut head = reader.data()?.unwrap_or_default();
    while (head.len() as u64) < size.min(512) {
        let Some(more) = reader.data()? else { break };
        head = [head, more].concat().into();
    }
    Ok(head)
}

fn is_layer(head: &[u8], compression: Compression) -> bool {
    compression != Compression::None || head.get(257..262) == Some(b"ustar")
}
