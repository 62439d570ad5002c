//! What `docker logs` asks for and gets.

use bytes::Bytes;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Which of a container's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stream {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    /// An error of the engine, sent in band.
    System = 3,
}

/// Query of `GET /containers/{id}/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// `None`: everything.
    pub tail: Option<u64>,
}

/// Entries read together; their bytes lie one after the other in `data`, so that a reader makes one copy at most.
#[derive(Debug, Clone, Default)]
pub struct LogBatch {
    pub data: Bytes,
    pub entries: Vec<LogEntry>,
}

/// One line (with its newline) or a part of one.
#[derive(Debug, Clone)]
pub struct LogEntry {
    pub stream: Stream,
    pub at: Timestamp,
    /// Range of this entry in the batch's `data`.
    pub start: u32,
    pub len: u32,
    /// `--log-opt labels/env/tag` attributes for `details`.
    pub attrs: Option<Box<BTreeMap<String, String>>>,
}
