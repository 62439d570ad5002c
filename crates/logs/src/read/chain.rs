//! The files of one log from old to new: `log.2.gz`, `log.1`, `log`.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use flate2::read::MultiGzDecoder;

use super::{Decoder, ends};
use crate::{
    compress::{NEXT, with_suffix},
    format::Step,
};

/// A rotation takes milliseconds; the names of one that took longer than this are taken as they are.
const ROTATION: Duration = Duration::from_secs(2);

/// One file of the chain.
#[derive(Debug)]
pub(super) struct Source {
    content: Content,
    /// Bytes up to which it is read.
    limit: Option<u64>,
    /// Entries at its beginning that are not wanted.
    pub(super) skip: u64,
}

#[derive(Debug)]
enum Content {
    Plain { file: File, offset: u64 },
    Gzip(Box<MultiGzDecoder<File>>),
}

impl Source {
    fn plain(file: File) -> Self {
        Self { content: Content::Plain { file, offset: 0 }, limit: None, skip: 0 }
    }

    fn gzip(file: File) -> Self {
        Self { content: Content::Gzip(Box::new(MultiGzDecoder::new(file))), limit: None, skip: 0 }
    }

    /// 0 at the end or the limit.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.content {
            Content::Plain { file, offset } => {
                let room = self.limit.map_or(buffer.len() as u64, |limit| limit.saturating_sub(*offset));
                let len = buffer.len().min(usize::try_from(room).unwrap_or(usize::MAX));
                let read = file.read_at(&mut buffer[..len], *offset)?;
                *offset += read as u64;
                Ok(read)
            }
            Content::Gzip(decoder) => decoder.read(buffer),
        }
    }

    pub(super) fn inode(&self) -> io::Result<u64> {
        Ok(self.file().metadata()?.ino())
    }

    /// Whether the file has become shorter than what was read of it; reading then starts anew.
    pub(super) fn rewind_if_truncated(&mut self) -> io::Result<bool> {
        let Content::Plain { file, offset } = &mut self.content else { return Ok(false) };
        let truncated = file.metadata()?.size() < *offset;
        if truncated {
            *offset = 0;
        }
        Ok(truncated)
    }

    fn file(&self) -> &File {
        match &self.content {
            Content::Plain { file, .. } => file,
            Content::Gzip(decoder) => decoder.get_ref(),
        }
    }

    /// Skips all but the last `wanted` entries; returns how many it has of them.
    fn keep_last(&mut self, wanted: u64) -> io::Result<u64> {
        match &mut self.content {
            Content::Plain { file, offset } => {
                let end = self.limit.unwrap_or(file.metadata()?.size());
                let (start, found) = ends::tail_start(file, end, wanted)?;
                *offset = start;
                Ok(found)
            }
            Content::Gzip(decoder) => {
                let total = count(decoder)?;
                *self = Self::gzip(reopen(decoder.get_ref())?);
                self.skip = total.saturating_sub(wanted);
                Ok(total.min(wanted))
            }
        }
    }

    /// The time of the first entry.
    fn first_time(&self) -> io::Result<Option<i64>> {
        let mut other = match &self.content {
            Content::Plain { file, .. } => Self::plain(file.try_clone()?),
            Content::Gzip(decoder) => Self::gzip(reopen(decoder.get_ref())?),
        };
        let mut buffer = vec![0; 64 << 10];
        let mut have = 0;
        while have < buffer.len() {
            match other.read(&mut buffer[have..])? {
                0 => break,
                n => have += n,
            }
        }
        match Decoder::default().next(&buffer[..have], &mut Vec::new()) {
            Step::Record { at, .. } => Ok(Some(at)),
            _ => Ok(None),
        }
    }
}

/// A second description of the same file, at its start, whatever its name is by now.
fn reopen(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd as _;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Entries in a compressed file.
fn count(decoder: &mut MultiGzDecoder<File>) -> io::Result<u64> {
    let mut records = Decoder::default();
    let (mut buffer, mut data, mut total) = (Vec::new(), Vec::new(), 0);
    loop {
        let have = buffer.len();
        buffer.resize(have + super::CHUNK, 0);
        let read = decoder.read(&mut buffer[have..])?;
        buffer.truncate(have + read);
        let mut at = 0;
        loop {
            data.clear();
            match records.next(&buffer[at..], &mut data) {
                Step::Record { used, .. } => {
                    at += used;
                    total += 1;
                }
                Step::Damaged { used } => at += used,
                Step::Incomplete => break,
            }
        }
        buffer.drain(..at);
        if read == 0 || buffer.len() > super::MAX_RECORD {
            return Ok(total);
        }
    }
}

/// All files of the log at `path`, as they are between two rotations.
pub(super) fn open(path: &Path) -> io::Result<VecDeque<Source>> {
    between_rotations(path, || {
        let mut sources: VecDeque<Source> = optional(File::open(path))?.map(Source::plain).into_iter().collect();
        let mut number = 1;
        while let Some(source) = rotated(path, number)? {
            sources.push_front(source);
            number += 1;
        }
        Ok(sources)
    })
}

/// The files that are newer than the one with this inode, whose last entry was written at `last`. Empty while there is
/// no current file.
pub(super) fn newer_than(path: &Path, inode: Option<u64>, last: i64) -> io::Result<VecDeque<Source>> {
    between_rotations(path, || {
        let Some(current) = optional(File::open(path))? else { return Ok(VecDeque::new()) };
        let mut sources = VecDeque::from([Source::plain(current)]);
        let mut number = 1;
        while let Some(source) = rotated(path, number)? {
            // A compressed file has another inode: there the times decide.
            if Some(source.inode()?) == inode || source.first_time()?.is_none_or(|first| first <= last) {
                break;
            }
            sources.push_front(source);
            number += 1;
        }
        Ok(sources)
    })
}

fn rotated(path: &Path, number: u32) -> io::Result<Option<Source>> {
    if let Some(file) = optional(File::open(with_suffix(path, &format!(".{number}"))))? {
        return Ok(Some(Source::plain(file)));
    }
    Ok(optional(File::open(with_suffix(path, &format!(".{number}.gz"))))?.map(Source::gzip))
}

/// Runs `list` again until no rotation came in between: the writer makes `log.new`, moves the names up, and gives the new
/// file the log's name last. While it moves them, a number in the middle is missing.
fn between_rotations<T>(path: &Path, list: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + ROTATION;
    loop {
        // Kept open, so that its inode is not another file's by the end.
        let before = optional(File::open(path))?;
        let rotating = rotation_is_under_way(path);
        let found = list()?;
        let settled = !rotating
            && match (&before, optional(fs::metadata(path))?) {
                (Some(before), Some(now)) => before.metadata()?.ino() == now.ino() && !rotation_is_under_way(path),
                (None, None) => true,
                _ => false,
            };
        if settled || Instant::now() > deadline {
            return Ok(found);
        }
        thread::yield_now();
    }
}

/// Whether a rotation has begun; one that a killed writer left behind does not count.
fn rotation_is_under_way(path: &Path) -> bool {
    let begun = fs::metadata(with_suffix(path, NEXT)).and_then(|metadata| metadata.modified());
    begun.is_ok_and(|begun| begun.elapsed().is_ok_and(|ago| ago < ROTATION))
}

fn optional<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends the reading at `at` of the newest file, or at its present end.
pub(super) fn limit_newest(sources: &mut VecDeque<Source>, at: Option<u64>) -> io::Result<()> {
    if let Some(newest) = sources.back() {
        let size = newest.file().metadata()?.size();
        // Rotated since the position was told: it is one of the file before.
        if at.is_some_and(|at| at > size) && sources.len() > 1 {
            sources.pop_back();
        }
        if let Some(newest) = sources.back_mut() {
            let size = newest.file().metadata()?.size();
            newest.limit = Some(at.map_or(size, |at| at.min(size)));
        }
    }
    Ok(())
}

/// Leaves the last `wanted` entries.
pub(super) fn keep_tail(sources: &mut VecDeque<Source>, mut wanted: u64) -> io::Result<()> {
    let mut first = sources.len();
    while first > 0 {
        first -= 1;
        wanted -= sources[first].keep_last(wanted)?;
        if wanted == 0 {
            break;
        }
    }
    sources.drain(..first);
    Ok(())
}

/// Drops files that were last written before `since`; the current one stays.
pub(super) fn drop_older(sources: &mut VecDeque<Source>, since: i64) {
    while sources.len() > 1 {
        let Ok(metadata) = sources[0].file().metadata() else { return };
        let modified = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        // The kernel's coarse clock may be behind the entries' by some milliseconds.
        if modified.saturating_add(1_000_000_000) >= since {
            return;
        }
        sources.pop_front();
    }
}
