//! The engine's end, and the host's.

use futures::future::join_all;

use crate::{
    Engine,
    container::{DEFAULT_TIMEOUT, owner::Handle},
};
use std::sync::Arc;

impl Engine {
    /// The host goes down: every container is stopped in parallel, each with its own signal and time, within
    /// `shutdown-timeout` and the longest of the containers' own.
    pub async fn shutdown_containers(&self) {
        let running: Vec<Arc<Handle>> = {
            let containers = self.parts.containers.read();
            containers.values().filter(|handle| handle.snapshot().status.is_running()).cloned().collect()
        };
        let limit = self.shutdown_limit(&running);
        let stops = running.iter().map(|handle| async move {
            if let Err(error) = crate::container::stop_for_shutdown(handle).await {
                tracing::warn!(container = %handle.id, %error, "not stopped at shutdown");
            }
        });
        if tokio::time::timeout(limit, join_all(stops)).await.is_err() {
            tracing::warn!("containers are left to the host's own end");
        }
    }

    fn shutdown_limit(&self, running: &[Arc<Handle>]) -> std::time::Duration {
        let configured = self.settings().shutdown_timeout;
        let own = |handle: &Arc<Handle>| handle.snapshot().record.config.stop_timeout;
        let longest =
            running.iter().map(|handle| own(handle).unwrap_or(DEFAULT_TIMEOUT)).max().unwrap_or(DEFAULT_TIMEOUT);
        configured.max(std::time::Duration::from_secs(u64::try_from(longest).unwrap_or(0) + 5))
    }

    /// Writes out what is lazily kept; containers go on.
    pub async fn close(&self) {
        self.parts.events.save(self.parts.ports.store.as_ref()).await;
        if let Err(error) = self.parts.ports.store.flush().await {
            tracing::warn!(%error, "the store was not flushed");
        }
    }
}
