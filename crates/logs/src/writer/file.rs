//! The file below a writer: opened past a torn end, rotated by renaming.
//!
//! `log` → `log.1` → `log.2` …, as dockerd names them, the older ones with `.gz` where they are compressed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::Options;
use crate::{
    compress::{Compressor, NEXT, with_suffix},
    read::ends,
};

pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// As far as we know: someone may have truncated the file.
    size: u64,
    max_size: Option<u64>,
    max_files: u32,
    compress: bool,
    compressor: Box<dyn Compressor>,
}

impl LogFile {
    /// The file, and the time of its last entry. Its folder is made where nothing else needed it before.
    pub(super) fn open(options: &Options, compressor: Box<dyn Compressor>) -> io::Result<(Self, Option<i64>)> {
        if let Some(folder) = options.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o710).create(folder)?;
        }
        let file = open(&options.path)?;
        let (size, last) = ends::whole_end(&file, options.format)?;
        if size < file.metadata()?.size() {
            file.set_len(size)?;
        }
        let log = Self {
            path: options.path.clone(),
            file,
            size,
            max_size: options.max_size.filter(|max| *max > 0),
            max_files: options.max_files.max(1),
            compress: options.compress,
            compressor,
        };
        Ok((log, last))
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.size())
    }

    pub(super) fn is_full(&self, gathered: usize) -> bool {
        self.max_size.is_some_and(|max| self.size + gathered as u64 >= max)
    }

    pub(super) fn settle(&mut self) {
        self.compressor.settle();
    }

    /// Writes all, or tells how much was written and what was in the way.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    written += n;
                    self.size += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    /// Removes the last `bytes`, the beginning of an entry that found no room.
    pub(super) fn take_back(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        // Shrinking needs no room; should it fail all the same, a reader passes over the damaged entry.
        if let Ok(len) = self.len() {
            let _ = self.file.set_len(len.saturating_sub(bytes as u64));
        }
        self.size = self.size.saturating_sub(bytes as u64);
    }

    /// Begins a new file. On failure (no room for a name) the old one goes on.
    pub(super) fn rotate(&mut self) {
        if self.len().is_ok_and(|len| len < self.size) {
            self.size = self.len().unwrap_or(0); // truncated from outside: not full after all
            return;
        }
        self.compressor.settle();
        let fresh = with_suffix(&self.path, NEXT);
        let _ = fs::remove_file(&fresh);
        let Ok(file) = open(&fresh) else { return };
        if self.max_files > 1 {
            shift(&self.path, self.max_files);
        }
        if fs::rename(&fresh, &self.path).is_err() {
            let _ = fs::remove_file(&fresh);
            return;
        }
        self.file = file;
        self.size = 0;
        if self.compress && self.max_files > 1 {
            self.compressor.start(&with_suffix(&self.path, ".1"));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the log is not a regular file"));
    }
    Ok(file)
}

/// Makes place for `path.1`; the oldest goes. A file that is not there is no matter.
fn shift(path: &Path, max_files: u32) {
    let name = |number: u32, gz: &str| with_suffix(path, &format!(".{number}{gz}"));
    for gz in ["", ".gz"] {
        let _ = fs::remove_file(name(max_files - 1, gz));
    }
    for number in (1..max_files - 1).rev() {
        for gz in ["", ".gz"] {
            let _ = fs::rename(name(number, gz), name(number + 1, gz));
        }
    }
    let _ = fs::rename(path, name(1, ""));
}
