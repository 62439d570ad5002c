//! What a pull tells while it runs.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    time::Duration,
};

use gantry_domain::{
    Digest, Error, Result,
    image::Descriptor,
    ports::{PullProgress, PullStep},
};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

pub struct Teller {
    progress: mpsc::Sender<Result<PullProgress>>,
    /// Layers that are being extracted, since when. A short lock, never held across an await.
    extracting: Mutex<HashMap<Digest, (String, Instant)>>,
}

impl Teller {
    pub fn new(progress: mpsc::Sender<Result<PullProgress>>) -> Self {
        Self { progress, extracting: Mutex::default() }
    }

    /// The layer is here, and what it holds on its way to the disk: from now on its seconds are told.
    pub fn extracting(&self, layer: &Descriptor) {
        if let Entry::Vacant(entry) = self.extracting.lock().entry(layer.digest.clone()) {
            entry.insert((short(layer), Instant::now()));
            self.layer(layer, PullStep::Extracting { seconds: 1 });
        }
    }

    pub fn complete(&self, layer: &Descriptor) {
        self.extracting.lock().remove(&layer.digest);
        self.layer(layer, PullStep::Complete);
    }

    /// Tells the seconds as they pass; never ends.
    pub async fn count_seconds(&self) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for (id, since) in self.extracting.lock().values() {
                let step = PullStep::Extracting { seconds: 1 + since.elapsed().as_secs() };
                self.tell(PullProgress::Layer { id: id.clone(), step });
            }
        }
    }

    /// A slow client misses a line and delays nothing.
    pub fn tell(&self, progress: PullProgress) {
        let _ = self.progress.try_send(Ok(progress));
    }

    pub fn layer(&self, layer: &Descriptor, step: PullStep) {
        self.tell(PullProgress::Layer { id: short(layer), step });
    }

    /// What must arrive; nobody may be listening any more.
    pub async fn end(&self, last: Result<PullProgress, Error>) {
        self.extracting.lock().clear();
        let _ = self.progress.send(last).await;
    }
}

/// The twelve digits that Docker shows.
pub fn short(layer: &Descriptor) -> String {
    layer.digest.hex().chars().take(12).collect()
}
