//! The stdio port: companions (`gantry-stdio`), one for each run of a container.
//!
//! ```text
//!   open:  folder, FIFOs, socket ──► a spare takes them ──► Serving ──outputs over──► Ended ──close──► gone
//!                                                             └──killed──► Dead ──adopt──► Serving (successor)
//! ```
//!
//! A run's folder is `<exec root>/stdio/<id>`: the FIFOs `in`, `out`, `err`, the companion's socket, and `ended` when all
//! output is in the log. gantryd holds a reading descriptor of each output until then: the shim closes its ends when the
//! container exits, and what no one has read would be gone with a companion that dies at that moment.

mod attach;
mod folder;
mod news;
mod session;
mod spare;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use gantry_domain::{
    ContainerId, Error, Result,
    ports::{AttachRequest, AttachStreams, BoxStream, Stdio, StdioPaths, StdioSetup},
};
use gantry_wire::stdio::Message;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use folder::RunFolder;
use news::News;
use session::{Session, State};
use spare::Spares;

/// Companions that died and were replaced while `drained` waited, before it gives up.
const DRAIN_TRIES: u32 = 3;

/// The companions of all runs. To be made inside a tokio runtime.
pub struct StdioCompanions {
    inner: Arc<Inner>,
}

struct Inner {
    /// `<exec root>/stdio`.
    root: PathBuf,
    spares: Spares,
    /// Never held across an await.
    sessions: Mutex<HashMap<ContainerId, Arc<Session>>>,
    /// Counts changes of `sessions`; clients whose companion died wait here for its successor.
    changes: watch::Sender<u64>,
    /// One adoption at a time: the engine and `drained` may both answer a death.
    adopting: tokio::sync::Mutex<()>,
    deaths: Arc<News>,
    stdin_ends: Arc<News>,
    /// Owns the tasks of sessions and clients; each ends with its connection.
    tasks: TaskTracker,
}

impl StdioCompanions {
    /// `companion_binary` is `gantry-stdio`. A first spare is started at once.
    pub fn new(exec_root: PathBuf, companion_binary: PathBuf) -> Self {
        let tasks = TaskTracker::new();
        let inner = Inner {
            root: exec_root.join("stdio"),
            spares: Spares::new(companion_binary, tasks.clone()),
            sessions: Mutex::default(),
            changes: watch::Sender::new(0),
            adopting: tokio::sync::Mutex::default(),
            deaths: Arc::default(),
            stdin_ends: Arc::default(),
            tasks,
        };
        inner.spares.refill();
        Self { inner: Arc::new(inner) }
    }
}

#[async_trait]
impl Stdio for StdioCompanions {
    async fn open(&self, setup: &StdioSetup) -> Result<StdioPaths> {
        self.close(&setup.id).await?;
        let folder = RunFolder::new(&self.inner.root, &setup.id);
        let opened = async {
            let session = self.inner.place(setup, &folder, Placing::First).await?;
            self.inner.insert(session);
            Ok(folder.paths(setup))
        };
        match opened.await {
            Ok(paths) => Ok(paths),
            Err(error) => {
                folder.remove()?;
                Err(Error::context(error, "failed to open the container's streams"))
            }
        }
    }

    async fn adopt(&self, setup: &StdioSetup) -> Result<()> {
        self.inner.adopt(setup).await
    }

    async fn attach(&self, id: &ContainerId, request: &AttachRequest) -> Result<AttachStreams> {
        attach::attach(&self.inner, id, *request).await
    }

    async fn drained(&self, id: &ContainerId) -> Result<()> {
        for _ in 0..DRAIN_TRIES {
            let Some(session) = self.inner.session(id) else { return Ok(()) };
            session.tell(Message::TaskExited);
            if session.settled().await == State::Ended {
                return Ok(());
            }
            // What the dead one did not read waits in the FIFOs, which we hold.
            self.inner.adopt(&session.setup).await?;
        }
        tracing::error!(container = %id, "companions die one after the other; the end of the output is not in the log");
        Ok(())
    }

    async fn close(&self, id: &ContainerId) -> Result<()> {
        let folder = RunFolder::new(&self.inner.root, id);
        let known = self.inner.sessions.lock().remove(id);
        self.inner.changes.send_modify(|count| *count += 1);
        let session = match known {
            Some(session) => Some(session),
            None if !folder.exists() => return Ok(()),
            None => session::find(&self.inner, id, &folder).await,
        };
        if let Some(session) = session {
            session.end().await;
        }
        folder.remove().map_err(Error::from)
    }

    async fn sessions(&self) -> Result<Vec<ContainerId>> {
        Ok(folder::list(&self.inner.root)?)
    }

    fn deaths(&self) -> BoxStream<ContainerId> {
        News::stream(&self.inner.deaths)
    }

    fn stdin_ends(&self) -> BoxStream<ContainerId> {
        News::stream(&self.inner.stdin_ends)
    }
}

/// Whether a companion is the first of its run.
enum Placing {
    First,
    /// After one that died; with the reading ends that were kept, if gantryd has lived as long.
    Successor(Option<Arc<Session>>),
}

impl Inner {
    fn session(&self, id: &ContainerId) -> Option<Arc<Session>> {
        self.sessions.lock().get(id).cloned()
    }

    fn insert(&self, session: Arc<Session>) {
        self.sessions.lock().insert(session.setup.id.clone(), session);
        self.changes.send_modify(|count| *count += 1);
    }

    async fn adopt(self: &Arc<Self>, setup: &StdioSetup) -> Result<()> {
        let _turn = self.adopting.lock().await;
        let known = self.session(&setup.id);
        if known.as_ref().is_some_and(|session| session.state() != State::Dead && session.setup.run == setup.run) {
            return Ok(());
        }
        let folder = RunFolder::new(&self.root, &setup.id);
        if !folder.exists() {
            return Err(Error::not_found(format!("the streams of container {} are gone", setup.id)));
        }
        let session = match session::rejoin(self, setup, &folder, known.as_ref()).await? {
            Some(session) => session,
            None if folder.ended_run() == Some(setup.run) => Session::ended(setup.clone()),
            None => {
                tracing::warn!(container = %setup.id, run = setup.run, "the companion is gone; a successor takes its place");
                self.place(setup, &folder, Placing::Successor(known)).await?
            }
        };
        self.insert(session);
        Ok(())
    }

    /// Puts a spare to work on the run.
    async fn place(self: &Arc<Self>, setup: &StdioSetup, folder: &RunFolder, placing: Placing) -> Result<Arc<Session>> {
        let (inner, owned, folder) = (self.clone(), setup.clone(), folder.clone());
        let placed = tokio::task::spawn_blocking(move || spare::place(&inner.spares, &owned, &folder, placing));
        let placed = placed.await.map_err(|error| Error::system("placing a companion failed").with_source(error))??;
        Session::start(self, setup.clone(), placed)
    }
}
