//! File work off the runtime's own threads.

use gantry_domain::{Error, Result};

/// Runs `work` where it may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::system("work on files was cut short").with_source(error))?
}
