//! What an image may cost in documents; archives and layers have their own budget.

pub use gantry_archive::limits::{Kept, Limits, Meter};

/// Largest JSON document that is read whole, in bytes.
pub const MAX_DOCUMENT: u64 = 8 << 20;
/// Indexes within indexes.
pub const MAX_INDEX_DEPTH: usize = 4;
/// Documents that one image's index may lead to.
pub const MAX_INDEX_DOCUMENTS: usize = 1024;
/// Bytes of all documents that are read for one image: indexes, manifests and configs.
pub const MAX_IMAGE_DOCUMENTS: u64 = 32 << 20;
/// Layers of one image; overlayfs and dockerd stop at 127 and 125.
pub const MAX_LAYERS: usize = 125;
