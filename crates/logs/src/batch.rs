//! What a reading yields: many entries at once, their bytes one after the other.

use std::collections::BTreeMap;

/// Number of the stream as in Docker's stdcopy header.
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;

/// Attributes of an entry. Boxed, because nearly no entry has any and there are very many entries.
#[allow(clippy::box_collection)]
pub type Attrs = Option<Box<BTreeMap<String, String>>>;

/// Entries read together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub data: Vec<u8>,
    pub entries: Vec<Entry>,
}

/// One line (with its newline) or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub stream: u8,
    /// Nanoseconds since the epoch.
    pub at: i64,
    /// Range in the batch's `data`.
    pub start: u32,
    pub len: u32,
    pub attrs: Attrs,
}

impl Batch {
    /// Each entry's stream and bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&Entry, &[u8])> {
        self.entries.iter().map(|entry| {
            let start = entry.start as usize;
            (entry, &self.data[start..start + entry.len as usize])
        })
    }
}
