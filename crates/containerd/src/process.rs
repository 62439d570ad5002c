//! containerd itself: found or started, adopted, watched, and started again when it dies.
//!
//! ```text
//!  found (--containerd PATH) ── waited for, never touched
//!  own ── pid file names a live one of ours? ── yes ── its socket answers ── adopted ─┐
//!                    │ no                          └─ no ── killed ─┐                ├─► watched ── died ─┐
//!                    └──────────────────────────────────────────────┴──► started ────┘◄───────────────────┘
//! ```
//!
//! A containerd that we start is a session of its own with its output in a file, so that neither Ctrl-C nor the death
//! of gantryd reaches it; the next gantryd adopts it.

mod config;
mod pidfile;
mod supervise;

pub use config::Layout;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use gantry_domain::{Error, Result};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::metadata::{Ascii, MetadataValue};

use crate::client::{Client, NAMESPACE};

/// How long a containerd may take from its start to its first answer.
const START_PATIENCE: Duration = Duration::from_secs(30);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// A containerd that answers. Dropping it ends the watch, never containerd.
#[derive(Debug)]
pub struct Containerd {
    socket: PathBuf,
    state: PathBuf,
    root: PathBuf,
    namespace: MetadataValue<Ascii>,
    /// Present for one that is ours to restart; aborted on drop.
    watch: Option<JoinHandle<()>>,
}

impl Containerd {
    /// Uses the containerd behind `socket`, which somebody else looks after. Waits for it, and then no longer.
    pub async fn found(socket: impl Into<PathBuf>) -> Result<Self> {
        let socket = socket.into();
        answers(&socket, ANSWER_PATIENCE).await?;
        // What a distribution's containerd uses; where it does not, only `abandon_task` finds less to clean.
        Ok(Self {
            socket,
            state: "/run/containerd".into(),
            root: "/var/lib/containerd".into(),
            namespace: MetadataValue::from_static(NAMESPACE),
            watch: None,
        })
    }

    /// Adopts the containerd that an earlier gantryd started in this layout, or starts one, and keeps it running.
    pub async fn own(layout: Layout) -> Result<Self> {
        let running = supervise::ensure(&layout).await?;
        let (socket, state, root) = (layout.socket(), layout.state(), layout.root());
        let watch = tokio::spawn(supervise::keep(layout, running));
        Ok(Self { socket, state, root, namespace: MetadataValue::from_static(NAMESPACE), watch: Some(watch) })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
    /// containerd's `state` folder: bundles of tasks.
    pub fn state(&self) -> &Path {
        &self.state
    }
    /// containerd's `root` folder: what it keeps over a reboot.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Whether gantryd restarts it.
    pub fn is_own(&self) -> bool {
        self.watch.is_some()
    }
    /// Everything that its clients see and make is in this namespace.
    pub fn in_namespace(mut self, namespace: &str) -> Result<Self> {
        let wrong = || Error::invalid(format!("invalid namespace of containerd: {namespace}"));
        self.namespace = namespace.parse().map_err(|_| wrong())?;
        Ok(self)
    }
    pub fn client(&self) -> Client {
        Client::new(&self.socket).in_namespace(self.namespace.clone())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// Waits until containerd answers a call on `socket`.
async fn answers(socket: &Path, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    loop {
        // A new client for each try: the patience of a call is for outages, not for the first start.
        if tokio::net::UnixStream::connect(socket).await.is_ok() {
            let client = Client::new(socket);
            if let Ok(Ok(_)) = timeout(Duration::from_secs(2), client.version().version(())).await {
                return Ok(());
            }
        }
        if Instant::now() >= end {
            return Err(Error::unavailable(format!("containerd does not answer on {}", socket.display())));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
