//! A tree becomes an archive, in the order of its names, on descriptors: no link is followed, no device or FIFO opened,
//! nothing that the kernel invents is read.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    os::fd::{AsRawFd as _, OwnedFd},
};

use bytes::Bytes;
use gantry_archive::{
    extract::{foreign, is_allowed},
    reader::{Kind, Member},
    writer,
};
use gantry_domain::{Error, Result, id_maps::IdMaps};
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, major, minor, openat,
        readlinkat, statat,
    },
    io::Errno,
};
use tokio::sync::mpsc::Sender;

use super::opened::{Inner, is_kernels};

/// Each level holds a descriptor.
const DEEPEST: usize = 512;
/// Bytes that are gathered before they are sent.
const PIECE: usize = 256 << 10;
const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

/// How members are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Beginning with this; the root of a file system is `/`, its members `/x`.
    Below(Vec<u8>),
    /// From the start on, which has no member itself.
    Bare,
}

impl Names {
    /// By the last component of a path.
    pub fn of(base: &str, folder: bool) -> Self {
        Self::Below(if folder && base == "/" { Vec::new() } else { base.as_bytes().to_vec() })
    }

    fn join(&self, name: &[u8]) -> Self {
        Self::Below(match self {
            Self::Bare => name.to_vec(),
            Self::Below(before) => [before, &b"/"[..], name].concat(),
        })
    }
}

/// Writes what is at `start` (`path` is its true name in the root) and all below it. Blocks; ends early when nobody
/// reads any more.
pub fn pack(
    inner: &Inner,
    start: OwnedFd,
    stat: &Stat,
    path: Vec<u8>,
    names: Names,
    out: &Sender<Result<Bytes>>,
) -> Result<()> {
    let mut writer = TarWriter::new(out, &inner.maps);
    let mut packer = Packer { veiled: &inner.veiled, writer: &mut writer, links: HashMap::new() };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let folder = openat(&start, c".", folder_flags(), Mode::empty()).map_err(|error| read_failed(&path, error))?;
        // What lies in it is the kernel's.
        let shown = !is_kernels(&folder);
        packer.folder(&folder, &path, &names, if shown { 0 } else { DEEPEST + 1 })?;
    } else {
        packer.leaf(&start, stat, None, &names)?;
    }
    writer.end()
}

/// Members on their way out, gathered into pieces. They are owned as the container sees it.
pub struct TarWriter<'a> {
    maps: &'a IdMaps,
    out: &'a Sender<Result<Bytes>>,
    buffer: Vec<u8>,
}

impl<'a> TarWriter<'a> {
    pub fn new(out: &'a Sender<Result<Bytes>>, maps: &'a IdMaps) -> Self {
        Self { maps, out, buffer: Vec::with_capacity(PIECE) }
    }

    /// `member` as it is on the host.
    pub fn head(&mut self, mut member: Member) -> Result<()> {
        (member.uid, member.gid) = self.maps.to_container(member.uid, member.gid);
        for (name, value) in &mut member.xattrs {
            *value = foreign::to_container(name, std::mem::take(value), self.maps);
        }
        self.bytes(&writer::head(&member)?)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > PIECE {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        if full.is_empty() {
            return Ok(());
        }
        self.out.blocking_send(Ok(full.into())).map_err(|_| Error::cancelled("nobody reads the archive any more"))
    }

    /// As many bytes of a file as its header says: a file that shrinks meanwhile is filled up with zeros.
    pub fn content(&mut self, file: &OwnedFd, size: u64) -> Result<()> {
        let mut left = size;
        while left > 0 {
            if self.buffer.len() == self.buffer.capacity() {
                self.flush()?;
            }
            let before = self.buffer.len();
            let count = match rustix::io::read(file, rustix::buffer::spare_capacity(&mut self.buffer)) {
                Ok(0) => break,
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Error::system(format!("read: {error}")).with_source(error)),
            };
            let taken = (count as u64).min(left);
            self.buffer.truncate(before + taken as usize);
            left -= taken;
        }
        let mut zeros = left + writer::padding(size) as u64;
        while zeros > 0 {
            let step = zeros.min(4096);
            self.bytes(&[0; 4096][..step as usize])?;
            zeros -= step;
        }
        Ok(())
    }

    pub fn end(&mut self) -> Result<()> {
        self.bytes(&writer::END)?;
        self.flush()
    }
}

struct Packer<'a, 'b> {
    veiled: &'a [Vec<u8>],
    writer: &'a mut TarWriter<'b>,
    /// Where a file with several names is in the archive.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Packer<'_, '_> {
    /// A depth beyond the deepest hides what is inside.
    fn folder(&mut self, folder: &OwnedFd, path: &[u8], names: &Names, depth: usize) -> Result<()> {
        let stat = fstat(folder).map_err(|error| read_failed(path, error))?;
        if let Names::Below(name) = names {
            let name = [&name[..], b"/"].concat();
            self.writer.head(Member { xattrs: xattrs(folder)?, ..member(name, Kind::Directory, &stat) })?;
        }
        if depth > DEEPEST {
            return Ok(());
        }
        for name in sorted_names(folder).map_err(|error| read_failed(path, error))? {
            let below = join(path, name.to_bytes());
            match self.one(folder, &name, &stat, &below, &names.join(name.to_bytes()), depth) {
                Err(Errored::Gone(Errno::NOENT)) => {}
                // As dockerd: what cannot be read is missing.
                Err(Errored::Gone(error)) => {
                    tracing::warn!(path = %String::from_utf8_lossy(&below), %error, "left out of an archive");
                }
                Err(Errored::Failed(error)) => return Err(error),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        folder: &OwnedFd,
        name: &CStr,
        parent: &Stat,
        path: &[u8],
        names: &Names,
        depth: usize,
    ) -> Result<(), Errored> {
        let stat = statat(folder, name, NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let inner = openat(folder, name, folder_flags(), Mode::empty())?;
            let crossed = stat.st_dev != parent.st_dev;
            let hidden = crossed && (is_kernels(&inner) || self.veiled.iter().any(|veiled| veiled == path));
            if depth == DEEPEST && !hidden {
                return Err(Error::system("folders are nested too deeply").into());
            }
            return Ok(self.folder(&inner, path, names, if hidden { DEEPEST + 1 } else { depth + 1 })?);
        }
        let file = openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&file)?;
        Ok(self.leaf(&file, &stat, Some((folder, name)), names)?)
    }

    /// Anything but a folder, by an `O_PATH` descriptor.
    fn leaf(&mut self, file: &OwnedFd, stat: &Stat, at: Option<(&OwnedFd, &CStr)>, names: &Names) -> Result<()> {
        let Names::Below(name) = names else { return Err(Error::system("a file without a name")) };
        let Some(kind) = kind(stat) else {
            // A socket means nothing without who listens on it, and tar cannot hold one.
            tracing::debug!(name = %String::from_utf8_lossy(name), at = at.is_some(), "a socket is left out of an archive");
            return Ok(());
        };
        let described = member(name.clone(), kind, stat);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return self.writer.head(Member {
                    kind: Kind::HardLink,
                    link: first.clone(),
                    size: 0,
                    device: (0, 0),
                    ..described
                });
            }
            self.links.insert((stat.st_dev, stat.st_ino), name.clone());
        }
        match kind {
            Kind::File => {
                let file = reopen(file).map_err(|error| read_failed(name, error))?;
                self.writer.head(Member { xattrs: xattrs(&file)?, ..described })?;
                self.writer.content(&file, stat.st_size.unsigned_abs())
            }
            Kind::Symlink => {
                let link = readlinkat(file, c"", Vec::new()).map_err(|error| read_failed(name, error))?;
                self.writer.head(Member { link: link.into_bytes(), ..described })
            }
            _ => self.writer.head(described),
        }
    }
}

/// Of one member only, or of the whole archive.
enum Errored {
    Gone(Errno),
    Failed(Error),
}

impl From<Errno> for Errored {
    fn from(error: Errno) -> Self {
        Self::Gone(error)
    }
}

impl From<Error> for Errored {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

pub fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// For reading, what an `O_PATH` descriptor names and nothing that took its name since.
pub fn reopen(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty())
}

/// Without the data of links, attributes and content.
pub fn member(path: Vec<u8>, kind: Kind, stat: &Stat) -> Member {
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    Member {
        path,
        link: Vec::new(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        // Whole seconds, as dockerd: a fraction would cost a record for each file.
        mtime: (stat.st_mtime, 0),
        size: if kind == Kind::File { stat.st_size.unsigned_abs() } else { 0 },
        device: if is_device { (major(stat.st_rdev), minor(stat.st_rdev)) } else { (0, 0) },
        xattrs: Vec::new(),
        sparse: None,
    }
}

/// `None` for a socket.
pub fn kind(stat: &Stat) -> Option<Kind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        _ => return None,
    })
}

pub fn sorted_names(folder: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// A path below an absolute one.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path == b"/" { [path, name].concat() } else { [path, b"/", name].concat() }
}

/// What may travel: capabilities, access lists, the user's own.
pub fn xattrs(file: &OwnedFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = Vec::with_capacity(4 << 10);
    match flistxattr(file, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::RANGE) => {
            names.reserve(64 << 10);
            flistxattr(file, rustix::buffer::spare_capacity(&mut names)).map_err(|error| read_failed(b"", error))?;
        }
        // A file system without them.
        Err(_) => return Ok(Vec::new()),
    }
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_allowed(name)) {
        let Ok(key) = CString::new(name) else { continue };
        let mut value = Vec::with_capacity(64 << 10);
        match fgetxattr(file, &key, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => found.push((name.to_vec(), value)),
            // Taken away meanwhile.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(read_failed(name, error)),
        }
    }
    Ok(found)
}

pub fn read_failed(path: &[u8], error: Errno) -> Error {
    super::lookup::failed("read", &String::from_utf8_lossy(path), error)
}
