//! Appends to a log file: entries gathered into one write, rotation, a torn end cut off, a full disk counted.

mod file;

use std::{collections::BTreeMap, io, path::PathBuf};

use crate::{
    batch::{STDERR, STDOUT},
    compress::Compressor,
    format::{Format, Record},
    split::Splitter,
    time::TimeText,
};
use file::LogFile;

/// A clock that went back by more than this is believed; by less, times go on rising by a nanosecond an entry, so that
/// they put the entries in order.
const CLOCK_STEP: i64 = 1_000_000_000;
/// Bytes of records that go into one write. Short lines become records of many times their size, and one writer is
/// resident for each container.
const GATHERED: usize = 128 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub format: Format,
    pub path: PathBuf,
    /// Bytes after which the file is rotated; `None` never.
    pub max_size: Option<u64>,
    /// Files kept, the current one included.
    pub max_files: u32,
    pub compress: bool,
    /// Written with each entry.
    pub attrs: BTreeMap<String, String>,
}

/// The one writer of a container's log.
pub struct Writer {
    format: Format,
    file: LogFile,
    attrs: Vec<u8>,
    splitters: [Splitter; 2],
    time: TimeText,
    last: i64,
    /// Records on their way to the file.
    out: Vec<u8>,
    lost: u64,
    lost_to: Option<io::Error>,
}

impl Writer {
    /// Opens or makes the file, and cuts off an entry that is not whole. Never follows a link.
    pub fn open(options: Options, compressor: Box<dyn Compressor>) -> io::Result<Self> {
        let attrs = if options.attrs.is_empty() { Vec::new() } else { serde_json::to_vec(&options.attrs)? };
        let (file, last) = LogFile::open(&options, compressor)?;
        Ok(Self {
            format: options.format,
            file,
            attrs,
            splitters: Default::default(),
            time: TimeText::default(),
            last: last.unwrap_or(i64::MIN),
            out: Vec::new(),
            lost: 0,
            lost_to: None,
        })
    }

    /// Appends what a stream wrote, as read at `now`. Whole lines are in the file when this returns; the rest waits for
    /// its newline. A write that fails is not an error of the container's: lines are counted, and said when there is
    /// room again.
    pub fn append(&mut self, stream: u8, bytes: &[u8], now: i64) {
        let mut splitter = std::mem::take(self.splitter(stream));
        splitter.push(bytes, |line| self.entry(stream, line, now));
        *self.splitter(stream) = splitter;
        self.flush();
    }

    /// Appends unfinished lines, without a newline: at the end of the outputs, or where a client joins.
    pub fn finish(&mut self, now: i64) {
        for stream in [STDOUT, STDERR] {
            let mut splitter = std::mem::take(self.splitter(stream));
            splitter.finish(|line| self.entry(stream, line, now));
        }
        self.flush();
    }

    /// A line of the engine's own, on stderr.
    pub fn note(&mut self, text: &str, now: i64) {
        self.entry(STDERR, text.as_bytes(), now);
        self.flush();
    }

    /// Bytes in the current file.
    pub fn position(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// Lines that a failing disk has cost and that no entry tells of yet.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Waits for a compression under way.
    pub fn settle(&mut self) {
        self.file.settle();
    }

    fn splitter(&mut self, stream: u8) -> &mut Splitter {
        &mut self.splitters[usize::from(stream == STDERR)]
    }

    fn entry(&mut self, stream: u8, line: &[u8], now: i64) {
        if self.file.is_full(self.out.len()) {
            self.flush();
            self.file.rotate();
        } else if self.out.len() >= GATHERED {
            self.flush();
        }
        let at = self.next_time(now);
        let record = Record { stream, at, attrs: &self.attrs, line };
        self.format.encode(&mut self.out, &mut self.time, &record);
    }

    fn next_time(&mut self, now: i64) -> i64 {
        let stepped_back = now < self.last.saturating_sub(CLOCK_STEP);
        self.last = if now > self.last || stepped_back { now } else { self.last + 1 };
        self.last
    }

    /// Writes what is gathered, behind a note on what was lost before it.
    fn flush(&mut self) {
        if self.lost > 0 && !self.out.is_empty() && !self.tell_loss() {
            self.lost += self.format.whole(&self.out).1;
        } else if let Err((written, error)) = self.file.write(&self.out) {
            let (kept, records) = self.format.whole(&self.out[..written]);
            self.file.take_back(written - kept);
            self.lost += self.format.whole(&self.out).1 - records;
            self.lost_to = Some(error);
        }
        self.out.clear();
    }

    /// Writes how many lines are missing here; `false` when there is still no room.
    fn tell_loss(&mut self) -> bool {
        let cause = self.lost_to.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        let text = format!("gantry: {} lines of output were lost here{cause}\n", self.lost);
        let mut note = Vec::new();
        let record = Record { stream: STDERR, at: self.last, attrs: &self.attrs, line: text.as_bytes() };
        self.format.encode(&mut note, &mut self.time, &record);
        match self.file.write(&note) {
            Ok(()) => {
                self.lost = 0;
                self.lost_to = None;
                true
            }
            Err((written, error)) => {
                self.file.take_back(written);
                self.lost_to = Some(error);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::{End, Query, Reader, compress::InPlace};

    fn options(path: PathBuf, format: Format) -> Options {
        Options { format, path, max_size: None, max_files: 1, compress: false, attrs: BTreeMap::new() }
    }

    fn writer(options: Options) -> Writer {
        Writer::open(options, Box::new(InPlace)).unwrap()
    }

    fn lines(path: &std::path::Path) -> Vec<String> {
        let mut reader = Reader::open(path, Query::default(), End::Now).unwrap();
        let mut out = Vec::new();
        while let Some(batch) = reader.next_batch().unwrap() {
            out.extend(batch.iter().map(|(_, line)| String::from_utf8(line.to_vec()).unwrap()));
        }
        out
    }

    #[test]
    fn a_torn_end_is_cut_at_every_byte() {
        for format in [Format::JsonFile, Format::Local] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log");
            let mut first = writer(options(path.clone(), format));
            first.append(STDOUT, b"one\n", 1);
            let kept = fs::read(&path).unwrap().len();
            first.append(STDOUT, b"two \"quoted\"\n", 2);
            let whole = fs::read(&path).unwrap();
            for end in kept..whole.len() {
                fs::write(&path, &whole[..end]).unwrap();
                writer(options(path.clone(), format)).append(STDERR, b"three\n", 3);
                assert_eq!(lines(&path), ["one\n", "three\n"], "{format:?} torn at {end}");
            }
        }
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        for (format, compress) in [(Format::JsonFile, false), (Format::JsonFile, true), (Format::Local, true)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log");
            let mut log =
                writer(Options { max_size: Some(2000), max_files: 3, compress, ..options(path.clone(), format) });
            for i in 0..500 {
                log.append(STDOUT, format!("line {i}\n").as_bytes(), i);
            }
            let left = lines(&path);
            let first: usize = left[0].trim_start_matches("line ").trim().parse().unwrap();
            assert_eq!(left, (first..500).map(|i| format!("line {i}\n")).collect::<Vec<_>>());
            assert!(first > 300, "three files of 2000 bytes hold fewer lines");
            let names: std::collections::BTreeSet<String> =
                fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            let gz = if compress { ".gz" } else { "" };
            assert_eq!(names, ["log".to_owned(), format!("log.1{gz}"), format!("log.2{gz}")].into());
        }
    }

    #[test]
    fn one_file_starts_anew_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = writer(Options { max_size: Some(1000), ..options(path.clone(), Format::JsonFile) });
        (0..100).for_each(|i| log.append(STDOUT, format!("line {i}\n").as_bytes(), i));
        assert!(fs::metadata(&path).unwrap().len() < 1200);
        assert_eq!(lines(&path).last().unwrap(), "line 99\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn times_rise_and_a_clock_set_back_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let hour = 3600 * CLOCK_STEP;
        let mut log = writer(options(path.clone(), Format::Local));
        log.append(STDOUT, b"a\nb\n", 2 * hour);
        drop(log);
        let mut log = writer(options(path.clone(), Format::Local));
        log.append(STDOUT, b"c\n", 2 * hour - 5);
        log.append(STDOUT, b"d\n", hour);
        let batch = Reader::open(&path, Query::default(), End::Now).unwrap().next_batch().unwrap().unwrap();
        let times: Vec<i64> = batch.entries.iter().map(|entry| entry.at).collect();
        assert_eq!(times, [2 * hour, 2 * hour + 1, 2 * hour + 2, hour]);
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert!(Writer::open(options(path, Format::JsonFile), Box::new(InPlace)).is_err());
    }
}
