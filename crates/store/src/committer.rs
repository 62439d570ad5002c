//! The one thread that writes the log: what waits is written together and shares one fdatasync.

use std::{
    collections::HashMap,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, TryRecvError},
    },
};

use gantry_domain::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    entry::{Entry, Key, Kind, Op},
    log::{Encoded, Log, Slot},
    reserve::Reserve,
    shadow::Dirty,
};

/// Writes beyond this many bytes wait for the next group.
const GROUP: usize = 4 << 20;

/// One call of `commit`.
pub struct Commit {
    pub entries: Vec<Entry>,
    pub reply: oneshot::Sender<Result<()>>,
}

pub struct Committer {
    pub root: PathBuf,
    /// Held only to read or change the index, never across I/O but a rewrite.
    pub log: Arc<Mutex<Log>>,
    pub dirty: Dirty,
    pub reserve: Reserve,
    pub syncs: Arc<AtomicU64>,
    /// What `warnings` tells of the log.
    pub trouble: Arc<Mutex<Option<String>>>,
    /// A write failed: bytes may lie behind the tail.
    pub torn: bool,
    /// An fdatasync failed: the kernel may have dropped pages it says are clean, so the file is not to be trusted.
    pub suspect: bool,
}

impl Committer {
    /// Runs until the store is dropped.
    pub fn run(mut self, commits: &Receiver<Commit>) {
        while let Ok(first) = commits.recv() {
            let mut size = weight(&first);
            let mut group = vec![first];
            while size < GROUP {
                match commits.try_recv() {
                    Ok(next) => {
                        size += weight(&next);
                        group.push(next);
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.commit(group);
            self.compact_when_due();
        }
    }

    fn commit(&mut self, group: Vec<Commit>) {
        let group = self.admit(group);
        if group.is_empty() {
            return;
        }
        match self.write(&group) {
            Ok(()) => answer(group, &Ok(())),
            // One that is too large must not fail the others.
            Err(error) if group.len() > 1 => {
                tracing::warn!(%error, "a group of records was not written, trying them one by one");
                for commit in group {
                    let alone = vec![commit];
                    let written = self.write(&alone);
                    answer(alone, &self.outcome(written));
                }
            }
            Err(error) => answer(group, &self.outcome(Err(error))),
        }
    }

    /// Refuses what the rules forbid; what is left may be written in this order.
    fn admit(&self, group: Vec<Commit>) -> Vec<Commit> {
        let mut pending: HashMap<Key, Option<Slot>> = HashMap::new();
        let log = self.log.lock();
        let mut admitted = Vec::with_capacity(group.len());
        for commit in group {
            let verdict = commit.entries.iter().try_for_each(|entry| {
                let known = pending.get(&entry.key).copied().unwrap_or_else(|| log.index.get(&entry.key).copied());
                rule(entry, known.as_ref())
            });
            match verdict {
                Ok(()) => {
                    for entry in &commit.entries {
                        pending.insert(entry.key.clone(), after(entry));
                    }
                    admitted.push(commit);
                }
                Err(error) => {
                    let _ = commit.reply.send(Err(error));
                }
            }
        }
        admitted
    }

    /// All of the group is durable, or nothing of it is to be seen.
    fn write(&mut self, group: &[Commit]) -> io::Result<()> {
        let removal = group.iter().all(|commit| commit.entries.iter().all(|entry| entry.op != Op::Put));
        if !removal && !self.reserve.is_held() {
            self.reserve.take()?;
        }
        match self.append(group) {
            Err(error) if removal && is_full(&error) && self.reserve.release() => {
                tracing::warn!("the disk is full: the store's reserve is given up for a removal");
                self.append(group)
            }
            other => other,
        }
    }

    fn append(&mut self, group: &[Commit]) -> io::Result<()> {
        self.repair()?;
        let (file, tail, mut sequence) = {
            let log = self.log.lock();
            (Arc::clone(&log.file), log.tail, log.sequence)
        };
        let mut bytes = Vec::new();
        let mut frames: Vec<(u64, Encoded)> = Vec::with_capacity(group.len());
        for commit in group {
            sequence += 1;
            let encoded = Log::encode(sequence, &commit.entries);
            bytes.extend_from_slice(&encoded.bytes);
            frames.push((sequence, encoded));
        }
        self.torn = true;
        file.write_all_at(&bytes, tail)?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = file.sync_data() {
            self.suspect = true;
            return Err(error);
        }
        self.torn = false;
        *self.trouble.lock() = None;
        // Marked under the log's lock: sled must never be told a sequence without the keys that it stands for.
        let mut log = self.log.lock();
        let changed = log.accept(frames);
        log.sequence = sequence;
        self.dirty.mark(changed);
        Ok(())
    }

    /// Takes back what an earlier failure left behind.
    fn repair(&mut self) -> io::Result<()> {
        if !self.torn && !self.suspect {
            return Ok(());
        }
        let mut log = self.log.lock();
        if self.suspect {
            if log.pinned {
                return Err(io::Error::other("the log cannot be rewritten while a copy of its damage is missing"));
            }
            log.compact(&self.root)?;
        } else {
            log.file.set_len(log.tail)?;
        }
        (self.torn, self.suspect) = (false, false);
        Ok(())
    }

    fn outcome(&mut self, written: io::Result<()>) -> Result<()> {
        let error = match written {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        tracing::error!(%error, "a record was not written");
        let text = if is_full(&error) {
            format!("cannot store the record: no space left on the disk of {}", self.root.display())
        } else {
            format!("cannot store the record in {}: {error}", self.root.display())
        };
        // At once, so that what was not acknowledged is not there after a crash either.
        if let Err(error) = self.repair() {
            tracing::error!(%error, "the record log is not repaired yet");
        }
        *self.trouble.lock() = Some(text.clone());
        Err(Error::system(text).with_source(error))
    }

    fn compact_when_due(&mut self) {
        let mut log = self.log.lock();
        if !log.wants_compaction() || self.torn {
            return;
        }
        let before = log.tail;
        match log.compact(&self.root) {
            Ok(()) => tracing::debug!(before, after = log.tail, "the record log was rewritten"),
            Err(error) => tracing::warn!(%error, "the record log was not rewritten"),
        }
    }
}

/// What may be written over what is there.
fn rule(entry: &Entry, known: Option<&Slot>) -> Result<()> {
    let Some(known) = known else { return Ok(()) };
    let name = || format!("{} {}", entry.key.kind.name(), entry.key.id);
    if known.is_newer() {
        return Err(Error::conflict(format!("{} was written by a newer version and cannot be changed", name())));
    }
    if entry.op != Op::Put {
        return Ok(());
    }
    if known.tombstone {
        // Docker's words for the one case that a client can see.
        let what = if entry.key.kind == Kind::CONTAINER { "container" } else { "object" };
        return Err(Error::conflict(format!("removal of {what} {} is already in progress", entry.key.id)));
    }
    if entry.generation < known.generation {
        let (old, new) = (known.generation, entry.generation);
        return Err(Error::conflict(format!("{} was changed meanwhile (generation {old}, not {new})", name())));
    }
    Ok(())
}

fn after(entry: &Entry) -> Option<Slot> {
    (entry.op != Op::Gone).then_some(Slot {
        sequence: 0,
        generation: entry.generation,
        schema: entry.schema,
        tombstone: entry.op == Op::Tombstone,
        offset: 0,
        len: 0,
    })
}

fn answer(group: Vec<Commit>, outcome: &Result<()>) {
    for commit in group {
        // A caller that has gone away needs no answer; its write stands.
        let _ = commit.reply.send(outcome.clone());
    }
}

fn weight(commit: &Commit) -> usize {
    commit.entries.iter().map(|entry| entry.data.len() + 64).sum()
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
