//! The container's own layer as an archive: what it has, and `.wh.` members for what it deletes.

use std::{collections::HashMap, os::fd::OwnedFd, sync::Arc};

use futures::StreamExt as _;
use gantry_archive::{
    reader::{Kind, Member},
    threads,
};
use gantry_domain::{
    Error, Result,
    id_maps::IdMaps,
    ports::{ByteStream, RootMount},
};
use rustix::fs::{Stat, readlinkat};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    super::pack::{TarWriter, kind, member, read_failed, reopen, xattrs},
    Change, Same, There, walk,
};
use crate::blocking::blocking;

/// Pieces that wait for a slow reader.
const DEPTH: usize = 4;
const NOTHING: &str = "something is in the layer";

/// `None` when there is nothing in it.
pub async fn layer(mounts: Vec<RootMount>, maps: Arc<IdMaps>) -> Result<Option<ByteStream>> {
    let looked_at = mounts.clone();
    let empty = blocking(move || {
        let mut any = false;
        // The first change ends the walk.
        let walked = walk(&looked_at, Same::Told, &mut |_| {
            any = true;
            Err(Error::cancelled(NOTHING))
        });
        if any { Ok(false) } else { walked.map(|()| true) }
    });
    if empty.await? {
        return Ok(None);
    }
    let (sender, receiver) = mpsc::channel(DEPTH);
    let writing = threads::run("gantry-layer", move || {
        let mut layer = Layer { writer: TarWriter::new(&sender, &maps), links: HashMap::new() };
        let written = walk(&mounts, Same::Told, &mut |change| layer.take(&change)).and_then(|()| layer.writer.end());
        // A reader that went away needs to be told nothing.
        let _ = written.map_err(|error| sender.blocking_send(Err(error)));
        Ok(())
    });
    // The thread's end closes the channel; its result is in the stream.
    let end = futures::stream::once(writing).filter_map(|ended| async { ended.err().map(Err) });
    Ok(Some(ReceiverStream::new(receiver).chain(end).boxed()))
}

struct Layer<'a> {
    writer: TarWriter<'a>,
    /// Where a file with several names is in the archive.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Layer<'_> {
    fn take(&mut self, change: &Change<'_>) -> Result<()> {
        let path = change.path.strip_prefix(b"/").unwrap_or(change.path);
        match &change.there {
            Some(There { fd, stat }) => self.there(path, fd, stat),
            None => self.gone(path),
        }
    }

    fn there(&mut self, path: &[u8], fd: &OwnedFd, stat: &Stat) -> Result<()> {
        let failed = |error| read_failed(path, error);
        // Sockets mean nothing in an image.
        let Some(kind) = kind(stat) else { return Ok(()) };
        let described = member(path.to_vec(), kind, stat);
        if kind != Kind::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let link = Member { kind: Kind::HardLink, link: first.clone(), size: 0, device: (0, 0), ..described };
                return self.writer.head(link);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            Kind::Directory => {
                let path = [path, b"/"].concat();
                self.writer.head(Member { path, xattrs: xattrs(fd)?, ..described })
            }
            Kind::File => {
                let file = reopen(fd).map_err(failed)?;
                self.writer.head(Member { xattrs: xattrs(&file)?, ..described })?;
                self.writer.content(&file, stat.st_size.unsigned_abs())
            }
            Kind::Symlink => {
                let link = readlinkat(fd, c"", Vec::new()).map_err(failed)?.into_bytes();
                self.writer.head(Member { link, ..described })
            }
            _ => self.writer.head(described),
        }
    }

    fn gone(&mut self, path: &[u8]) -> Result<()> {
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        self.writer.head(Member {
            path: [&path[..at], b".wh.", &path[at..]].concat(),
            link: Vec::new(),
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        })
    }
}
