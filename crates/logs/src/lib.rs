//! Log formats of containers: append, rotate, read backwards, follow. No tokio, nothing of Docker's API.
//!
//! ```text
//!   bytes ──► split ──► json | local ──► writer (rotation) ──► file, file.1, file.2.gz
//!                                                                └──► read (chain, tail, follow) ──► Batch
//! ```

mod batch;
pub mod compress;
mod format;
mod json;
mod local;
pub mod read;
mod split;
pub mod time;
mod writer;

pub use batch::{Attrs, Batch, Entry, STDERR, STDOUT};
pub use format::Format;
pub use read::{End, Query, Reader, Stop, StopSignal, stop_pair};
pub use split::MAX_LINE;
pub use writer::{Options, Writer};
