//! `GET /containers/{id}/stats`: samples a second apart, from the control groups and the interfaces' counters.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use gantry_domain::{
    ContainerId, Error, GoTime, Result,
    container::{ContainerRecord, usage::ResourceUsage},
    ports::{BoxStream, InterfaceStatistics},
};

use super::{mounts::shared_with, owner::Handle};
use crate::{Engine, parts::Parts};

const EVERY: Duration = Duration::from_secs(1);
const MOST_DONORS: usize = 100;

/// How many samples are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatsMode {
    /// One a second until the container is removed.
    Stream,
    /// One, with the one before it for reckoning.
    Once,
    /// One, at once.
    OneShot,
}

/// What was read at one moment; nothing of a container that does not run.
#[derive(Debug, Clone, Default)]
pub struct StatsSample {
    pub read: GoTime,
    pub usage: Option<ResourceUsage>,
    pub networks: BTreeMap<String, InterfaceStatistics>,
}

/// One answer: a sample and the one before it.
#[derive(Debug, Clone, Default)]
pub struct ContainerStats {
    pub id: String,
    pub name: String,
    pub current: StatsSample,
    pub previous: StatsSample,
}

impl Engine {
    pub async fn container_stats(&self, name: &str, mode: StatsMode) -> Result<BoxStream<ContainerStats>> {
        let handle = self.parts.container(name)?;
        if mode == StatsMode::Stream {
            return Ok(endless(self.parts.clone(), handle));
        }
        let mut stats = stats(&self.parts, &handle, StatsSample::default()).await;
        if mode == StatsMode::Once && stats.current.usage.is_some() {
            tokio::time::sleep(EVERY).await;
            stats = self::stats(&self.parts, &handle, stats.current).await;
        }
        if handle.progress().borrow().removed {
            return Err(Error::not_found(format!("No such container: {name}")));
        }
        Ok(Box::pin(stream::once(std::future::ready(stats))))
    }
}

/// The first at once, then one a second; a container that stopped gives empty ones until it is removed.
fn endless(parts: Arc<Parts>, handle: Arc<Handle>) -> BoxStream<ContainerStats> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let samples = stream::unfold((ticks, StatsSample::default()), move |(mut ticks, previous)| {
        let (parts, handle) = (parts.clone(), handle.clone());
        async move {
            ticks.tick().await;
            if handle.progress().borrow().removed {
                return None;
            }
            let stats = stats(&parts, &handle, previous).await;
            let next = stats.current.clone();
            Some((stats, (ticks, next)))
        }
    });
    samples.boxed()
}

async fn stats(parts: &Parts, handle: &Handle, previous: StatsSample) -> ContainerStats {
    let snapshot = handle.snapshot();
    let mut current = StatsSample::default();
    if snapshot.status.has_process() {
        // A container that ends meanwhile gives an empty sample, as a stopped one does.
        if let Ok(usage) = parts.ports.host.usage(snapshot.pid).await {
            current.read = GoTime::now();
            current.usage = Some(usage);
            let sandbox = sandbox_of(parts, &snapshot.record);
            current.networks = parts.ports.network.statistics(&sandbox).await.unwrap_or_default();
        }
    }
    ContainerStats { id: handle.id.to_string(), name: format!("/{}", snapshot.record.name), current, previous }
}

/// Whose namespace a container is in: its own, or that of the one at the end of `container:<id>`.
fn sandbox_of(parts: &Parts, record: &ContainerRecord) -> ContainerId {
    let donor = |record: &ContainerRecord| {
        let other = shared_with(&record.host_config.network_mode)?;
        parts.container(other).ok().map(|other| other.snapshot().record)
    };
    let chain = std::iter::successors(donor(record), |record| donor(record));
    // Two that name each other never run.
    chain.take(MOST_DONORS).last().map_or_else(|| record.id.clone(), |record| record.id.clone())
}
