//! Small documents kept in memory: manifests and configs are read for every create and every list.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use gantry_domain::{Digest, image::PlatformImage};
use parking_lot::Mutex;

/// Bytes that all kept documents may take.
const CAPACITY: usize = 8 << 20;
/// A larger document is not kept.
const LARGEST: usize = 256 << 10;
/// Bytes that all images whose reading is kept may take, as `weight` counts them.
const IMAGES: usize = 32 << 20;

#[derive(Clone, Default)]
pub struct BlobCache(Arc<Mutex<Blobs>>);

#[derive(Default)]
struct Blobs {
    // One map under one short lock; the use counter orders the entries when room is needed.
    entries: HashMap<Digest, (Bytes, u64)>,
    uses: u64,
    size: usize,
    images: HashMap<Digest, Arc<Vec<PlatformImage>>>,
    weight: usize,
    /// Counts forgettings: what was read before one must not be kept after it.
    age: u64,
}

impl BlobCache {
    pub fn get(&self, digest: &Digest) -> Option<Bytes> {
        let mut blobs = self.0.lock();
        blobs.uses += 1;
        let now = blobs.uses;
        let entry = blobs.entries.get_mut(digest)?;
        entry.1 = now;
        Some(entry.0.clone())
    }

    pub fn put(&self, digest: Digest, bytes: Bytes) {
        if bytes.len() > LARGEST {
            return;
        }
        let mut blobs = self.0.lock();
        blobs.uses += 1;
        let now = blobs.uses;
        blobs.size += bytes.len();
        if let Some((old, _)) = blobs.entries.insert(digest, (bytes, now)) {
            blobs.size -= old.len();
        }
        while blobs.size > CAPACITY {
            let Some(oldest) =
                blobs.entries.iter().min_by_key(|(_, (_, used))| *used).map(|(digest, _)| digest.clone())
            else {
                return;
            };
            if let Some((gone, _)) = blobs.entries.remove(&oldest) {
                blobs.size -= gone.len();
            }
        }
    }

    /// What an image leads to, when all of it was here.
    pub fn image(&self, target: &Digest) -> Option<Arc<Vec<PlatformImage>>> {
        self.0.lock().images.get(target).cloned()
    }

    /// Give it to `put_image` with what was read since.
    pub fn age(&self) -> u64 {
        self.0.lock().age
    }

    pub fn put_image(&self, target: Digest, images: Arc<Vec<PlatformImage>>, age: u64) {
        let mut blobs = self.0.lock();
        if blobs.age != age {
            return;
        }
        let own = weight(&images);
        if own > IMAGES / 4 {
            return;
        }
        if blobs.weight + own > IMAGES {
            blobs.images.clear();
            blobs.weight = 0;
        }
        blobs.weight += own;
        if let Some(before) = blobs.images.insert(target, images) {
            blobs.weight -= weight(&before);
        }
    }

    /// Names or blobs have changed: what is complete may not be, and what was missing may be here.
    pub fn forget(&self) {
        let mut blobs = self.0.lock();
        blobs.age += 1;
        blobs.images.clear();
        blobs.weight = 0;
        blobs.entries.clear();
        blobs.size = 0;
    }
}

/// Bytes that an image's reading takes, roughly: the parsed form of a config is a few times its text.
fn weight(images: &[PlatformImage]) -> usize {
    images.iter().map(|image| 4096 + 4 * image.config_bytes.len() + 512 * image.layers.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::from_sha256(&[byte; 32])
    }

    #[test]
    fn the_least_used_document_makes_room() {
        let cache = BlobCache::default();
        let document = Bytes::from(vec![0; LARGEST]);
        let count = (CAPACITY / LARGEST) as u8;
        for byte in 0..count {
            cache.put(digest(byte), document.clone());
        }
        assert!(cache.get(&digest(0)).is_some());
        cache.put(digest(count), document);
        assert!(cache.get(&digest(0)).is_some(), "was used last");
        assert!(cache.get(&digest(1)).is_none(), "was used least");
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let cache = BlobCache::default();
        let age = cache.age();
        cache.forget();
        cache.put_image(digest(1), Arc::default(), age);
        assert!(cache.image(&digest(1)).is_none());
    }
}
