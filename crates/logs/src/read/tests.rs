//! Laws of reading.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::PathBuf, sync::mpsc, thread};

use super::*;
use crate::{Options, Writer, compress::InPlace};

struct Log {
    folder: tempfile::TempDir,
    writer: Writer,
}

impl Log {
    fn new(format: Format, max_size: Option<u64>, max_files: u32, compress: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let options = Options { format, path, max_size, max_files, compress, attrs: BTreeMap::new() };
        Self { folder, writer: Writer::open(options, Box::new(InPlace)).unwrap() }
    }
    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }
    /// Line i is written at i.
    fn write(&mut self, lines: std::ops::Range<i64>) {
        for i in lines {
            self.writer.append(if i % 2 == 0 { STDOUT } else { STDERR }, format!("{i}\n").as_bytes(), i);
        }
    }
    fn read(&self, query: Query, end: End) -> Vec<i64> {
        numbers(Reader::open(&self.path(), query, end).unwrap())
    }
}

fn numbers(mut reader: Reader) -> Vec<i64> {
    let mut out = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        out.extend(batch.iter().map(|(_, line)| std::str::from_utf8(line).unwrap().trim().parse::<i64>().unwrap()));
    }
    out
}

fn shapes() -> Vec<Log> {
    vec![
        Log::new(Format::JsonFile, None, 1, false),
        Log::new(Format::Local, None, 1, false),
        Log::new(Format::JsonFile, Some(20_000), 50, false),
        Log::new(Format::JsonFile, Some(20_000), 50, true),
        Log::new(Format::Local, Some(5_000), 50, true),
    ]
}

#[test]
fn the_tail_is_counted_over_all_files() {
    for mut log in shapes() {
        log.write(0..3000);
        for tail in [0, 1, 2, 100, 999, 2999, 3000, 5000] {
            let read = log.read(Query { tail: Some(tail as u64), ..Query::default() }, End::Now);
            assert_eq!(read, ((3000 - tail).max(0)..3000).collect::<Vec<i64>>());
        }
    }
}

#[test]
fn since_until_and_stream_choose() {
    for mut log in shapes() {
        log.write(0..3000);
        let query = Query { since: Some(1000), until: Some(2000), stderr: false, ..Query::default() };
        assert_eq!(log.read(query, End::Now), (1000..=2000).step_by(2).collect::<Vec<i64>>());
    }
}

#[test]
fn a_reading_ends_at_the_seam() {
    let mut log = Log::new(Format::JsonFile, None, 1, false);
    log.write(0..100);
    let seam = log.writer.position().unwrap();
    log.write(100..200);
    assert_eq!(log.read(Query::default(), End::At(seam)), (0..100).collect::<Vec<i64>>());
    let query = Query { tail: Some(3), ..Query::default() };
    assert_eq!(log.read(query, End::At(seam)), [97, 98, 99]);
}

#[test]
fn a_torn_end_is_not_read() {
    for format in [Format::JsonFile, Format::Local] {
        let mut log = Log::new(format, None, 1, false);
        log.write(0..10);
        let whole = log.writer.position().unwrap();
        log.write(10..11);
        for end in whole..log.writer.position().unwrap() {
            assert_eq!(log.read(Query::default(), End::At(end)), (0..10).collect::<Vec<i64>>());
            let query = Query { tail: Some(2), ..Query::default() };
            assert_eq!(log.read(query, End::At(end)), [8, 9]);
        }
    }
}

#[test]
fn an_absent_log_is_empty() {
    let reader = Reader::open(std::path::Path::new("/nonexistent/log"), Query::default(), End::Now).unwrap();
    assert!(numbers(reader).is_empty());
}

#[test]
fn a_follower_misses_nothing_across_rotations() {
    for compress in [false, true] {
        let mut log = Log::new(Format::JsonFile, Some(3000), 1000, compress);
        log.write(0..50);
        let (stop, signal) = stop_pair().unwrap();
        let reader = Reader::open(&log.path(), Query::default(), End::Follow(signal)).unwrap();
        let follower = thread::spawn(move || numbers(reader));
        log.write(50..3000);
        stop.stop();
        assert_eq!(follower.join().unwrap(), (0..3000).collect::<Vec<i64>>());
    }
}

#[test]
fn a_follower_sees_a_line_before_the_next_is_written() {
    let mut log = Log::new(Format::Local, None, 1, false);
    let (stop, signal) = stop_pair().unwrap();
    let query = Query { tail: Some(0), ..Query::default() };
    log.write(0..5);
    let mut reader = Reader::open(&log.path(), query, End::Follow(signal)).unwrap();
    let (sender, receiver) = mpsc::channel();
    let follower = thread::spawn(move || {
        while let Some(batch) = reader.next_batch().unwrap() {
            sender.send(batch.data).unwrap();
        }
    });
    for i in 5..20 {
        log.write(i..i + 1);
        assert_eq!(receiver.recv().unwrap(), format!("{i}\n").as_bytes());
    }
    drop(stop);
    follower.join().unwrap();
}

#[test]
fn a_follower_starts_anew_after_truncation() {
    let mut log = Log::new(Format::JsonFile, None, 1, false);
    log.write(0..3);
    let (stop, signal) = stop_pair().unwrap();
    let mut reader = Reader::open(&log.path(), Query::default(), End::Follow(signal)).unwrap();
    assert_eq!(reader.next_batch().unwrap().unwrap().entries.len(), 3);
    std::fs::File::options().write(true).open(log.path()).unwrap().set_len(0).unwrap();
    log.write(7..8);
    assert_eq!(reader.next_batch().unwrap().unwrap().data, b"7\n");
    stop.stop();
    assert!(reader.next_batch().unwrap().is_none());
}
