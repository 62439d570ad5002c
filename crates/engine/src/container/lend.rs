//! A container's files, lent to a copy: by the root of its process, or mounted for the copy alone.
//!
//! One upper folder is never mounted twice. A container that runs is reached by its own mounts; one that does not is
//! mounted once for all who write, and without its upper folder as such for those who read. A start waits for writers a
//! while and then ends them; a removal ends them at once.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use gantry_domain::{
    Error, Result,
    container::{MountPoint, Status, copy::CopyRules, validate::mounts::clean},
    ports::{ByteStream, Keep, OpenRoot, RootBind, RootRef, RootView, TaskStatus},
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{binds, mounts, owner::Owner};

/// How long a start waits for the copies that write.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// A volume's server that does not answer.
const MOUNT_LIMIT: Duration = Duration::from_secs(120);
/// A copy that was told to end and hangs in a file system is left behind.
const END_LIMIT: Duration = Duration::from_secs(3);
/// How long the rest of a body is read for a client that is to read an answer.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Write,
}

/// Copies under way that hold the container's upper folder.
#[derive(Default)]
pub(crate) struct Copies {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// The mount of a container that does not run, shared by all who write to it.
    written: Option<Weak<dyn OpenRoot>>,
}

pub(crate) struct Lent {
    pub root: Arc<dyn OpenRoot>,
    pub rules: CopyRules,
    /// The files are wanted back.
    pub stop: CancellationToken,
}

impl Owner {
    pub(crate) async fn lend(&mut self, purpose: Purpose) -> Result<Lent> {
        if matches!(self.status, Status::Removing | Status::Dead) {
            return Err(Error::conflict(format!("container {} is marked for removal", self.record.id)));
        }
        let running = self.status.has_process();
        let rules = CopyRules::of(&self.record, running);
        let root = if running { self.lend_running().await? } else { self.lend_stopped(purpose, &rules).await? };
        Ok(Lent { root, rules, stop: self.copies.stop.clone() })
    }

    async fn lend_running(&self) -> Result<Arc<dyn OpenRoot>> {
        // What the runtime fills and nobody asked for: a copy shows its place, as dockerd does.
        let own = |path: &&str| !self.record.mounts.iter().any(|point| clean(&point.destination) == **path);
        let view = RootView {
            root: RootRef::Process(self.pid),
            write: true,
            binds: Vec::new(),
            veiled: ["/dev"].iter().filter(|path| own(path)).map(|path| (*path).to_owned()).collect(),
        };
        let root = self.parts.ports.rootfs.open(view, Box::new(self.copies.tracker.token())).await?;
        // It still is the container's process: so it was when its root was opened, and its number nobody else's.
        match self.parts.ports.runtime.task(&self.record.id).await? {
            Some(task) if task.pid == self.pid && matches!(task.status, TaskStatus::Running | TaskStatus::Paused) => {
                Ok(root)
            }
            _ => Err(Error::conflict(format!("container {} is not running", self.record.id))),
        }
    }

    async fn lend_stopped(&mut self, purpose: Purpose, rules: &CopyRules) -> Result<Arc<dyn OpenRoot>> {
        let written = self.copies.written.as_ref().and_then(Weak::upgrade);
        // A read-only root is not written: only its volumes are, which are mounts of their own.
        let write = purpose == Purpose::Write && !rules.read_only_root;
        if let Some(root) = &written
            && write
        {
            return Ok(root.clone());
        }
        if write && !self.record.copied_into {
            // Durable first: what is copied in is looked at by the next start, whichever gantryd makes it.
            self.record.copied_into = true;
            if let Err(error) = self.save().await {
                self.record.copied_into = false;
                return Err(error);
            }
        }
        let ports = self.parts.ports.clone();
        binds::make_sources(&self.parts, &self.record).await?;
        let mut keep: Vec<Keep> = vec![Box::new(self.mount_optioned().await?)];
        if write || purpose == Purpose::Write {
            keep.push(Box::new(self.copies.tracker.token()));
        }
        let root_mounts = ports.runtime.root_mounts(&self.record.id).await?;
        let binds = self.binds();
        if !binds.is_empty() && written.is_none() {
            ports.rootfs.make_places(&root_mounts, &binds).await?;
        }
        let binds = binds.into_iter().chain(self.engine_binds().await?).collect();
        let view = RootView { root: RootRef::Mounts(root_mounts), write, binds, veiled: Vec::new() };
        let root = ports.rootfs.open(view, Box::new(keep)).await?;
        if write {
            self.copies.written = Some(Arc::downgrade(&root));
        }
        Ok(root)
    }

    /// What was asked to be mounted, parents first. A tmpfs is there in a running container only.
    fn binds(&self) -> Vec<RootBind> {
        let points = mounts::bound(&self.parts, &self.record);
        let points = points.iter().filter(|point| matches!(point.kind.as_str(), "bind" | "volume" | "image"));
        let mut binds: Vec<RootBind> = points.map(bind).collect();
        binds.sort_by_key(|bind| bind.destination.matches('/').count());
        binds
    }

    /// `hosts` and its like, once a run has made them.
    async fn engine_binds(&self) -> Result<Vec<RootBind>> {
        let folder = self.parts.ports.files.path(&super::inspect::files_owner(&self.record));
        let mut binds = Vec::new();
        for name in ["resolv.conf", "hostname", "hosts"] {
            let source = folder.join(name);
            if self.parts.ports.host.path_kind(&source.to_string_lossy()).await?.is_some() {
                let destination = format!("/etc/{name}");
                binds.push(RootBind { source, destination, read_only: false, recursive: false });
            }
        }
        Ok(binds)
    }

    /// Volumes that are mounted for their users (NFS, tmpfs): this copy is one until what is returned is dropped.
    async fn mount_optioned(&self) -> Result<Option<oneshot::Sender<()>>> {
        if !mounts::has_optioned(&self.parts, &self.record) {
            return Ok(None);
        }
        // First, so that a mount which is cut off in the middle is undone as well.
        let (held, dropped) = oneshot::channel::<()>();
        let handle = self.handle.clone();
        // Ends with the copy; a container that is gone meanwhile has unmounted them itself.
        tokio::spawn(async move {
            let _ = dropped.await;
            if let Err(error) = handle.run(|owner| owner.unmount_after_copy().boxed()).await {
                tracing::debug!(container = %handle.id, %error, "the volumes of a copy are left to the container");
            }
        });
        let mounted = mounts::mount_quietly(&self.parts, &self.record);
        self.handle.bounded(MOUNT_LIMIT, "mounting the volumes", mounted).await?;
        Ok(Some(held))
    }

    async fn unmount_after_copy(&mut self) -> Result<()> {
        if self.status.has_process() {
            return Ok(());
        }
        mounts::unmount_quietly(&self.parts, &self.record).await
    }

    /// Waits for the copies that hold the upper folder, and ends them when the wait is over.
    pub(crate) async fn end_copies(&mut self, patience: Duration) {
        let tracker = self.copies.tracker.clone();
        if tracker.is_empty() {
            return;
        }
        tracker.close();
        if tokio::time::timeout(patience, tracker.wait()).await.is_err() {
            tracing::info!(container = %self.record.id, "copies are ended: the container's files are needed");
            self.copies.stop.cancel();
            if tokio::time::timeout(END_LIMIT, tracker.wait()).await.is_err() {
                tracing::warn!(container = %self.record.id, "a copy does not end");
            }
            self.copies.stop = CancellationToken::new();
        }
        self.copies.written = None;
        tracker.reopen();
    }
}

fn bind(point: &MountPoint) -> RootBind {
    let asked = point.spec.as_ref().and_then(|spec| spec.bind_options.as_ref());
    RootBind {
        source: PathBuf::from(&point.source),
        destination: clean(&point.destination),
        read_only: !point.rw,
        recursive: !asked.is_some_and(|options| options.non_recursive),
    }
}

/// The same bytes until the files are wanted back; then an error, and what was read from is let go at once, also
/// where the reader stands still. What is left of a body that nobody takes is read away, so that its sender gets to
/// the answer.
pub(crate) fn stoppable(mut stream: ByteStream, stop: CancellationToken) -> ByteStream {
    let (sender, receiver) = mpsc::channel(1);
    // Ends with the stream, its reader, or the wish.
    tokio::spawn(async move {
        loop {
            let item = tokio::select! {
                () = stop.cancelled() => break,
                item = stream.next() => item,
            };
            let Some(item) = item else { return };
            let sent = tokio::select! {
                () = stop.cancelled() => break,
                sent = sender.send(item) => sent,
            };
            if sent.is_err() {
                let rest = async { while stream.next().await.is_some_and(|item| item.is_ok()) {} };
                let _ = tokio::time::timeout(DRAIN_LIMIT, rest).await;
                return;
            }
        }
        drop(stream);
        let ended = Err(Error::cancelled("the copy was ended: the container is started or removed"));
        let _ = sender.send(ended).await;
    });
    ReceiverStream::new(receiver).boxed()
}
