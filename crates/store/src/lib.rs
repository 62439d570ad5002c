//! What survives a restart: a write-ahead log that is the truth, and sled beside it as the queried copy.
//!
//! ```text
//! commit ──► committer thread ──► records.log (write, fdatasync) ──► reply
//!                 │ which keys changed
//!                 └──────────────► shadow thread ──► sled (lazily; never waited for)
//! ```
//!
//! At the start the log is read whole and decides; sled is brought in line with it. sled is read for records only where
//! the log was damaged. What cannot be read is moved or copied to `quarantine-<time>`, never deleted.

mod committer;
mod entry;
mod frame;
mod log;
mod quarantine;
mod recovery;
mod reserve;
mod shadow;
mod store;

pub use store::RecordStore;

#[cfg(test)]
mod tests;
