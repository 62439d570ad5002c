//! The two formats behind one face, so that writer and reader are written once.

use crate::{batch::Attrs, json, local, time::TimeText};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// dockerd's json-file, which log shippers read.
    JsonFile,
    /// Our compact one.
    Local,
}

/// What the decoder found at the start of the bytes it was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record of `used` bytes; its line was appended to the caller's data.
    Record { used: usize, stream: u8, at: i64, attrs: Attrs },
    /// Not whole yet.
    Incomplete,
    /// These many bytes are not a record.
    Damaged { used: usize },
}

impl Format {
    /// By a file's first byte.
    pub(crate) fn detect(first: u8) -> Self {
        if first == local::MAGIC { Self::Local } else { Self::JsonFile }
    }

    /// Appends one record; `attrs` is a JSON object or empty.
    pub(crate) fn encode(self, out: &mut Vec<u8>, time: &mut TimeText, record: &Record<'_>) {
        match self {
            Self::JsonFile => json::encode(out, time, record),
            Self::Local => local::encode(out, record),
        }
    }

    /// The part of `bytes`, which start with a record, that is whole records, and how many they are.
    pub(crate) fn whole(self, bytes: &[u8]) -> (usize, u64) {
        match self {
            Self::JsonFile => json::whole(bytes),
            Self::Local => local::whole(bytes),
        }
    }
}

/// One entry to be written.
pub(crate) struct Record<'a> {
    pub stream: u8,
    pub at: i64,
    pub attrs: &'a [u8],
    pub line: &'a [u8],
}
