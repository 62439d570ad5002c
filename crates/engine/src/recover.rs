//! What a new gantryd does with what it finds: records, tasks, companions, namespaces, half-done removals.
//!
//! 1. load the records, 2. take the claims, 3. spawn the owners, 4. finish removals that were decided,
//! 5. join what still runs, 6. work off the exits nobody saw, in the order of their end, 7. start what is to run.
//!
//! Requests are answered when all of it is done.

mod execs;
mod records;
mod runs;

use std::{collections::HashMap, sync::Arc};

use futures::FutureExt as _;
use gantry_domain::{
    ContainerId, Result,
    container::{ContainerRecord, HostConfig},
    engine_id::EngineId,
    ports::{EventRing, LeaseGuard, Loaded, TaskInfo, cache_key},
    settings::Settings,
};

use crate::{
    Engine, EventBus, Ports,
    container::owner::{Handle, Owner},
    network::predefined::{self, DefaultBridge},
    parts::Parts,
};

/// What the engine starts from.
pub struct Start {
    pub id: EngineId,
    pub ports: Ports,
    pub settings: Settings,
    pub bridge: DefaultBridge,
}

impl Engine {
    /// Loads the records and makes the engine. Call `recover` next.
    pub async fn open(start: Start) -> Result<(Self, Recovery)> {
        let loaded = start.ports.store.load().await?;
        let ring = kept_events(&start.ports).await;
        let parts = Arc::new(Parts::new(
            start.id,
            start.ports,
            start.settings,
            start.bridge.pools.clone(),
            EventBus::new(ring),
        ));
        for text in &loaded.damage {
            parts.warn(text.clone());
        }
        for kept in &loaded.kept {
            parts.warn(format!("WARNING: {}", crate::kept::why(kept)));
        }
        parts.debts.load(&loaded.debts);
        records::claim(&parts, &loaded);
        let engine = Self { parts };
        for record in &loaded.containers {
            engine.adopt_record(record.clone());
        }
        Ok((engine, Recovery { loaded, bridge: start.bridge }))
    }

    fn adopt_record(&self, record: ContainerRecord) -> Arc<Handle> {
        let id = record.id.clone();
        let status = records::status_at_rest(&record);
        let handle = Owner::spawn(self.parts.clone(), record, status, 0);
        self.parts.containers.write().insert(id, handle.clone());
        handle
    }

    /// Brings the host in line with the records. Before it returns no lifecycle verb may run.
    pub async fn recover(&self, recovery: Recovery) -> Result<()> {
        let Recovery { loaded, bridge } = recovery;
        self.parts.take_up_gifts().await;
        self.finish_removals(&loaded).await;
        self.adopt_volumes(&loaded).await;
        self.rebuild(&loaded).await;
        predefined::ensure(&self.parts, &bridge).await?;
        // Facts from here on are those of a host whose forwarding is on.
        self.parts.confining_facts(&HostConfig::default()).await;
        crate::network::recover::ensure(&self.parts).await;
        let tasks: HashMap<ContainerId, TaskInfo> =
            self.parts.ports.runtime.tasks().await?.into_iter().map(|task| (task.id.clone(), task)).collect();
        let handles: Vec<Arc<Handle>> = self.parts.containers.read().values().cloned().collect();
        for handle in &handles {
            // Fails with the container's task only.
            let _ = handle.run(|owner| owner.remember_health().boxed()).await;
        }
        let mut ended = Vec::new();
        for handle in handles {
            let record = handle.snapshot().record;
            match tasks.get(&handle.id) {
                Some(task) if runs::is_alive(task) || self.may_be_alive(task, &record) => {
                    self.rejoin(&handle, task.clone()).await;
                }
                Some(task) if runs::was_running(&record) => {
                    ended.push((handle, task.exit.unwrap_or_else(runs::unseen)))
                }
                None if runs::was_running(&record) => ended.push((handle, runs::unseen())),
                Some(_) => self.clear_away(&handle).await,
                None if record.host_config.auto_remove && record.runs > 0 => self.clear_away(&handle).await,
                None => {}
            }
        }
        ended.sort_by_key(|(_, exit)| exit.at);
        for (handle, exit) in ended {
            self.work_off(&handle, exit).await;
        }
        self.undo_cut_off_starts().await;
        self.release_leases().await;
        self.adopt_execs().await;
        self.start_policies(&tasks);
        Ok(())
    }

    /// What an earlier gantryd was loading is not loaded any further: its content may go.
    async fn release_leases(&self) {
        for lease in self.parts.ports.images.leases().await.unwrap_or_default() {
            if let Err(error) = self.parts.ports.images.release_lease(LeaseGuard(lease)).await {
                tracing::warn!(%error, "a lease is left until it expires");
            }
        }
    }
}

/// The part of the start that comes after the sockets are open.
pub struct Recovery {
    loaded: Loaded,
    bridge: DefaultBridge,
}

async fn kept_events(ports: &Ports) -> Vec<gantry_domain::event::Event> {
    let kept = ports.store.get_cache(cache_key::EVENTS).await.ok().flatten();
    kept.and_then(|bytes| serde_json::from_slice::<EventRing>(&bytes).ok()).unwrap_or_default().events
}
