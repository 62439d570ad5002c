//! The thread that keeps sled in line with the log. Nobody's reply waits for it; when sled fails it is opened again,
//! and when sled is damaged it is put aside and filled from the log.

mod db;
mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use gantry_domain::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    entry::Key,
    log::{self, Log, Slot},
};
use db::{Db, Fault};
pub use values::{Kept, State};

const RETRY: Duration = Duration::from_secs(1);
/// A database that fails sooner after its rebuild is not rebuilt again.
const YOUNG: Duration = Duration::from_secs(60);

/// What the thread is asked for.
pub enum Ask {
    /// Something is dirty.
    Wake,
    Get {
        key: String,
        reply: oneshot::Sender<Option<Vec<u8>>>,
    },
    Flush {
        reply: oneshot::Sender<Result<()>>,
    },
    Stop,
}

/// Keys and caches that sled has not got yet. Bounded by how many there are, however long sled is away.
#[derive(Clone)]
pub struct Dirty {
    pending: Arc<Mutex<Pending>>,
    ask: Sender<Ask>,
}

#[derive(Default)]
struct Pending {
    keys: BTreeSet<Key>,
    caches: BTreeMap<String, Vec<u8>>,
}

impl Dirty {
    pub fn new(ask: Sender<Ask>) -> Self {
        Self { pending: Arc::default(), ask }
    }
    pub fn mark(&self, keys: Vec<Key>) {
        self.change(|pending| pending.keys.extend(keys));
    }
    pub fn put_cache(&self, key: &str, value: Vec<u8>) {
        self.change(|pending| {
            pending.caches.insert(key.to_owned(), value);
        });
    }
    pub fn cached(&self, key: &str) -> Option<Vec<u8>> {
        self.pending.lock().caches.get(key).cloned()
    }
    fn change(&self, change: impl FnOnce(&mut Pending)) {
        let mut pending = self.pending.lock();
        let was_idle = pending.keys.is_empty() && pending.caches.is_empty();
        change(&mut pending);
        drop(pending);
        if was_idle {
            // The thread ends with the store only.
            let _ = self.ask.send(Ask::Wake);
        }
    }
    fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock())
    }
    fn put_back(&self, taken: Pending) {
        let mut pending = self.pending.lock();
        pending.keys.extend(taken.keys);
        for (key, value) in taken.caches {
            pending.caches.entry(key).or_insert(value);
        }
    }
}

/// What sled held when it was opened, where the log needs healing.
pub struct Contents {
    /// Sequence that sled had applied; everything up to it was complete.
    pub applied: u64,
    pub kept: Vec<Kept>,
}

pub struct Shadow {
    root: PathBuf,
    log: Arc<Mutex<Log>>,
    dirty: Dirty,
    trouble: Arc<Mutex<Vec<String>>>,
    db: Option<Db>,
    /// When sled was last put aside. Where a fresh one fails at once, the fault is not in its data.
    put_aside_at: Option<Instant>,
}

impl Shadow {
    pub fn new(root: PathBuf, log: Arc<Mutex<Log>>, dirty: Dirty, trouble: Arc<Mutex<Vec<String>>>) -> Self {
        Self { root, log, dirty, trouble, db: None, put_aside_at: None }
    }

    /// Opens sled and reads all of it. `None`: there was nothing trustworthy in it.
    pub fn open(&mut self) -> Option<Contents> {
        self.db = None;
        match db::open(&self.root).and_then(|db| Ok((db.contents()?, db))) {
            Ok((contents, db)) => {
                self.db = Some(db);
                Some(contents)
            }
            Err(Fault::Damaged(why)) if self.put_aside_at.is_none_or(|at| at.elapsed() >= YOUNG) => {
                self.put_aside(&why);
                None
            }
            Err(Fault::Damaged(why) | Fault::Unavailable(why)) => {
                self.say(format!(
                    "the metadata database is not available, records are kept in records.log only: {why}"
                ));
                None
            }
        }
    }

    /// Runs until it is told to stop. `contents` is what `open` has read.
    pub fn run(mut self, contents: Option<Contents>, asks: &Receiver<Ask>) {
        self.reconcile(contents);
        loop {
            let ask = if self.db.is_some() {
                asks.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                asks.recv_timeout(RETRY)
            };
            match ask {
                Ok(Ask::Wake) => self.catch_up(),
                Ok(Ask::Get { key, reply }) => {
                    self.catch_up();
                    let _ = reply.send(self.get(&key));
                }
                Ok(Ask::Flush { reply }) => {
                    self.catch_up();
                    let _ = reply.send(self.flush());
                }
                Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.reopen(),
            }
        }
        self.catch_up();
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the metadata database was not flushed at the end");
        }
    }

    /// Finds out what differs between sled and the log, and brings it in line.
    fn reconcile(&mut self, contents: Option<Contents>) {
        let kept: BTreeMap<Key, u64> =
            contents.into_iter().flat_map(|contents| contents.kept).map(|kept| (kept.key, kept.sequence)).collect();
        let mut stale: Vec<Key> = Vec::new();
        {
            let log = self.log.lock();
            stale.extend(log.index.iter().filter(|(k, s)| kept.get(*k) != Some(&s.sequence)).map(|(k, _)| k.clone()));
            stale.extend(kept.keys().filter(|key| !log.index.contains_key(*key)).cloned());
        }
        self.dirty.mark(stale);
        self.catch_up();
    }

    fn catch_up(&mut self) {
        let Some(db) = &self.db else { return };
        // One look at both: what changes afterwards is dirty again. A rewrite leaves this handle its file.
        let (taken, file, sequence, slots): (_, _, _, Vec<(Key, Option<Slot>)>) = {
            let log = self.log.lock();
            let taken = self.dirty.take();
            let slots = taken.keys.iter().map(|key| (key.clone(), log.index.get(key).copied())).collect();
            (taken, Arc::clone(&log.file), log.sequence, slots)
        };
        let applied = db
            .apply(&slots, sequence, |slot| log::read(&file, slot))
            .and_then(|()| taken.caches.iter().try_for_each(|(key, value)| db.put_cache(key, value)));
        if let Err(fault) = applied {
            self.dirty.put_back(taken);
            self.fail(fault);
        }
    }

    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        match self.db.as_ref()?.get_cache(key) {
            Ok(value) => value,
            Err(fault) => {
                self.fail(fault);
                None
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        let Some(db) = &self.db else {
            return Err(Error::unavailable("the metadata database is not available"));
        };
        if let Err(fault) = db.flush() {
            let error = Error::system(format!("cannot flush the metadata database: {fault}"));
            self.fail(fault);
            return Err(error);
        }
        Ok(())
    }

    /// After an I/O error sled stays broken until it is opened anew; after damage it is put aside.
    fn fail(&mut self, fault: Fault) {
        self.db = None;
        let young = self.put_aside_at.is_some_and(|at| at.elapsed() < YOUNG);
        match fault {
            Fault::Damaged(why) if !young => {
                self.put_aside(&why);
                self.reconcile(None);
            }
            Fault::Damaged(why) | Fault::Unavailable(why) => {
                tracing::warn!(%why, "the metadata database failed, it will be opened again");
                self.say(format!(
                    "the metadata database is not available, records are kept in records.log only: {why}"
                ));
            }
        }
    }

    fn reopen(&mut self) {
        let contents = self.open();
        if self.db.is_some() {
            tracing::info!("the metadata database is back");
            self.trouble.lock().retain(|text| !text.contains("not available"));
            self.reconcile(contents);
        }
    }

    fn put_aside(&mut self, why: &str) {
        self.put_aside_at = Some(Instant::now());
        let moved = crate::quarantine::move_in(&self.root, &db::folder(&self.root));
        let text = match &moved {
            Ok(folder) => format!(
                "the metadata database was damaged ({why}); it is kept in {} and was rebuilt from records.log",
                folder.display()
            ),
            Err(error) => format!("the metadata database is damaged ({why}) and could not be moved away: {error}"),
        };
        tracing::warn!(damage = %text, "the metadata database was damaged");
        self.say(text);
        if moved.is_ok() {
            match db::open(&self.root) {
                Ok(db) => self.db = Some(db),
                Err(fault) => self.say(format!("the metadata database is not available: {fault}")),
            }
        }
    }

    fn say(&self, text: String) {
        let mut trouble = self.trouble.lock();
        if !trouble.contains(&text) {
            trouble.push(text);
        }
    }
}
