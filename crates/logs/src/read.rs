//! Reads logs: the chain of rotated files from old to new, from the end backwards for a tail, and as they grow.

mod chain;
pub(crate) mod ends;
mod follow;

use std::{collections::VecDeque, io, os::fd::OwnedFd, path::Path};

use crate::{
    batch::{Batch, Entry, STDERR, STDOUT},
    format::{Format, Step},
    json::Scanner,
    local,
};
use chain::Source;
use follow::Follow;
pub use follow::{Stop, StopSignal, stop_pair};

/// Bytes asked of a file at once: few at first, since a tail needs no more.
const FIRST_CHUNK: usize = 16 << 10;
const CHUNK: usize = 256 << 10;
/// A batch is given out when it holds as many bytes of lines.
const BATCH: usize = 256 << 10;
/// A line that is longer, which we never write, is passed over.
const MAX_RECORD: usize = 8 << 20;

/// Which entries are wanted. All of them by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub stdout: bool,
    pub stderr: bool,
    /// Nanoseconds since the epoch; entries at it are in.
    pub since: Option<i64>,
    /// Entries at it are in.
    pub until: Option<i64>,
    /// Entries from the end, whatever their stream, as dockerd counts.
    pub tail: Option<u64>,
}

impl Default for Query {
    fn default() -> Self {
        Self { stdout: true, stderr: true, since: None, until: None, tail: None }
    }
}

/// Where a reading ends.
#[derive(Debug)]
pub enum End {
    /// At what is there now.
    Now,
    /// At this many bytes of the current file.
    At(u64),
    /// When the signal comes, and all that is there by then was read.
    Follow(StopSignal),
    /// The same; that there is more is told by this event counter (non-blocking).
    Told(StopSignal, OwnedFd),
}

/// One reading. Blocking: it lives on a thread of its own when it follows.
#[derive(Debug)]
pub struct Reader {
    query: Query,
    sources: VecDeque<Source>,
    follow: Option<Follow>,
    decoder: Decoder,
    /// Read and not decoded: `buffer[at..]`.
    buffer: Vec<u8>,
    at: usize,
    chunk: usize,
    done: bool,
}

#[derive(Debug, Default)]
struct Decoder {
    format: Option<Format>,
    scanner: Scanner,
}

impl Decoder {
    fn next(&mut self, bytes: &[u8], data: &mut Vec<u8>) -> Step {
        let Some(first) = bytes.first() else { return Step::Incomplete };
        match self.format.get_or_insert_with(|| Format::detect(*first)) {
            Format::JsonFile => self.scanner.next(bytes, data),
            Format::Local => local::next(bytes, data),
        }
    }
}

impl Reader {
    /// Opens the log at `path` with its rotated files. A log that is not there yet is empty.
    pub fn open(path: &Path, query: Query, end: End) -> io::Result<Self> {
        let (follow, at) = match end {
            End::Follow(stop) => (Some(Follow::watching(path, stop)?), None),
            End::Told(stop, counter) => (Some(Follow::told(path, stop, counter)), None),
            End::At(at) => (None, Some(at)),
            End::Now => (None, None),
        };
        let mut sources = chain::open(path)?;
        if follow.is_none() {
            chain::limit_newest(&mut sources, at)?;
        }
        if let Some(tail) = query.tail {
            chain::keep_tail(&mut sources, tail)?;
        } else if let Some(since) = query.since {
            chain::drop_older(&mut sources, since);
        }
        let done = query.tail == Some(0) && follow.is_none();
        Ok(Self {
            query,
            sources,
            follow,
            decoder: Decoder::default(),
            buffer: Vec::new(),
            at: 0,
            chunk: FIRST_CHUNK,
            done,
        })
    }

    /// The next entries; waits for them when following. `None` at the end.
    pub fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        let mut batch = Batch::default();
        while !self.done {
            self.decode(&mut batch);
            if self.done || batch.data.len() >= BATCH {
                break;
            }
            if self.fill()? {
                continue;
            }
            // What there is goes out before anything is waited for.
            if !batch.entries.is_empty() {
                return Ok(Some(batch));
            }
            self.advance()?;
        }
        Ok((!batch.entries.is_empty()).then_some(batch))
    }

    /// Decodes what is in the buffer, until the batch is full.
    fn decode(&mut self, batch: &mut Batch) {
        while batch.data.len() < BATCH {
            let start = batch.data.len();
            match self.decoder.next(&self.buffer[self.at..], &mut batch.data) {
                Step::Record { used, stream, at, attrs } => {
                    self.at += used;
                    if let Some(follow) = &mut self.follow {
                        follow.last_time = at;
                    }
                    if self.query.until.is_some_and(|until| at > until) {
                        batch.data.truncate(start);
                        self.done = true;
                        return;
                    }
                    if self.skips(stream, at) {
                        batch.data.truncate(start);
                        continue;
                    }
                    let len = (batch.data.len() - start) as u32;
                    batch.entries.push(Entry { stream, at, start: start as u32, len, attrs });
                }
                Step::Damaged { used } => self.at += used,
                Step::Incomplete if self.buffer.len() - self.at > MAX_RECORD => self.at = self.buffer.len(),
                Step::Incomplete => return,
            }
        }
    }

    /// Whether an entry is not wanted. Those that a compressed file holds before the tail are counted down here.
    fn skips(&mut self, stream: u8, at: i64) -> bool {
        if let Some(source) = self.sources.front_mut()
            && source.skip > 0
        {
            source.skip -= 1;
            return true;
        }
        let wanted = match stream {
            STDOUT => self.query.stdout,
            STDERR => self.query.stderr,
            _ => false,
        };
        !wanted || self.query.since.is_some_and(|since| at < since)
    }

    /// Reads more of the current source behind what is left; `false` at its end.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(source) = self.sources.front_mut() else { return Ok(false) };
        self.buffer.drain(..self.at);
        self.at = 0;
        let have = self.buffer.len();
        self.buffer.resize(have + self.chunk, 0);
        self.chunk = (self.chunk * 2).min(CHUNK);
        let read = source.read(&mut self.buffer[have..]);
        self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }

    /// The source is at its end: the next one, or more of it, or the end of the reading.
    fn advance(&mut self) -> io::Result<()> {
        if self.sources.len() > 1 {
            self.sources.pop_front();
            self.begin_source();
            return Ok(());
        }
        let Some(follow) = &mut self.follow else {
            self.done = true;
            return Ok(());
        };
        match follow.at_end(self.sources.front_mut(), self.query.until)? {
            follow::Next::Again => {}
            follow::Next::Truncated => self.begin_source(),
            follow::Next::Files(files) => {
                self.sources = files;
                self.begin_source();
            }
            follow::Next::Done => self.done = true,
        }
        Ok(())
    }

    /// An entry that was torn at the end of a file does not go on in the next.
    fn begin_source(&mut self) {
        self.buffer.clear();
        self.at = 0;
        self.decoder.format = None;
    }
}

#[cfg(test)]
mod tests;
