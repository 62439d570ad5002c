//! How the files of layers get to the disk.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};

use bytes::Bytes;
use gantry_domain::{Error, Result};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::open_folder;
use crate::images::{chunks::Chunks, extract};

/// Bytes of a layer between two writings.
const STEP: u64 = 16 << 20;

/// A layer's bytes; the file system is brought to disk while they are laid out, and little is left for the end.
pub struct Flushing<C> {
    source: C,
    since: u64,
    flusher: Flusher,
}

impl<C: Chunks> Flushing<C> {
    pub fn new(source: C, flusher: Flusher) -> Self {
        Self { source, since: 0, flusher }
    }
}

impl<C: Chunks> Chunks for Flushing<C> {
    fn next(&mut self) -> Result<Option<Bytes>> {
        let chunk = self.source.next()?;
        self.since += chunk.as_ref().map_or(0, Bytes::len) as u64;
        if self.since >= STEP {
            self.since = 0;
            self.flusher.flush();
        }
        Ok(chunk)
    }
}

/// Asks a thread beside to write; one that is still at it is not asked again.
pub struct Flusher(SyncSender<()>);

impl Flusher {
    fn flush(&self) {
        // Full: it is writing, and will be asked at the next step. Gone: it tells why when it is waited for.
        let _ = self.0.try_send(());
    }
}

/// The thread that writes; it ends when its [`Flusher`] is dropped.
pub struct Writing(JoinHandle<Result<()>>);

impl Writing {
    /// A write that failed is told to each descriptor that was open, once: one that this thread has heard of may not be
    /// told at the end again.
    pub fn ended(self) -> Result<()> {
        self.0.join().map_err(|_| Error::system("a thread that writes a layer panicked"))?
    }
}

/// Writes the file system that `folder` is on whenever it is asked to.
pub fn writing(folder: &Path) -> Result<(Flusher, Writing)> {
    let folder = open_folder(folder)?;
    let (sender, asked) = sync_channel(0);
    let thread = std::thread::Builder::new().name("gantry-flush".to_owned()).spawn(move || write(&folder, &asked))?;
    Ok((Flusher(sender), Writing(thread)))
}

fn write(folder: &OwnedFd, asked: &Receiver<()>) -> Result<()> {
    while asked.recv().is_ok() {
        rustix::fs::syncfs(folder).map_err(extract::errno)?;
    }
    Ok(())
}

/// Has ext4 put each folder of `parent` into a group of blocks of its own (`chattr +T`). In one group the inodes of a
/// layer that was deleted within the last minutes would each be looked at, and passed over, for every new file.
/// Only a matter of speed: where that cannot be, it is not.
pub fn spread(parent: &Path) {
    let Ok(parent) = open_folder(parent) else { return };
    let Ok(flags) = ioctl_getflags(parent.as_fd()) else { return };
    if !flags.contains(IFlags::TOPDIR) {
        let _ = ioctl_setflags(parent.as_fd(), flags | IFlags::TOPDIR);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Zeros(u64);

    impl Chunks for Zeros {
        fn next(&mut self) -> Result<Option<Bytes>> {
            self.0 = self.0.saturating_sub(1);
            Ok((self.0 > 0).then(|| Bytes::from_static(&[0; 1 << 16])))
        }
    }

    /// To the end, then it is dropped.
    fn drained(mut source: impl Chunks) -> u64 {
        let mut bytes = 0;
        while let Some(chunk) = source.next().unwrap() {
            bytes += chunk.len() as u64;
        }
        bytes
    }

    #[test]
    fn bytes_pass_while_the_file_system_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (flusher, writing) = writing(folder.path()).unwrap();
        assert_eq!(drained(Flushing::new(Zeros(1025), flusher)), 4 * STEP);
        writing.ended().unwrap();
    }

    #[test]
    fn each_step_asks_for_one_writing() {
        let (sender, asked) = sync_channel(8);
        assert_eq!(drained(Flushing::new(Zeros(1025), Flusher(sender))), 4 * STEP);
        assert_eq!(asked.iter().count(), 4);
    }

    #[test]
    fn a_folder_is_spread_where_the_file_system_knows_how() {
        let folder = tempfile::tempdir().unwrap();
        spread(folder.path());
        spread(Path::new("/nonexistent"));
        // Others than ext4 may not keep the flag.
        let kept =
            ioctl_getflags(open_folder(folder.path()).unwrap()).is_ok_and(|flags| flags.contains(IFlags::TOPDIR));
        let knows = rustix::fs::statfs(folder.path()).unwrap().f_type == 0xef53;
        assert!(kept || !knows);
    }
}
