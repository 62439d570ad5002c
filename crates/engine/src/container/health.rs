//! Health checks: a program of the container's own, run in it by the engine for as long as it runs.
//!
//! One task for each container with a check, ended with the run and while the container is paused. The rules by which
//! the status moves are the domain's.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use gantry_domain::{
    ContainerId, Result,
    container::{
        ContainerRecord, Status,
        health::{Health, HealthcheckResult},
    },
    ports::cache_key,
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::owner::{Handle, Owner};
use crate::{exec::Prober, parts::Parts};

/// The health of a container, and the task that looks after it.
#[derive(Default)]
pub(crate) struct HealthWatch {
    pub health: Option<Arc<Health>>,
    /// Ends the task and the check that it is at.
    watching: Option<CancellationToken>,
}

impl Drop for HealthWatch {
    fn drop(&mut self) {
        self.end();
    }
}

impl HealthWatch {
    fn end(&mut self) -> bool {
        let watching = self.watching.take();
        watching.iter().for_each(CancellationToken::cancel);
        watching.is_some()
    }
}

impl Owner {
    /// A run has begun: its health is `starting`. The caller publishes.
    pub(crate) fn begin_health(&mut self) {
        if self.record.config.probe().is_none() {
            return;
        }
        let mut health = self.health();
        health.begin();
        self.set_health(health);
        self.watch_health();
    }

    /// Checks go on: after a pause, and where an earlier gantryd left off.
    pub(crate) fn watch_health(&mut self) {
        self.health.end();
        let (Some(check), Some(_)) = (self.record.config.healthcheck.clone(), self.record.config.probe()) else {
            return;
        };
        let (started, now) = (self.started(), Timestamp::now());
        let mut health = self.health();
        if health.status.is_empty() {
            // Killed before the start was known.
            health.begin();
            self.set_health(health.clone());
        }
        // What is left of the wait since the last check.
        let last = health.log.last().and_then(|result| result.end.0).map_or(started, |end| end.max(started));
        let since = Duration::try_from(now.duration_since(last)).unwrap_or_default();
        let first = check.wait(&health.status, started, now).saturating_sub(since);
        let stop = CancellationToken::new();
        let number = self.record.run.as_ref().map_or(0, |run| run.number);
        // Owned by this owner: ended by a pause, an exit, and with the container.
        tokio::spawn(watch(self.parts.clone(), self.handle.clone(), number, first, stop.clone()));
        self.health.watching = Some(stop);
    }

    /// Nobody checks any more. The caller publishes.
    pub(crate) fn rest_health(&mut self) {
        if self.health.end() {
            let mut health = self.health();
            health.rest();
            self.set_health(health);
        }
    }

    /// Takes up what an earlier gantryd knew.
    pub(crate) async fn remember_health(&mut self) -> Result<()> {
        if self.record.config.probe().is_some() {
            self.health.health = remembered(&self.parts, &self.record).await.map(Arc::new);
            self.publish();
        }
        Ok(())
    }

    async fn probed(&mut self, number: u64, result: HealthcheckResult) -> Result<()> {
        let current = self.record.run.as_ref().is_some_and(|run| run.number == number && run.exit.is_none());
        // A check whose container was paused or has ended meanwhile says nothing.
        if !current || self.status != Status::Running || self.health.watching.is_none() {
            return Ok(());
        }
        let started = self.started();
        let mut health = self.health();
        let Some(check) = &self.record.config.healthcheck else { return Ok(()) };
        let changed = health.note(result, check, started);
        let status = health.status.clone();
        self.set_health(health);
        if changed {
            self.record.health.clone_from(&status);
            self.save_later();
        }
        self.publish();
        if changed {
            self.event(format!("health_status: {status}"), &[]);
        }
        Ok(())
    }

    fn health(&self) -> Health {
        self.health.health.as_deref().cloned().unwrap_or_default()
    }

    /// The log is for those who look: it is kept lazily, and a power cut may lose its last entries.
    fn set_health(&mut self, health: Health) {
        let health = Arc::new(health);
        self.health.health = Some(health.clone());
        let (store, key) = (self.parts.ports.store.clone(), cache_key::health(&self.record.id));
        let Ok(value) = serde_json::to_vec(&*health) else { return };
        // Puts the value aside and ends.
        tokio::spawn(async move {
            if let Err(error) = store.put_cache(&key, value).await {
                tracing::debug!(%key, %error, "a health log was not kept");
            }
        });
    }

    fn started(&self) -> Timestamp {
        let started = self.record.run.as_ref().and_then(|run| run.started.0);
        started.unwrap_or_default()
    }
}

/// The container is gone, and its health with it.
pub(crate) async fn forget(parts: &Parts, id: &ContainerId) {
    if let Err(error) = parts.ports.store.put_cache(&cache_key::health(id), Vec::new()).await {
        tracing::debug!(container = %id, %error, "a health log stays");
    }
}

async fn remembered(parts: &Parts, record: &ContainerRecord) -> Option<Health> {
    let kept = parts.ports.store.get_cache(&cache_key::health(&record.id)).await.ok().flatten();
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Health>(&bytes).ok());
    // The status that was announced is durable, the log is not.
    kept.or_else(|| (!record.health.is_empty()).then(|| Health { status: record.health.clone(), ..Health::default() }))
}

/// Checks, reports and waits until it is stopped.
async fn watch(parts: Arc<Parts>, handle: Arc<Handle>, number: u64, first: Duration, stop: CancellationToken) {
    let mut prober = Prober::default();
    let mut wait = first;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let record = handle.snapshot().record;
        let Some(command) = record.config.probe() else { return };
        let Some(result) = prober.probe(&parts, &record, command, &stop).await else { return };
        if handle.run(move |owner| owner.probed(number, result).boxed()).await.is_err() {
            return;
        }
        let snapshot = handle.snapshot();
        let status = snapshot.health.as_ref().map_or("", |health| health.status.as_str());
        let started = snapshot.record.run.as_ref().and_then(|run| run.started.0).unwrap_or_default();
        let Some(check) = &snapshot.record.config.healthcheck else { return };
        wait = check.wait(status, started, Timestamp::now());
    }
}
