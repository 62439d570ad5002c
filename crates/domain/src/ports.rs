//! The ports: what the engine needs of the outside. Each adapter crate serves one outside system.
//!
//! Ports speak domain types, `Bytes` and boxed streams only. All are `Arc<dyn …>`; every method may be called
//! concurrently, and an absent object is an outcome of a removal, never an error.

mod files;
mod images;
mod net;
mod network_plugins;
mod registry;
mod runtime;
mod stdio;
mod store;

pub use files::*;
pub use images::*;
pub use net::*;
pub use network_plugins::*;
pub use registry::*;
pub use runtime::*;
pub use stdio::*;
pub use store::*;

use std::pin::Pin;

use bytes::Bytes;
use futures::{Sink, Stream};

use crate::{Error, Result};

/// Items as they come.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;
/// A body of bytes: an upload, an archive.
pub type ByteStream = BoxStream<Result<Bytes>>;
/// Where bytes go; closing it is the end of input.
pub type ByteSink = Pin<Box<dyn Sink<Bytes, Error = Error> + Send>>;
