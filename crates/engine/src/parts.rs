//! What the engine is made of: its ports, its configuration, and what it keeps in memory.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use gantry_domain::{
    ContainerId, ErrorKind, Result,
    container::Snapshot,
    engine_id::EngineId,
    ports::{
        ContainerFiles, ExecFiles, HostFacts, ImageStore, Network, NetworkPlugins, Registry, RootFs, Runtime, Stdio,
        Store, Volumes,
    },
    settings::Settings,
};
use parking_lot::{Mutex, RwLock};

use crate::{
    claims::Claims, container::owner::Handle, events::EventBus, exec::table::ExecTable, facts::CachedFacts,
    image::Catalog, lent::Debts, volume::Turns,
};

/// The outside, one adapter each.
#[derive(Clone)]
pub struct Ports {
    pub runtime: Arc<dyn Runtime>,
    pub stdio: Arc<dyn Stdio>,
    pub store: Arc<dyn Store>,
    pub images: Arc<dyn ImageStore>,
    pub registry: Arc<dyn Registry>,
    pub network: Arc<dyn Network>,
    /// Of networks and addresses; those of volumes are behind `volumes`.
    pub plugins: Arc<dyn NetworkPlugins>,
    pub files: Arc<dyn ContainerFiles>,
    pub execs: Arc<dyn ExecFiles>,
    pub volumes: Arc<dyn Volumes>,
    pub rootfs: Arc<dyn RootFs>,
    pub host: Arc<dyn HostFacts>,
}

/// The container engine. Cheap to clone; all clones are one engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) parts: Arc<Parts>,
}

pub(crate) struct Parts {
    pub id: EngineId,
    pub ports: Ports,
    pub settings: ArcSwap<Settings>,
    pub events: EventBus,
    pub containers: RwLock<HashMap<ContainerId, Arc<Handle>>>,
    /// Names, volumes, networks, addresses, images in use. Held for a few lines, never across an await.
    pub claims: Mutex<Claims>,
    pub volume_turns: Turns,
    /// What plugins have to get back.
    pub debts: Debts,
    pub catalog: Catalog,
    pub execs: ExecTable,
    /// passwd and group files of images by chain id; an image never changes.
    pub users: Mutex<HashMap<String, Arc<crate::container::UserFiles>>>,
    /// Folders that images have, by chain id.
    pub working_dirs: Mutex<HashSet<(String, String)>>,
    /// Facts of the host for checks of requests; `/info` reads them anew.
    pub facts: CachedFacts,
    pub pruning: Pruning,
    /// Removed containers of which something is left: a full disk was in the way. The sweep takes it away.
    pub unfinished: Mutex<HashSet<ContainerId>>,
    /// What recovery and the sweeps found, for `/info`.
    pub warnings: Mutex<Vec<String>>,
    pub boot_id: String,
    /// Where networks without a subnet of their own take one from; empty: Docker's.
    pub pools: Vec<gantry_domain::network::ipam::Pool>,
}

/// One prune of a kind at a time; containers and networks are one kind, as in dockerd.
#[derive(Default)]
pub(crate) struct Pruning {
    pub containers: tokio::sync::Mutex<()>,
    pub images: tokio::sync::Mutex<()>,
    pub volumes: tokio::sync::Mutex<()>,
}

impl Engine {
    /// The configuration; read once by each operation.
    pub fn settings(&self) -> Arc<Settings> {
        self.parts.settings.load_full()
    }

    /// The engine's own id, `/info` `ID`.
    pub fn id(&self) -> &EngineId {
        &self.parts.id
    }

    /// A picture of every container, newest first. Never waits.
    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        self.parts.snapshots()
    }
}

impl Parts {
    pub fn new(
        id: EngineId,
        ports: Ports,
        settings: Settings,
        pools: Vec<gantry_domain::network::ipam::Pool>,
        events: EventBus,
    ) -> Self {
        let boot_id = ports.host.boot_id();
        Self {
            id,
            catalog: Catalog::new(ports.images.clone()),
            ports,
            settings: ArcSwap::from_pointee(settings),
            events,
            containers: RwLock::default(),
            claims: Mutex::default(),
            volume_turns: Turns::default(),
            debts: Debts::default(),
            execs: ExecTable::default(),
            users: Mutex::default(),
            working_dirs: Mutex::default(),
            facts: CachedFacts::default(),
            pruning: Pruning::default(),
            unfinished: Mutex::default(),
            warnings: Mutex::default(),
            boot_id,
            pools,
        }
    }

    pub fn snapshots(&self) -> Vec<Snapshot> {
        let mut all: Vec<Snapshot> = self.containers.read().values().map(|handle| handle.snapshot()).collect();
        all.sort_by(|a, b| b.record.created.cmp(&a.record.created).then_with(|| a.record.id.cmp(&b.record.id)));
        all
    }

    /// The container a client means, in Docker's order of look-up.
    pub fn container(&self, typed: &str) -> Result<Arc<Handle>> {
        let containers = self.containers.read();
        if let Some(handle) = containers.get(typed) {
            return Ok(handle.clone());
        }
        let snapshots: Vec<Snapshot> = containers.values().map(|handle| handle.snapshot()).collect();
        let names = snapshots.iter().map(|snapshot| (&snapshot.record.id, snapshot.record.name.as_str()));
        let id = match gantry_domain::container::access::resolve(typed, names) {
            // A link's name is a name of its target.
            Err(error) => match crate::container::link_target(&snapshots, typed) {
                Some(id) => id,
                None if error.is_not_found() => {
                    self.claims.lock().kept.refuse_container(typed)?;
                    return Err(error);
                }
                None => return Err(error),
            },
            resolved => resolved?,
        };
        Ok(containers[id].clone())
    }

    /// Waits, for a while, for the runs that are over and still hold what somebody wants. Whether there were any.
    pub async fn ended_runs_are_cleared(&self) -> bool {
        let ended: Vec<Arc<Handle>> =
            self.containers.read().values().filter(|handle| handle.is_clearing()).cloned().collect();
        futures::future::join_all(ended.iter().map(|handle| handle.cleared())).await;
        !ended.is_empty()
    }

    /// Says something in `/info` Warnings, once.
    pub fn warn(&self, text: String) {
        tracing::warn!("{text}");
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }
}

/// Runs work that a client's hang-up must not cut short (section 3.0 of the API reference, point 18).
pub(crate) async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(failed) => Err(gantry_domain::Error::system(format!("the operation ended unexpectedly: {failed}"))),
    }
}

/// A step that must not hang a container for ever (T53).
pub(crate) async fn within<T>(limit: Duration, what: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, step).await {
        Ok(done) => done,
        Err(_) => {
            Err(gantry_domain::Error::cancelled(format!("{what} did not end within {} seconds", limit.as_secs())))
        }
    }
}

/// One object of a list that cannot be read is logged and left out, and the others are shown; that nothing can be read
/// is the answer.
pub(crate) fn readable<T>(kind: &str, name: &str, read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Cancelled) => Err(error),
        Err(error) => {
            tracing::warn!(kind, name, %error, "left out of a list");
            Ok(None)
        }
    }
}
