//! What a pull tells while it runs.

use gantry_domain::{
    Error, Result,
    image::Descriptor,
    ports::{PullProgress, PullStep},
};
use tokio::sync::mpsc;

pub struct Teller(mpsc::Sender<Result<PullProgress>>);

impl Teller {
    pub fn new(progress: mpsc::Sender<Result<PullProgress>>) -> Self {
        Self(progress)
    }

    /// A slow client misses a line and delays nothing.
    pub fn tell(&self, progress: PullProgress) {
        let _ = self.0.try_send(Ok(progress));
    }

    pub fn layer(&self, layer: &Descriptor, step: PullStep) {
        self.tell(PullProgress::Layer { id: short(layer), step });
    }

    /// What must arrive; nobody may be listening any more.
    pub async fn end(&self, last: Result<PullProgress, Error>) {
        let _ = self.0.send(last).await;
    }
}

/// The twelve digits that Docker shows.
pub fn short(layer: &Descriptor) -> String {
    layer.digest.hex().chars().take(12).collect()
}
