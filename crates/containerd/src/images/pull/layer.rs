//! The layers of one image: a few at a time, each from where it was left, stored and extracted while it comes.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use gantry_domain::{Error, ErrorKind, Result, image::Descriptor, ports::PullStep};
use tokio::sync::oneshot;

use super::{Chosen, Job, Teller};
use crate::images::{
    ContainerdImages,
    chunks::{self, PipeSender},
    snapshots::Staged,
    sources, threads,
    unpack::StagedLayers,
    writer::Writer,
};

/// Pieces between the network and the extraction of one layer: bounds the memory of a pull.
const DEPTH: usize = 16;
/// Time between two lines of one layer.
const STEP: Duration = Duration::from_millis(100);
/// The longest wait before a transfer is begun again.
const MAX_WAIT: u64 = 16;

/// An extraction that takes bytes.
struct Extraction {
    sender: PipeSender,
    done: oneshot::Receiver<Result<Staged>>,
}

/// Why a transfer stopped.
enum Stop {
    /// The network or the registry: it may go on from here.
    Cut(Error),
    /// For good.
    Failed(Error),
}

impl ContainerdImages {
    /// Everything that was missing; whether there was anything.
    pub(super) async fn layers(&self, job: &Job, chosen: &Chosen, teller: &Teller) -> Result<(StagedLayers, bool)> {
        let mut missing = Vec::new();
        for layer in &chosen.layers {
            let here = job.unpacker.content.claim(&layer.digest).await?;
            teller.layer(layer, if here { PullStep::Exists } else { PullStep::Queued });
            if !here {
                missing.push(layer);
            }
        }
        let fetched = !missing.is_empty();
        let slots = job.repository.config().downloads.max(1);
        for layer in missing.iter().skip(slots) {
            teller.layer(layer, PullStep::Waiting);
        }
        let mut waiting = Vec::new();
        for layer in missing {
            waiting.push(self.layer(job, layer, teller));
        }
        let mut transfers = futures::stream::iter(waiting).buffer_unordered(slots);
        let mut staged = StagedLayers::new();
        while let Some(layer) = transfers.next().await {
            staged.extend(layer?);
        }
        Ok((staged, fetched))
    }

    async fn layer(
        &self,
        job: &Job,
        layer: &Descriptor,
        teller: &Teller,
    ) -> Result<Option<(gantry_domain::Digest, Staged)>> {
        // Whoever else wants it waits, and finds it here.
        let _alone = self.transfers.lock(&layer.digest).await;
        let attempts = job.repository.config().attempts;
        for attempt in 1.. {
            if job.unpacker.content.claim(&layer.digest).await? {
                break;
            }
            match self.transfer(job, layer, teller).await {
                Ok(Some(staged)) => return Ok(Some((layer.digest.clone(), staged))),
                Ok(None) => break,
                // Wrong bytes are thrown away, and asked for again.
                Err(error) if error.kind() == ErrorKind::DataLoss && attempt < attempts => {
                    wait(attempt, layer, teller).await;
                }
                Err(error) => return Err(error),
            }
        }
        teller.layer(layer, PullStep::Downloaded);
        Ok(None)
    }

    async fn transfer(&self, job: &Job, layer: &Descriptor, teller: &Teller) -> Result<Option<Staged>> {
        let size = layer.size as u64;
        // Held by this pull from the moment it is there, whoever commits it.
        job.unpacker.content.reserve(&layer.digest).await?;
        // Without a lease: what has come is kept by its age, not by this pull.
        let Some(mut writer) = Writer::open(&self.content, &layer.digest, size).await? else { return Ok(None) };
        if writer.offset() > size {
            writer.abort().await;
            return Err(Error::data_loss(format!("{} is longer than its descriptor says", layer.digest)));
        }
        let fresh = writer.offset() == 0 && job.unpacker.snapshots.is_overlay();
        let mut extraction = fresh.then(|| job.extract());
        let poured = pour_all(job, layer, &mut writer, extraction.as_mut(), teller).await;
        if let Err(error) = poured {
            return match error.kind() {
                ErrorKind::DataLoss => {
                    writer.abort().await;
                    Err(error)
                }
                _ => {
                    // The last bytes count too.
                    let _ = writer.flush().await;
                    Err(error)
                }
            };
        }
        writer.commit(sources::label(job.repository.place())).await?;
        let Some(Extraction { sender, done }) = extraction else { return Ok(None) };
        teller.layer(layer, PullStep::Downloaded);
        teller.extracting(layer);
        sender.finish().await;
        done.await.map_err(|_| Error::system("extraction stopped"))?.map(Some)
    }
}

impl Job {
    fn extract(&self) -> Extraction {
        let (sender, source) = chunks::pipe_of(DEPTH);
        let (snapshots, limits) = (self.unpacker.snapshots.clone(), self.unpacker.limits);
        let runtime = tokio::runtime::Handle::current();
        let work = threads::run("gantry-extract", move || snapshots.stage(&runtime, source, limits));
        let (report, done) = oneshot::channel();
        self.extractions.spawn(async move {
            // Nobody waits for it any more: the snapshot goes with its lease.
            let _ = report.send(work.await);
        });
        Extraction { sender, done }
    }
}

/// Until every byte is here, however often the network breaks, as long as something comes each time.
async fn pour_all(
    job: &Job,
    layer: &Descriptor,
    writer: &mut Writer,
    mut extraction: Option<&mut Extraction>,
    teller: &Teller,
) -> Result<()> {
    let mut failures = 0;
    loop {
        let before = writer.offset();
        let error = match pour(job, layer, writer, extraction.as_deref_mut(), teller).await {
            Ok(()) => return Ok(()),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Cut(error)) => error,
        };
        failures = if writer.offset() > before { 1 } else { failures + 1 };
        tracing::info!(layer = %layer.digest, offset = writer.offset(), failures, %error, "a transfer was cut");
        if failures >= job.repository.config().attempts.max(1) {
            return Err(error);
        }
        wait(failures, layer, teller).await;
    }
}

/// One request's worth.
async fn pour(
    job: &Job,
    layer: &Descriptor,
    writer: &mut Writer,
    mut extraction: Option<&mut Extraction>,
    teller: &Teller,
) -> Result<(), Stop> {
    let total = layer.size as u64;
    if writer.offset() == total {
        return Ok(());
    }
    let mut blob = job.repository.blob(&layer.digest, writer.offset()).await.map_err(cut)?;
    let mut told = Instant::now();
    teller.layer(layer, PullStep::Downloading { current: writer.offset(), total });
    while let Some(piece) = blob.next().await.map_err(cut)? {
        writer.write(&piece).await.map_err(Stop::Failed)?;
        if let Some(extraction) = extraction.as_deref_mut()
            && !extraction.sender.push(piece).await
        {
            let failed = (&mut extraction.done).await.ok().and_then(Result::err);
            return Err(Stop::Failed(failed.unwrap_or_else(|| Error::system("extraction stopped"))));
        }
        if told.elapsed() >= STEP || writer.offset() == total {
            told = Instant::now();
            teller.layer(layer, PullStep::Downloading { current: writer.offset(), total });
        }
    }
    if writer.offset() < total {
        return Err(Stop::Cut(Error::system("unexpected EOF")));
    }
    Ok(())
}

fn cut(error: Error) -> Stop {
    if error.kind() == ErrorKind::System { Stop::Cut(error) } else { Stop::Failed(error) }
}

/// Longer each time; the seconds are counted for the client.
async fn wait(failures: u32, layer: &Descriptor, teller: &Teller) {
    let seconds = (1u64 << failures.saturating_sub(1).min(10)).min(MAX_WAIT);
    for left in (1..=seconds).rev() {
        teller.layer(layer, PullStep::Retrying { seconds: left });
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
