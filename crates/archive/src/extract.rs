//! A layer's archive becomes files: on descriptors, inside one folder, in the form that overlayfs keeps its upper
//! layers in (a deleted name is a character device 0/0, a hidden folder bears `trusted.overlay.opaque`).
//!
//! No path of the archive is ever walked by the plain system calls: parents are resolved by `openat2` with
//! `RESOLVE_IN_ROOT`, and the last component is never followed (T05, T06).

mod attributes;
pub mod foreign;
mod tree;
mod whiteout;

use std::{collections::BTreeSet, os::fd::OwnedFd};

use bytes::Bytes;
use gantry_domain::{Digest, Error, Result, id_maps::IdMaps};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use self::whiteout::{Mark, mark_of};
pub use self::{
    attributes::{Attributes, copy_attributes, is_allowed, times},
    tree::{Place, Tree, clean, kind_at, open_in, reopen},
    whiteout::{hide_lower, is_opaque},
};
use crate::{
    chunks::{self, Chunks, PipeSender},
    compression::{Compression, Decompressed},
    limits::{Limits, Meter},
    reader::{Kind, Member, Sparse, TarReader},
    weighed::Weighed,
};

/// Pieces between the thread that inflates and the one that writes.
const DEPTH: usize = 8;

/// What came out of a layer, and what can only be settled when the layers below are known.
#[derive(Debug)]
pub struct Extracted {
    /// Digest of the uncompressed archive; `None` when the archive was plain, as it is then the blob's.
    pub diff_id: Option<Digest>,
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Folders that no member describes: they take owner and mode from the layers below. The root is the empty path.
    pub implied: BTreeSet<Vec<u8>>,
    /// The root hides everything below.
    pub root_opaque: bool,
    /// Hard links to files of the layers below: new name and target.
    pub lower_links: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Extracts into `root`, an empty folder, with the owners that `maps` keep on the host. Call it on a thread of its own:
/// it changes the thread's umask.
pub fn extract(source: impl Chunks, root: OwnedFd, limits: Limits, maps: &IdMaps) -> Result<Extracted> {
    own_umask()?;
    let (stream, compression) = Decompressed::layer(source)?;
    if compression == Compression::None {
        return lay_out(Weighed::new(stream, limits), root, limits, maps);
    }
    // A thread that inflates and hashes, beside this one that writes.
    let (sender, plain) = chunks::pipe_of(DEPTH);
    std::thread::scope(|scope| {
        let inflating = scope.spawn(move || inflate(Weighed::new(stream, limits), sender));
        let extracted = lay_out(plain, root, limits, maps);
        let digest = inflating.join().map_err(|_| Error::system("a thread that inflates a layer panicked"))?;
        Ok(Extracted { diff_id: digest, ..extracted? })
    })
}

/// Until the end, an error, or until nobody takes it any more; the digest of a whole archive.
fn inflate(mut stream: impl Chunks, into: PipeSender) -> Option<Digest> {
    let mut hash = Sha256::new();
    loop {
        match stream.next() {
            Ok(Some(chunk)) => {
                hash.update(&chunk);
                if !into.send(chunk) {
                    return None;
                }
            }
            Ok(None) => {
                into.end();
                return Some(Digest::from_sha256(&hash.finalize()));
            }
            Err(error) => {
                into.fail(error);
                return None;
            }
        }
    }
}

/// `source` is what the archive unpacks to.
fn lay_out(source: impl Chunks, root: OwnedFd, limits: Limits, maps: &IdMaps) -> Result<Extracted> {
    let mut reader = TarReader::new(Counted { source, meter: Meter::new(limits), bytes: 0 });
    let mut layer = Layer::new(root, maps)?;
    while let Some(member) = reader.next_member()? {
        let meter = &mut reader.source_mut().meter;
        meter.entry()?;
        meter.holes(member.sparse.as_ref().map_or(0, Sparse::holes))?;
        layer.apply(&member, &mut reader).map_err(|error| located(&member, error))?;
    }
    layer.finish()?;
    reader.drain()?;
    Ok(Extracted {
        diff_id: None,
        bytes: reader.into_source().bytes,
        implied: layer.tree.implied,
        root_opaque: layer.root_opaque,
        lower_links: layer.lower_links,
    })
}

/// Files get the modes that the archive says: the umask belongs to this thread alone from here on.
pub(crate) fn own_umask() -> Result<()> {
    // SAFETY: unshare(CLONE_FS) only separates this thread's umask, root and working directory from the process's.
    if unsafe { libc::unshare(libc::CLONE_FS) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    rustix::process::umask(Mode::empty());
    Ok(())
}

pub(crate) fn located(member: &Member, error: Error) -> Error {
    error.context(format_args!("cannot extract {:?}", String::from_utf8_lossy(&member.path)))
}

/// Counts what is laid out, with the holes that no stream holds.
struct Counted<C> {
    source: C,
    meter: Meter,
    bytes: u64,
}

impl<C: Chunks> Chunks for Counted<C> {
    fn next(&mut self) -> Result<Option<Bytes>> {
        let chunk = self.source.next()?;
        let bytes = chunk.as_ref().map_or(0, Bytes::len) as u64;
        self.bytes += bytes;
        self.meter.holes(bytes)?;
        Ok(chunk)
    }
}

struct Layer<'a> {
    tree: Tree,
    maps: &'a IdMaps,
    /// Folders whose owner, mode and times are set at the end: until then they are ours alone, and what is made in
    /// them does not inherit from them.
    folders: Vec<(Vec<u8>, Attributes)>,
    root_opaque: bool,
    lower_links: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Layer<'a> {
    fn new(root: OwnedFd, maps: &'a IdMaps) -> Result<Self> {
        let tree = Tree::new(root).owned_by(maps.root());
        tree.own_root()?;
        Ok(Self { tree, maps, folders: Vec::new(), root_opaque: false, lower_links: Vec::new() })
    }

    fn apply<C: Chunks>(&mut self, member: &Member, reader: &mut TarReader<C>) -> Result<()> {
        let path = tree::clean(&member.path)?;
        if path.is_empty() {
            return self.root(member);
        }
        let mark = mark_of(&path);
        match mark {
            Some(Mark::Ignored) => return Ok(()),
            Some(Mark::Opaque(folder)) => return self.opaque(folder),
            Some(Mark::Gone(path)) => {
                let place = self.tree.place(&path)?;
                return whiteout::delete(&self.tree, &place);
            }
            None => {}
        }
        let place = self.tree.place(&path)?;
        match member.kind {
            Kind::Directory => self.directory(place, member),
            Kind::File => self.file(place, member, reader),
            Kind::HardLink => self.hard_link(place, member),
            Kind::Symlink => self.symlink(place, member),
            Kind::CharDevice => self.node(place, member, FileType::CharacterDevice),
            Kind::BlockDevice => self.node(place, member, FileType::BlockDevice),
            Kind::Fifo => self.node(place, member, FileType::Fifo),
        }
    }

    fn root(&mut self, member: &Member) -> Result<()> {
        if member.kind != Kind::Directory {
            return Err(Error::invalid("the root of a layer must be a folder"));
        }
        self.tree.implied.remove(&b""[..]);
        self.keep(Vec::new(), member)
    }

    fn opaque(&mut self, folder: Vec<u8>) -> Result<()> {
        if folder.is_empty() {
            self.root_opaque = true;
            return Ok(());
        }
        let fd = self.tree.folder(&folder)?;
        whiteout::set_opaque(&tree::reopen(&fd)?)
    }

    fn directory(&mut self, place: Place, member: &Member) -> Result<()> {
        self.tree.make_folder(&place)?;
        self.tree.implied.remove(&place.path);
        self.keep(place.path, member)
    }

    fn keep(&mut self, folder: Vec<u8>, member: &Member) -> Result<()> {
        let attributes = Attributes::of(member, self.maps)?;
        self.tree.kept.entry(folder.len() + attributes.weight())?;
        self.folders.push((folder, attributes));
        Ok(())
    }

    fn file<C: Chunks>(&mut self, place: Place, member: &Member, reader: &mut TarReader<C>) -> Result<()> {
        let fd = new_file(&mut self.tree, &place, member)?;
        write_content(&fd, member, reader)?;
        Attributes::of(member, self.maps)?.set_on_new_file(&fd)
    }

    fn hard_link(&mut self, place: Place, member: &Member) -> Result<()> {
        let target = tree::clean(&member.link)?;
        let Some(source) = self.tree.find(&target)? else {
            self.tree.kept.entry(place.path.len() + target.len())?;
            self.lower_links.push((place.path, target));
            return Ok(());
        };
        if self.tree.same_file(&source, &place)? {
            return Ok(());
        }
        self.tree.make(&place, |folder, name| {
            rustix::fs::linkat(&source.folder, &source.name, folder, name, AtFlags::empty())
        })
    }

    fn symlink(&mut self, place: Place, member: &Member) -> Result<()> {
        if member.link.is_empty() {
            return Err(Error::invalid("symlink without a target"));
        }
        self.tree.make(&place, |folder, name| rustix::fs::symlinkat(&member.link[..], folder, name))?;
        Attributes::of(member, self.maps)?.set_on_name(&place.folder, &place.name)
    }

    fn node(&mut self, place: Place, member: &Member, kind: FileType) -> Result<()> {
        new_node(&mut self.tree, &place, member, kind)?;
        Attributes::of(member, self.maps)?.set_on_name(&place.folder, &place.name)
    }

    /// Later members first: a folder within another must still change the other's times.
    fn finish(&mut self) -> Result<()> {
        for (path, attributes) in self.folders.drain(..).rev() {
            if let Some(fd) = self.tree.open_folder(&path)? {
                attributes.set_on_folder(&fd)?;
            }
        }
        Ok(())
    }
}

/// An empty file in place of what had the name.
pub(crate) fn new_file(tree: &mut Tree, place: &Place, member: &Member) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(member.mode & 0o777);
    tree.make(place, |folder, name| rustix::fs::openat(folder, name, flags, mode))
}

pub(crate) fn new_node(tree: &mut Tree, place: &Place, member: &Member, kind: FileType) -> Result<()> {
    let device = rustix::fs::makedev(member.device.0, member.device.1);
    let mode = Mode::from_raw_mode(member.mode & 0o7777);
    tree.make(place, |folder, name| rustix::fs::mknodat(folder, name, kind, mode, device))
}

pub(crate) fn write_content<C: Chunks>(fd: &OwnedFd, member: &Member, reader: &mut TarReader<C>) -> Result<()> {
    match &member.sparse {
        None => write_data(fd, reader),
        Some(sparse) => write_sparse(fd, sparse, reader),
    }
}

fn write_data<C: Chunks>(fd: &OwnedFd, reader: &mut TarReader<C>) -> Result<()> {
    while let Some(data) = reader.data()? {
        write_all(fd, &data)?;
    }
    Ok(())
}

fn write_all(fd: &OwnedFd, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        match rustix::io::write(fd, data) {
            Ok(count) => data = &data[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(())
}

fn write_sparse<C: Chunks>(fd: &OwnedFd, sparse: &Sparse, reader: &mut TarReader<C>) -> Result<()> {
    rustix::fs::ftruncate(fd, sparse.real_size).map_err(errno)?;
    let mut pending = Bytes::new();
    for (offset, length) in &sparse.map {
        rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(*offset)).map_err(errno)?;
        let mut left = *length;
        while left > 0 {
            if pending.is_empty() {
                pending = reader.data()?.ok_or_else(|| Error::invalid("unexpected EOF"))?;
            }
            let step = (pending.len() as u64).min(left);
            write_all(fd, &pending.split_to(step as usize))?;
            left -= step;
        }
    }
    Ok(())
}

/// The kernel's refusal: its text is what the client sees (`no space left on device`).
pub fn errno(error: rustix::io::Errno) -> Error {
    Error::system(std::io::Error::from(error).to_string()).with_source(error)
}
