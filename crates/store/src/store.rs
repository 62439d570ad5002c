//! `RecordStore`: the store port. Two threads belong to it, and end when it is dropped.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Sender},
    },
    thread::JoinHandle,
};

use async_trait::async_trait;
use gantry_domain::{
    ContainerId, Error, NetworkId, Result,
    ports::{KeptRecord, Loaded, RecordKind, Store, Write},
};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::{
    committer::{Commit, Committer},
    entry::{Entry, Key, Kind, Op},
    log::{self, Log, Slot},
    recovery,
    reserve::Reserve,
    shadow::{Ask, Contents, Dirty, Kept, Shadow, State},
};

/// The records of one data root. The daemon holds the lock on the root; two stores on one root are not guarded against.
pub struct RecordStore {
    log: Arc<Mutex<Log>>,
    dirty: Dirty,
    commits: Option<Sender<Commit>>,
    asks: Sender<Ask>,
    syncs: Arc<AtomicU64>,
    /// What was found damaged at the start; in `Loaded` and in `warnings`.
    damage: Vec<String>,
    log_trouble: Arc<Mutex<Option<String>>>,
    sled_trouble: Arc<Mutex<Vec<String>>>,
    sled_opened: watch::Receiver<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl RecordStore {
    /// Opens or makes the store below `root`; blocks while the log is read. Damage is no error: it is told by `load`
    /// and `warnings`. Fails only where the folder cannot be used at all.
    pub fn open(root: &Path) -> Result<Self> {
        let mut recovered = recovery::open(root)?;
        let reserve = Reserve::open(root);
        let (asks, asked) = mpsc::channel();
        let (commits, committed) = mpsc::channel();
        let (opened, sled_opened) = watch::channel(false);
        let dirty = Dirty::new(asks.clone());
        let sled_trouble: Arc<Mutex<Vec<String>>> = Arc::default();
        let (heal, mut damage) = (recovered.heal, std::mem::take(&mut recovered.damage));
        let log = Arc::new(Mutex::new(recovered.log));
        let mut shadow = Shadow::new(root.to_owned(), Arc::clone(&log), dirty.clone(), Arc::clone(&sled_trouble));
        // Only a damaged log needs sled before it can be used; else sled opens beside the start.
        let healed = if heal { Some(shadow.open()) } else { None };
        if let Some(Some(contents)) = &healed {
            damage.extend(heal_from(&mut log.lock(), contents));
        }
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
            spawned.map_err(|error| Error::system(format!("cannot start the thread {name}: {error}")))
        };
        let shadow_thread = spawn(
            "store-sled",
            Box::new(move || {
                let contents = healed.unwrap_or_else(|| shadow.open());
                opened.send_replace(true);
                shadow.run(contents, &asked);
            }),
        )?;
        let syncs = Arc::new(AtomicU64::new(0));
        let log_trouble = Arc::default();
        let committer = Committer {
            root: root.to_owned(),
            log: Arc::clone(&log),
            dirty: dirty.clone(),
            reserve,
            syncs: Arc::clone(&syncs),
            trouble: Arc::clone(&log_trouble),
            torn: false,
            suspect: false,
        };
        let commit_thread = spawn("store-commit", Box::new(move || committer.run(&committed)))?;
        let threads = vec![commit_thread, shadow_thread];
        Ok(Self {
            log,
            dirty,
            commits: Some(commits),
            asks,
            syncs,
            damage,
            log_trouble,
            sled_trouble,
            sled_opened,
            threads,
        })
    }

    /// How often the log was synced since it was opened.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn log(&self) -> &Arc<Mutex<Log>> {
        &self.log
    }

    /// Where the log of a store lies.
    pub fn log_path(root: &Path) -> PathBuf {
        Log::path_in(root)
    }
}

impl Drop for RecordStore {
    fn drop(&mut self) {
        self.commits = None;
        let _ = self.asks.send(Ask::Stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

#[async_trait]
impl Store for RecordStore {
    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let entries = writes.iter().map(Entry::of).collect::<Result<Vec<_>>>()?;
        if entries.iter().map(|entry| entry.data.len() + entry.key.id.len() + 32).sum::<usize>() > u32::MAX as usize {
            return Err(Error::invalid("the record is too large"));
        }
        let (reply, answer) = oneshot::channel();
        let gone = || Error::system("the record log is closed");
        let commits = self.commits.as_ref().ok_or_else(gone)?;
        commits.send(Commit { entries, reply }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn load(&self) -> Result<Loaded> {
        // What sled has to say belongs into the answer; opening it takes milliseconds, a stuck lock seconds.
        let _ = self.sled_opened.clone().wait_for(|opened| *opened).await;
        let log = Arc::clone(&self.log);
        let mut loaded = tokio::task::spawn_blocking(move || {
            let (file, mut slots) = {
                let log = log.lock();
                let slots: Vec<(Key, Slot)> = log.index.iter().map(|(key, slot)| (key.clone(), *slot)).collect();
                (Arc::clone(&log.file), slots)
            };
            slots.sort_by_key(|(_, slot)| slot.offset);
            let mut loaded = Loaded::default();
            for (key, slot) in slots {
                let data = log::read(&file, &slot);
                take(&mut loaded, key, slot, data);
            }
            loaded
        })
        .await
        .map_err(|error| Error::system("reading the records was cut short").with_source(error))?;
        loaded.damage.splice(0..0, self.damage.iter().cloned().chain(self.sled_trouble.lock().iter().cloned()));
        Ok(loaded)
    }

    async fn put_cache(&self, key: &str, value: Vec<u8>) -> Result<()> {
        if key.contains('\0') {
            return Err(Error::invalid("a cache key holds no NUL"));
        }
        self.dirty.put_cache(key, value);
        Ok(())
    }

    async fn get_cache(&self, key: &str) -> Result<Option<Vec<u8>>> {
        if let Some(value) = self.dirty.cached(key) {
            return Ok(Some(value).filter(|value| !value.is_empty()));
        }
        let (reply, answer) = oneshot::channel();
        if self.asks.send(Ask::Get { key: key.to_owned(), reply }).is_err() {
            return Ok(None);
        }
        Ok(answer.await.unwrap_or_default())
    }

    async fn flush(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::system("the metadata database is closed");
        self.asks.send(Ask::Flush { reply }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.damage.clone();
        warnings.extend(self.sled_trouble.lock().iter().cloned());
        warnings.extend(self.log_trouble.lock().iter().cloned());
        warnings
    }
}

/// Sorts one record into what was loaded; what cannot be read is told and stays where it is.
fn take(loaded: &mut Loaded, key: Key, slot: Slot, data: std::io::Result<Vec<u8>>) {
    let name = format!("{} {}", key.kind.name(), key.id);
    let kind = kept_kind(key.kind);
    let mut kept = KeptRecord { kind, id: key.id.clone(), newer: false, raw: Vec::new() };
    let data = match data {
        Ok(data) => data,
        Err(error) => {
            loaded.kept.push(kept);
            return loaded.damage.push(format!("{name} cannot be read: {error}"));
        }
    };
    if slot.is_newer() || matches!(kept.kind, RecordKind::Other(_)) {
        (kept.newer, kept.raw) = (true, data);
        return loaded.kept.push(kept);
    }
    let taken = match (key.kind, slot.tombstone) {
        (Kind::CONTAINER, true) => ContainerId::parse(&key.id).map(|id| loaded.container_tombstones.push(id)),
        (Kind::NETWORK, true) => NetworkId::parse(&key.id).map(|id| loaded.network_tombstones.push(id)),
        (_, true) => {
            loaded.volume_tombstones.push(key.id);
            Ok(())
        }
        (Kind::CONTAINER, _) => parse(&data).map(|record| loaded.containers.push(record)),
        (Kind::NETWORK, _) => parse(&data).map(|record| loaded.networks.push(record)),
        (Kind::DEBT, _) => parse(&data).map(|record| loaded.debts.push(record)),
        (_, _) => parse(&data).map(|record| loaded.volumes.push(record)),
    };
    if let Err(error) = taken {
        tracing::error!(record = %name, ?error, "a record cannot be decoded, it is kept as it is");
        loaded.damage.push(format!("{name} cannot be decoded: {error}"));
        kept.raw = data;
        loaded.kept.push(kept);
    }
}

fn kept_kind(kind: Kind) -> RecordKind {
    match kind {
        Kind::CONTAINER => RecordKind::Container,
        Kind::VOLUME => RecordKind::Volume,
        Kind::NETWORK => RecordKind::Network,
        Kind::DEBT => RecordKind::Debt,
        other => RecordKind::Other(other.name()),
    }
}

fn parse<T: serde::de::DeserializeOwned>(data: &[u8]) -> Result<T> {
    serde_json::from_slice(data).map_err(|error| Error::data_loss(error.to_string()))
}

/// Takes from sled what the log lost. Records go back into the log with the first write that the log can take.
fn heal_from(log: &mut Log, contents: &Contents) -> Vec<String> {
    let lost: Vec<&Kept> = contents
        .kept
        .iter()
        .filter(|kept| log.index.get(&kept.key).is_none_or(|slot| slot.sequence < kept.sequence))
        .collect();
    // What sled had seen and has no longer was gone; its last frame lay in the damage.
    let gone: Vec<Key> = log
        .index
        .iter()
        .filter(|(key, slot)| slot.sequence <= contents.applied && !contents.kept.iter().any(|kept| kept.key == **key))
        .map(|(key, _)| key.clone())
        .collect();
    log.sequence = log.sequence.max(contents.applied);
    if lost.is_empty() && gone.is_empty() {
        return Vec::new();
    }
    let (mut entries, mut said) = (Vec::new(), Vec::new());
    for kept in &lost {
        let entry =
            |op, data| Entry { key: kept.key.clone(), op, schema: kept.schema, generation: kept.generation, data };
        match &kept.state {
            State::Inline(data) => entries.push(entry(Op::Put, data.clone())),
            State::Tombstone => entries.push(entry(Op::Tombstone, Vec::new())),
            State::InLog => said.push(format!("{} {} was lost with the log", kept.key.kind.name(), kept.key.id)),
        }
    }
    entries.extend(gone.into_iter().map(|key| Entry { key, op: Op::Gone, schema: 0, generation: 0, data: Vec::new() }));
    let count = entries.len();
    match append_now(log, &entries) {
        Ok(()) => said.push(format!("{count} record(s) were taken from the metadata database")),
        Err(error) => said.push(format!("{count} record(s) of the metadata database could not be taken: {error}")),
    }
    said
}

fn append_now(log: &mut Log, entries: &[Entry]) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let sequence = log.sequence + 1;
    let encoded = Log::encode(sequence, entries);
    let written = log.file.write_all_at(&encoded.bytes, log.tail).and_then(|()| log.file.sync_data());
    if let Err(error) = written {
        log.file.set_len(log.tail)?;
        return Err(error);
    }
    log.accept([(sequence, encoded)]);
    log.sequence = sequence;
    Ok(())
}
