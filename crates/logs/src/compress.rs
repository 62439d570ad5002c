//! Rotated files as gzip.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

/// Suffix of the file that a rotation puts in the log's place; it is there while the others are renamed.
pub(crate) const NEXT: &str = ".new";

/// Who compresses a rotated file, and when.
pub trait Compressor {
    /// `rotated` is complete: `gzip` it, now or beside.
    fn start(&mut self, rotated: &Path);
    /// Returns when what was started is done: the files are about to be renamed.
    fn settle(&mut self);
}

/// Compresses at once, in the caller's time.
#[derive(Debug, Default)]
pub struct InPlace;

impl Compressor for InPlace {
    fn start(&mut self, rotated: &Path) {
        // A failure leaves the plain file, which readers take as well.
        let _ = gzip(rotated);
    }
    fn settle(&mut self) {}
}

/// `path` with `suffix` at its end.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Replaces `path` by `path.gz`, which keeps its time of change: followers put rotated files in order by it. At each
/// moment one of the two is there, whole.
pub fn gzip(path: &Path) -> io::Result<()> {
    let mut source = File::open(path)?;
    let read = source.metadata()?;
    let modified = read.modified()?;
    let unfinished = with_suffix(path, ".gz.tmp");
    let done = File::create(&unfinished).and_then(|target| {
        let mut encoder = GzEncoder::new(target, Compression::fast());
        io::copy(&mut source, &mut encoder)?;
        encoder.finish()?.set_modified(modified)?;
        // Another writer may have rotated meanwhile: its file is not the one that was read.
        let now = fs::symlink_metadata(path)?;
        if (now.dev(), now.ino()) != (read.dev(), read.ino()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        fs::rename(&unfinished, with_suffix(path, ".gz"))?;
        fs::remove_file(path)
    });
    if done.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    done
}
