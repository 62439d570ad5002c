//! `records.log` while it is open: the file, where each living record lies in it, and its rewriting.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    entry::{Entry, Key, Located, Op, SCHEMA},
    frame, quarantine,
};

/// A rewrite is worth it above this size, when more than half is garbage.
const COMPACT_ABOVE: u64 = 1 << 20;

/// Where the present state of a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub sequence: u64,
    pub generation: u64,
    pub schema: u32,
    pub tombstone: bool,
    pub offset: u64,
    pub len: u32,
}

impl Slot {
    /// A record of a newer schema; it is never changed.
    pub fn is_newer(&self) -> bool {
        self.schema > SCHEMA
    }
}

#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    /// A reader keeps its own handle: a rewrite puts another file in place.
    pub file: Arc<File>,
    pub index: HashMap<Key, Slot>,
    /// Everything before it is whole and durable.
    pub tail: u64,
    pub sequence: u64,
    /// It holds damage of which no copy could be made yet: it is appended to, never rewritten.
    pub pinned: bool,
    live: u64,
}

/// Bytes of a frame and where its entries' data will lie, relative to the frame's start.
pub struct Encoded {
    pub bytes: Vec<u8>,
    entries: Vec<Located>,
}

impl Log {
    pub fn path_in(root: &Path) -> PathBuf {
        root.join("records.log")
    }

    pub fn open(root: &Path) -> io::Result<Self> {
        let path = Self::path_in(root);
        let fresh = !path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        if fresh {
            file.sync_all()?;
            quarantine::sync_dir(root)?;
        }
        Ok(Self::empty(path, file))
    }

    fn empty(path: PathBuf, file: File) -> Self {
        Self { path, file: Arc::new(file), index: HashMap::new(), tail: 0, sequence: 0, pinned: false, live: 0 }
    }

    /// Takes one entry of a frame into the index. The lower generation loses.
    pub fn apply(&mut self, sequence: u64, entry: &Located) {
        self.sequence = self.sequence.max(sequence);
        let known = self.index.get(&entry.key).copied();
        if entry.op == Op::Put && known.is_some_and(|slot| !slot.tombstone && slot.generation > entry.generation) {
            return;
        }
        if let Some(slot) = known {
            self.live -= footprint(&entry.key, slot.len);
        }
        if entry.op == Op::Gone {
            self.index.remove(&entry.key);
            return;
        }
        let slot = Slot {
            sequence,
            generation: entry.generation,
            schema: entry.schema,
            tombstone: entry.op == Op::Tombstone,
            offset: entry.data.start as u64,
            len: entry.data.len() as u32,
        };
        self.live += footprint(&entry.key, slot.len);
        self.index.insert(entry.key.clone(), slot);
    }

    /// A frame of these entries under the given sequence.
    pub fn encode(sequence: u64, entries: &[Entry]) -> Encoded {
        let mut payload = Vec::new();
        let mut located = Vec::new();
        for entry in entries {
            let data = entry.encode(&mut payload);
            located.push(Located {
                key: entry.key.clone(),
                op: entry.op,
                schema: entry.schema,
                generation: entry.generation,
                data: data.start + frame::HEADER..data.end + frame::HEADER,
            });
        }
        let mut bytes = Vec::with_capacity(payload.len() + frame::HEADER);
        frame::encode(&mut bytes, sequence, &payload);
        Encoded { bytes, entries: located }
    }

    /// Takes durable frames that were written at the tail into the index.
    pub fn accept(&mut self, frames: impl IntoIterator<Item = (u64, Encoded)>) -> Vec<Key> {
        let mut changed = Vec::new();
        for (sequence, encoded) in frames {
            let base = self.tail as usize;
            for mut entry in encoded.entries {
                entry.data = entry.data.start + base..entry.data.end + base;
                self.apply(sequence, &entry);
                changed.push(entry.key);
            }
            self.tail += encoded.bytes.len() as u64;
        }
        changed
    }

    pub fn wants_compaction(&self) -> bool {
        !self.pinned && self.tail > COMPACT_ABOVE && self.tail > self.live.saturating_mul(2)
    }

    /// Writes what lives into a new file and puts that in the log's place. Until the rename the old one stands.
    pub fn compact(&mut self, root: &Path) -> io::Result<()> {
        let tmp = root.join("records.log.tmp");
        let rewritten = self.rewrite(&tmp);
        let new = match rewritten {
            Ok(new) => new,
            Err(error) => {
                let _ = std::fs::remove_file(&tmp);
                return Err(error);
            }
        };
        std::fs::rename(&tmp, &self.path)?;
        // From here the new file is the log whether or not the folder's sync succeeds.
        *self = Self { path: self.path.clone(), ..new };
        quarantine::sync_dir(root)
    }

    fn rewrite(&self, tmp: &Path) -> io::Result<Self> {
        use std::io::Write as _;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(tmp)?;
        let mut new = Self::empty(tmp.to_owned(), file);
        let mut keys: Vec<(&Key, &Slot)> = self.index.iter().collect();
        keys.sort_by_key(|(_, slot)| slot.sequence);
        let handle = Arc::clone(&new.file);
        let mut out = io::BufWriter::with_capacity(1 << 18, &*handle);
        for (key, slot) in keys {
            let entry = Entry {
                key: key.clone(),
                op: if slot.tombstone { Op::Tombstone } else { Op::Put },
                schema: slot.schema,
                generation: slot.generation,
                data: read(&self.file, slot)?,
            };
            let encoded = Self::encode(slot.sequence, &[entry]);
            out.write_all(&encoded.bytes)?;
            new.accept([(slot.sequence, encoded)]);
        }
        // An empty frame keeps the highest sequence, whose own record may be gone.
        let last = Self::encode(self.sequence, &[]);
        out.write_all(&last.bytes)?;
        new.accept([(self.sequence, last)]);
        new.sequence = self.sequence;
        out.flush()?;
        drop(out);
        new.file.sync_all()?;
        Ok(new)
    }
}

/// The JSON of a record; checked by its frame when the log was opened, or written by us since.
pub fn read(file: &File, slot: &Slot) -> io::Result<Vec<u8>> {
    let mut data = vec![0; slot.len as usize];
    file.read_exact_at(&mut data, slot.offset)?;
    Ok(data)
}

fn footprint(key: &Key, len: u32) -> u64 {
    (frame::HEADER + 22 + key.id.len()) as u64 + u64::from(len)
}
