//! sled 0.34 with its traps closed: the unfinished snapshot file, the late lock, the panic while opening, the flush
//! that does not sync, nodes that spill to unsynced files.

use std::{
    any::Any,
    fmt, fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{Contents, values};
use crate::{entry::Key, log::Slot};

const CACHE: u64 = 4 << 20;
/// Records in one batch: a rebuild must not hold all of them in memory.
const BATCH: usize = 256;
const FLUSH_EVERY_MS: u64 = 500;
const LOCK_WAIT: Duration = Duration::from_secs(5);
const APPLIED: &[u8] = b"\0applied";

/// What went wrong with sled.
#[derive(Debug)]
pub enum Fault {
    /// Its data cannot be trusted: put it aside and rebuild.
    Damaged(String),
    /// A lock, a full disk, too many files, an I/O error: try again later.
    Unavailable(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(why) | Self::Unavailable(why) => f.write_str(why),
        }
    }
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // sled reads short or absurd lengths from damaged files and passes on what came of it.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::Damaged(error.to_string())
            }
            // Something else lies where its folder should be.
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Self::Damaged(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

pub struct Db {
    /// Our own handle on sled's file: sled's flush ends before the disk's cache.
    file: fs::File,
    records: sled::Tree,
    caches: sled::Tree,
    db: sled::Db,
}

pub fn folder(root: &Path) -> PathBuf {
    root.join("sled")
}

pub fn open(root: &Path) -> Result<Db, Fault> {
    let folder = folder(root);
    fs::create_dir_all(&folder)?;
    remove_unfinished_snapshots(&folder)?;
    // A thread of its own: a panic while opening must not take ours, nor leave its locks poisoned with us.
    let opened = thread::Builder::new().name("store-open".into()).spawn(move || catch(|| open_locked(&folder)))?.join();
    match opened {
        Ok(result) => result,
        Err(panic) => Err(Fault::Damaged(panic_text(&*panic))),
    }
}

/// sled takes the newest `snap.*`, also one that a kill left half-written.
fn remove_unfinished_snapshots(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn open_locked(folder: &Path) -> Result<Db, Fault> {
    let config = sled::Config::new().path(folder).cache_capacity(CACHE).flush_every_ms(Some(FLUSH_EVERY_MS));
    let deadline = Instant::now() + LOCK_WAIT;
    let db = loop {
        match config.open() {
            Ok(db) => break db,
            // The lock of the last owner goes late, and its error is known by its text only.
            Err(sled::Error::Io(error)) if is_lock(&error) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(sled::Error::Io(error)) if is_lock(&error) => return Err(Fault::Unavailable(error.to_string())),
            Err(error) => return Err(error.into()),
        }
    };
    Ok(Db {
        file: fs::File::open(folder.join("db"))?,
        records: db.open_tree("records")?,
        caches: db.open_tree("caches")?,
        db,
    })
}

fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

impl Db {
    /// Reads and checks everything.
    pub fn contents(&self) -> Result<Contents, Fault> {
        catch(|| {
            let mut contents = Contents { applied: 0, kept: Vec::new() };
            for pair in self.records.iter() {
                let (key, value) = pair?;
                if &*key == APPLIED {
                    contents.applied = number(&value)?;
                    continue;
                }
                let kept = values::decode(&key, &value);
                contents.kept.push(kept.ok_or_else(|| Fault::Damaged("a record cannot be decoded".into()))?);
            }
            for pair in self.caches.iter() {
                pair?;
            }
            Ok(contents)
        })
    }

    /// Puts records as the log has them now; the last batch tells the sequence that they bring sled to.
    pub fn apply(
        &self,
        slots: &[(Key, Option<Slot>)],
        sequence: u64,
        read: impl Fn(&Slot) -> io::Result<Vec<u8>>,
    ) -> Result<(), Fault> {
        catch(|| {
            for some in slots.chunks(BATCH) {
                let mut batch = sled::Batch::default();
                for (key, slot) in some {
                    match slot {
                        Some(slot) => batch.insert(values::key(key), value(slot, &read)?),
                        None => batch.remove(values::key(key)),
                    }
                }
                self.records.apply_batch(batch)?;
            }
            self.records.insert(APPLIED, &sequence.to_le_bytes())?;
            Ok(())
        })
    }

    /// A cache value lies in pieces, none larger than a record may be; the first tells how many and their checksum.
    /// Nothing is kept of an empty one.
    pub fn put_cache(&self, key: &str, value: &[u8]) -> Result<(), Fault> {
        catch(|| {
            let mut batch = sled::Batch::default();
            for piece in self.caches.scan_prefix(cache_key(key, None)).keys() {
                batch.remove(piece?);
            }
            if value.is_empty() {
                return Ok(self.caches.apply_batch(batch)?);
            }
            for (n, piece) in value.chunks(values::MAX).enumerate() {
                batch.insert(cache_key(key, Some(n as u32)), piece);
            }
            let mut head = crc32c::crc32c(value).to_le_bytes().to_vec();
            head.extend_from_slice(&(value.len() as u64).to_le_bytes());
            batch.insert(cache_key(key, None), head);
            Ok(self.caches.apply_batch(batch)?)
        })
    }

    pub fn get_cache(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        catch(|| {
            let Some(head) = self.caches.get(cache_key(key, None))? else { return Ok(None) };
            let mut value = Vec::new();
            let first = cache_key(key, None);
            for pair in self.caches.scan_prefix(&first) {
                let (at, piece) = pair?;
                if at.len() > first.len() {
                    value.extend_from_slice(&piece);
                }
            }
            let whole = head.len() == 12
                && head[..4] == crc32c::crc32c(&value).to_le_bytes()
                && head[4..] == (value.len() as u64).to_le_bytes();
            Ok(whole.then_some(value))
        })
    }

    pub fn flush(&self) -> Result<(), Fault> {
        catch(|| {
            self.db.flush()?;
            Ok(self.file.sync_data()?)
        })
    }
}

/// `key NUL` for the head, followed by the number of the piece for the pieces.
fn cache_key(key: &str, piece: Option<u32>) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    bytes.push(0);
    if let Some(piece) = piece {
        bytes.extend_from_slice(&piece.to_be_bytes());
    }
    bytes
}

fn value(slot: &Slot, read: impl Fn(&Slot) -> io::Result<Vec<u8>>) -> Result<Vec<u8>, Fault> {
    if slot.len as usize > values::MAX {
        return Ok(values::encode_in_log(slot));
    }
    // Where the log cannot be read sled is not at fault.
    let data = read(slot).map_err(|error| Fault::Unavailable(error.to_string()))?;
    Ok(values::encode(slot, &data))
}

fn number(value: &[u8]) -> Result<u64, Fault> {
    let bytes = value.try_into().map_err(|_| Fault::Damaged("the applied sequence cannot be decoded".into()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// sled panics on some damage; that is damage like any other.
fn catch<T>(act: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(Fault::Damaged(panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a text").lines().next().unwrap_or_default())
}
