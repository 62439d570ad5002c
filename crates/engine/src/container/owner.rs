//! The one task that owns a container: it runs the container's verbs one after the other.
//!
//! A verb is a job sent to the mailbox; a client's hang-up drops only the answer. Jobs are short: what waits (for an
//! exit, for a time) waits outside. Readers never come here, they take the snapshot. A job that hangs on the outside (a
//! shim that does not answer, a mount) does not hold up who is to end the container: see `hurry`.
//!
//! ```text
//!  container_start ──job──►┌───────┐──snapshot──► list, inspect
//!  container_kill  ──job──►│ Owner │──progress──► wait, stop, logs -f
//!  supervisor: Tasks.Wait ─►└───────┘──events───► GET /events
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use gantry_domain::{
    ContainerId, Error, Result,
    container::{ContainerRecord, Snapshot, Status},
    event::{Event, EventType},
    ports::Write,
};
use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};

use super::{attach::PendingAttach, health::HealthWatch, lend::Copies};
use crate::{lent::Holding, parts::Parts};

type Job = Box<dyn for<'a> FnOnce(&'a mut Owner) -> BoxFuture<'a, ()> + Send>;

/// How far a container has come; what waiters watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Runs that ended, failed starts included.
    pub exits: u64,
    pub running: bool,
    pub removed: bool,
    pub code: u32,
    /// Why the last start failed.
    pub error: Option<String>,
}

/// Everybody's end of a container.
pub(crate) struct Handle {
    pub id: ContainerId,
    jobs: mpsc::UnboundedSender<Job>,
    snapshot: RwLock<Snapshot>,
    progress: watch::Sender<Progress>,
    /// How many want the container ended now.
    hurry: watch::Sender<u32>,
    /// API restarts under way: the exit in their middle neither removes nor restarts the container.
    restarts: AtomicU32,
    /// API removals under way: nobody starts what they are to remove.
    removals: AtomicU32,
    /// Between the first and the last step of a start.
    starting: watch::Sender<bool>,
    /// A run is over and known to be, and what it has is not yet taken away.
    clearing: watch::Sender<bool>,
}

/// How long a job goes on that somebody in a hurry waits for.
const PATIENCE: Duration = Duration::from_secs(3);
/// containerd writes it to its database.
const COPY_LIMIT: Duration = Duration::from_secs(5);

/// Somebody ends the container by force (T53): as long as this lives, a job that can be cut off and does not end is,
/// and steps that cannot be cut off get little time.
pub(crate) struct Hurry(Arc<Handle>);

impl Hurry {
    pub fn new(handle: &Arc<Handle>) -> Self {
        handle.hurry.send_modify(|count| *count += 1);
        Self(handle.clone())
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.0.hurry.send_modify(|count| *count -= 1);
    }
}

/// An API restart that is before its start; ends also where that is not reached.
pub(crate) struct Restarting(Arc<Handle>);

impl Restarting {
    pub fn new(handle: &Arc<Handle>) -> Self {
        handle.restarts.fetch_add(1, Ordering::SeqCst);
        Self(handle.clone())
    }
}

impl Drop for Restarting {
    fn drop(&mut self) {
        self.0.restarts.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An API removal, until it is answered.
pub(crate) struct Removal(Arc<Handle>);

impl Removal {
    pub fn new(handle: &Arc<Handle>) -> Self {
        handle.removals.fetch_add(1, Ordering::SeqCst);
        Self(handle.clone())
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.0.removals.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handle {
    pub fn is_restarting_by_request(&self) -> bool {
        self.restarts.load(Ordering::SeqCst) > 0
    }

    /// Whether a client may start it: a start that waits behind a removal comes too late.
    pub fn may_be_started(&self) -> Result<()> {
        match self.removals.load(Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err(Error::conflict("container is marked for removal and cannot be started")),
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.read().clone()
    }

    /// Waits, for a while, until a start under way is over: who has seen the program's first words takes the container
    /// for running.
    pub async fn settled(&self) {
        let mut starting = self.starting.subscribe();
        let _ = tokio::time::timeout(PATIENCE, starting.wait_for(|starting| !*starting)).await;
    }

    /// Waits, for a while, until an ended run has given back what it has: addresses, ports, places in networks.
    pub async fn cleared(&self) {
        let mut clearing = self.clearing.subscribe();
        let _ = tokio::time::timeout(PATIENCE, clearing.wait_for(|clearing| !*clearing)).await;
    }

    pub fn is_clearing(&self) -> bool {
        *self.clearing.borrow()
    }

    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Runs a job when those before it are done. It runs to its end even if the caller goes away.
    pub async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Owner) -> BoxFuture<'a, Result<T>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |owner| {
            Box::pin(async move {
                let _ = answer.send(job(owner).await);
            })
        });
        self.jobs.send(job).map_err(|_| self.gone())?;
        match answered.await {
            Ok(result) => result,
            Err(_) if self.progress.borrow().removed => Err(self.gone()),
            Err(_) => Err(Error::system(format!("the engine failed at container {}: see its log", self.id))),
        }
    }

    /// As `run`, for a job that may be cut off at any await. A start that is cut off is undone.
    pub async fn run_unless_hurried<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Owner) -> BoxFuture<'a, Result<T>> + Send + 'static,
    {
        self.run(move |owner| {
            Box::pin(async move {
                let overdue = overdue(owner.handle.hurry.subscribe(), None);
                let done = tokio::select! {
                    done = job(owner) => Some(done),
                    () = overdue => None,
                };
                match done {
                    Some(done) => done,
                    None => Err(owner.cut_off().await),
                }
            })
        })
        .await
    }

    /// A step that must not hang: it gets its time, and less when somebody is in a hurry.
    pub async fn bounded<T>(&self, limit: Duration, what: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = step => done,
            () = overdue(self.hurry.subscribe(), Some(limit)) => Err(Error::cancelled(format!("{what} did not end in time"))),
        }
    }

    fn gone(&self) -> Error {
        Error::not_found(format!("No such container: {}", self.id))
    }
}

/// Returns at the limit, or soon after somebody is in a hurry.
async fn overdue(mut hurry: watch::Receiver<u32>, limit: Option<Duration>) {
    let hurried = async {
        let _ = hurry.wait_for(|count| *count > 0).await;
        tokio::time::sleep(PATIENCE).await;
    };
    match limit {
        Some(limit) => {
            let _ = tokio::time::timeout(limit, hurried).await;
        }
        None => hurried.await,
    }
}

/// The owner's own state; only its jobs see it.
pub(crate) struct Owner {
    pub parts: Arc<Parts>,
    pub handle: Arc<Handle>,
    /// The working copy; `save` makes it durable.
    pub record: ContainerRecord,
    pub status: Status,
    pub pid: u32,
    /// What containerd was last told, to write only what changed.
    pub spec: Option<bytes::Bytes>,
    /// Clients that attached before the start.
    pub pending: Vec<PendingAttach>,
    /// Waits for the exit of the run.
    pub supervisor: Option<AbortHandle>,
    /// Waits for the end of the back-off.
    pub restart_timer: Option<AbortHandle>,
    /// Tries again to write an exit down. Whoever ends the back-off has nothing to do with it.
    pub exit_timer: Option<AbortHandle>,
    pub backoff: Option<Duration>,
    /// The kernel killed a process of this run for want of memory.
    pub out_of_memory: bool,
    /// The host goes down: what ends now is meant to run again after it.
    pub host_goes_down: bool,
    pub removed: bool,
    /// A run's task, sandbox, ports or streams may be there: `tear_down` has not been through since they were made.
    pub has_run: bool,
    /// The run's shim was given up: it is asked for nothing more.
    pub abandoned: bool,
    /// Tries again to take away what a tear-down had to leave.
    pub leftover_timer: Option<AbortHandle>,
    pub copies: Copies,
    /// What plugins have lent, until the record has it.
    pub takings: Vec<Holding>,
    /// Debts of networks that the sandbox is still half in: what a plugin gave is in use until it has let go.
    pub in_use: Vec<String>,
    pub health: HealthWatch,
}

impl Owner {
    /// Starts the task and publishes the container's first snapshot. The caller puts the handle into the map.
    pub fn spawn(parts: Arc<Parts>, record: ContainerRecord, status: Status, pid: u32) -> Arc<Handle> {
        let (jobs, mailbox) = mpsc::unbounded_channel();
        let last = record.run.as_ref().and_then(|run| run.exit);
        let progress =
            Progress { running: status.is_running(), code: last.map_or(0, |exit| exit.code), ..Progress::default() };
        let snapshot =
            Snapshot { record: Arc::new(record.clone()), status, pid, health: None, execs: Arc::from(Vec::new()) };
        let handle = Arc::new(Handle {
            id: record.id.clone(),
            jobs,
            snapshot: RwLock::new(snapshot),
            progress: watch::Sender::new(progress),
            hurry: watch::Sender::new(0),
            restarts: AtomicU32::new(0),
            removals: AtomicU32::new(0),
            starting: watch::Sender::new(false),
            clearing: watch::Sender::new(false),
        });
        let owner = Self {
            parts,
            handle: handle.clone(),
            record,
            status,
            pid,
            spec: None,
            pending: Vec::new(),
            supervisor: None,
            restart_timer: None,
            backoff: None,
            out_of_memory: false,
            host_goes_down: false,
            exit_timer: None,
            removed: false,
            has_run: false,
            abandoned: false,
            leftover_timer: None,
            copies: Copies::default(),
            takings: Vec::new(),
            in_use: Vec::new(),
            health: HealthWatch::default(),
        };
        // Ends with the container, or with the process.
        tokio::spawn(owner.live(mailbox));
        handle
    }

    async fn live(mut self, mut mailbox: mpsc::UnboundedReceiver<Job>) {
        while let Some(job) = mailbox.recv().await {
            // A panic ends one job, never the container's task.
            if std::panic::AssertUnwindSafe(job(&mut self)).catch_unwind().await.is_err() {
                tracing::error!(container = %self.record.id, "a verb panicked");
                self.set_clearing(false);
                self.publish();
            }
            if self.removed {
                break;
            }
        }
    }

    pub fn id(&self) -> &ContainerId {
        &self.record.id
    }

    /// Swaps the snapshot that readers see.
    pub fn publish(&self) {
        *self.handle.snapshot.write() = Snapshot {
            record: Arc::new(self.record.clone()),
            status: self.status,
            pid: self.pid,
            health: self.health.health.clone(),
            execs: Arc::from(Vec::new()),
        };
    }

    /// The snapshot as it would be published now; for the rules.
    pub fn snapshot(&self) -> Snapshot {
        self.handle.snapshot()
    }

    /// Notes whether a start is under way; returns whether one was.
    pub fn set_starting(&self, starting: bool) -> bool {
        self.handle.starting.send_replace(starting)
    }

    pub fn set_clearing(&self, clearing: bool) {
        self.handle.clearing.send_replace(clearing);
    }

    pub fn advance(&self, change: impl FnOnce(&mut Progress)) {
        self.handle.progress.send_modify(change);
    }

    /// Makes the record durable, and with it that it has what was taken of plugins.
    pub async fn save(&mut self) -> Result<()> {
        self.record.generation += 1;
        let record = Write::Container(Box::new(self.record.clone()));
        let writes = std::iter::once(record).chain(self.takings.iter().map(Holding::gone));
        self.parts.ports.store.commit(writes.collect()).await?;
        self.takings.drain(..).for_each(Holding::settled);
        Ok(())
    }

    /// Writes the copy of the record that containerd keeps, after what no start repeats: should the store be damaged, a
    /// name or a limit that was given is not lost with it.
    pub async fn keep_copy(&self) {
        let copy = bytes::Bytes::from(serde_json::to_vec(&self.record).expect("a record is plain data"));
        let kept = self.parts.ports.runtime.update_container(&self.record.id, None, Some(copy));
        if let Err(error) = self.handle.bounded(COPY_LIMIT, "copying the record", kept).await {
            tracing::warn!(container = %self.record.id, %error, "the copy of its record is older than the record");
        }
    }

    /// A copy is newer than what a damaged store still had. `status` is what it says of a container at rest.
    pub async fn take_newer(&mut self, newer: ContainerRecord, status: Status) -> Result<()> {
        if newer.generation <= self.record.generation {
            return Ok(());
        }
        if newer.name != self.record.name {
            let mut claims = self.parts.claims.lock();
            claims.take_name(&newer.name, &newer.id)?;
            claims.free_name(&self.record.name, &newer.id);
        }
        self.record = newer;
        self.status = status;
        self.publish();
        self.parts.ports.store.commit(vec![Write::Container(Box::new(self.record.clone()))]).await
    }

    /// An event of this container, with its labels, image and name (section 3.7 of the API reference).
    pub fn event(&self, action: impl Into<String>, more: &[(&str, String)]) {
        self.event_at(action, more, Timestamp::now());
    }

    pub fn event_at(&self, action: impl Into<String>, more: &[(&str, String)], at: Timestamp) {
        self.parts.events.publish(container_event(&self.record, action.into(), more, at));
    }
}

pub(crate) fn container_event(
    record: &ContainerRecord,
    action: String,
    more: &[(&str, String)],
    at: Timestamp,
) -> Event {
    let mut attributes = record.config.labels.clone().unwrap_or_default();
    attributes.insert("image".into(), record.config.image.clone());
    attributes.insert("name".into(), record.name.clone());
    attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    Event { kind: EventType::Container, action, actor_id: record.id.to_string(), attributes, at }
}
