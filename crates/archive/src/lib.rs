//! Tar archives: read by length, decompressed in this process, laid out on descriptors, written. One reader for layers,
//! imports and copies, so that no two parts of the engine see different members in the same bytes (T07).

pub mod chunks;
pub mod compression;
pub mod content;
pub mod extract;
pub mod limits;
pub mod merge;
pub mod reader;
pub mod threads;
pub mod weighed;
pub mod writer;
