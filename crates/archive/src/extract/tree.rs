//! The folder that a layer goes into: parents found or made inside it, names made in them, old ones replaced.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use gantry_domain::{Error, Result};
use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid},
    io::Errno,
};

use super::{errno, whiteout};
use crate::limits::{Kept, MAX_KEPT};

/// Parents kept open: archives list a folder's members together, and come back to its parent.
const OPEN_PARENTS: usize = 24;
/// How deep a folder may be that another member replaces; each level holds a descriptor meanwhile.
const MAX_DEPTH: usize = 512;
/// Symlinks on the way to one folder, as in the kernel.
const MAX_LINKS: usize = 40;
/// Components that one member's parents may be looked for in; a path has at most half as many.
const MAX_STEPS: usize = 4096;

pub struct Tree {
    root: Rc<OwnedFd>,
    /// Most recently used last.
    parents: Vec<(Vec<u8>, Rc<OwnedFd>)>,
    /// Folders made for a member within them, and described by none so far.
    pub implied: BTreeSet<Vec<u8>>,
    /// Room for what is remembered until the end.
    pub kept: Kept,
    /// A layer's own folder, where overlayfs's marks stand for deleted names.
    layered: bool,
    /// Who folders belong to that no member describes: root in the container.
    owner: (u32, u32),
}

/// Where a member goes: its folder, open, and its name there.
pub struct Place {
    pub folder: Rc<OwnedFd>,
    pub name: CString,
    pub path: Vec<u8>,
}

/// The path without empty and `.` components; `..` goes up as in Go's `filepath.Clean`, and never out.
pub fn clean(path: &[u8]) -> Result<Vec<u8>> {
    walk(path, || Err(Error::invalid("path leads out of the archive")))
}

/// The same for the target of a symlink: at the root, `..` stays there, as for a process whose root it is.
fn clamp(path: &[u8]) -> Result<Vec<u8>> {
    walk(path, || Ok(()))
}

fn walk(path: &[u8], out_of_root: impl Fn() -> Result<()>) -> Result<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.pop().is_none() => out_of_root()?,
            b".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

impl Tree {
    /// The folder of a layer, in the form that overlayfs keeps.
    pub fn new(root: OwnedFd) -> Self {
        Self {
            root: Rc::new(root),
            parents: Vec::new(),
            implied: BTreeSet::from([Vec::new()]),
            kept: Kept::of(MAX_KEPT),
            layered: true,
            owner: (0, 0),
        }
    }

    #[must_use]
    pub fn owned_by(self, owner: (u32, u32)) -> Self {
        Self { owner, ..self }
    }

    /// The root, too, as long as no member describes it.
    pub fn own_root(&self) -> Result<()> {
        if self.owner == (0, 0) { Ok(()) } else { chown(&self.root, c".", self.owner) }
    }

    /// A root file system as its processes see it.
    pub fn merged(root: OwnedFd) -> Self {
        Self { layered: false, implied: BTreeSet::new(), ..Self::new(root) }
    }

    /// Where `path` goes; its folder is made if it must be.
    pub fn place(&mut self, path: &[u8]) -> Result<Place> {
        let (parent, name) = split(path);
        Ok(Place { folder: self.folder(parent)?, name: c_string(name)?, path: path.to_vec() })
    }

    /// Where `path` is, if it is here.
    pub fn find(&mut self, path: &[u8]) -> Result<Option<Place>> {
        if path.is_empty() {
            return Err(Error::invalid("hard link to a folder"));
        }
        let (parent, name) = split(path);
        let folder = match self.resolve(parent) {
            Ok(folder) => Rc::new(folder),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(errno(error)),
        };
        let place = Place { folder, name: c_string(name)?, path: path.to_vec() };
        match kind_at(&place.folder, &place.name)? {
            None => Ok(None),
            Some(FileType::Directory) => Err(Error::invalid("hard link to a folder")),
            Some(_) => Ok(Some(place)),
        }
    }

    pub fn same_file(&self, one: &Place, other: &Place) -> Result<bool> {
        let stat = |place: &Place| match rustix::fs::statat(&place.folder, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(errno(error)),
        };
        Ok(stat(one)? == stat(other)?)
    }

    /// An open folder (`O_PATH`), made with its parents where it is not there.
    pub fn folder(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some(at) = self.parents.iter().rposition(|(known, _)| known == path) {
            let found = self.parents.remove(at);
            let fd = found.1.clone();
            self.parents.push(found);
            return Ok(fd);
        }
        let fd = match self.resolve(path) {
            Ok(fd) => Rc::new(fd),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.make_missing(path)?;
                Rc::new(self.resolve(path).map_err(errno)?)
            }
            Err(error) => return Err(errno(error)),
        };
        if self.parents.len() == OPEN_PARENTS {
            self.parents.remove(0);
        }
        self.parents.push((path.to_vec(), fd.clone()));
        Ok(fd)
    }

    /// Makes a folder and all on the way to it. By a list and not by calls within calls: paths and links are hostile.
    fn make_missing(&mut self, path: &[u8]) -> Result<()> {
        let mut wanted = vec![path.to_vec()];
        let mut steps = 0;
        while let Some(path) = wanted.pop() {
            if let Some(target) = self.descend(&path, &mut steps)? {
                if wanted.len() == MAX_LINKS {
                    return Err(Error::invalid("too many levels of symbolic links"));
                }
                wanted.extend([path, target]);
            }
        }
        Ok(())
    }

    /// Goes down to a folder and makes what is not there; stops at a dangling symlink, whose target must be made first.
    fn descend(&mut self, path: &[u8], steps: &mut usize) -> Result<Option<Vec<u8>>> {
        let mut folder = self.root.clone();
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.filter(|end| *end > 0) {
            *steps += 1;
            if *steps > MAX_STEPS {
                return Err(Error::invalid("the way to an archive member is too long"));
            }
            let place = Place { folder, name: c_string(split(&path[..end]).1)?, path: path[..end].to_vec() };
            folder = match kind_at(&place.folder, &place.name)? {
                Some(FileType::Symlink) => match self.resolve(&place.path) {
                    Ok(fd) => Rc::new(fd),
                    Err(Errno::NOENT | Errno::NOTDIR) => return link_target(&place).map(Some),
                    Err(error) => return Err(errno(error)),
                },
                Some(FileType::Directory) => Rc::new(pass_through(&place)?),
                Some(_) if !self.hides(&place)? => return Err(Error::invalid("a parent is not a folder")),
                Some(_) | None => {
                    self.make_implied(&place)?;
                    Rc::new(pass_through(&place)?)
                }
            };
        }
        Ok(None)
    }

    fn make_implied(&mut self, place: &Place) -> Result<()> {
        self.kept.entry(place.path.len())?;
        self.make_folder(place)?;
        rustix::fs::chmodat(&place.folder, &place.name, Mode::from_raw_mode(0o755), AtFlags::empty()).map_err(errno)?;
        if self.owner != (0, 0) {
            chown(&place.folder, &place.name, self.owner)?;
        }
        self.implied.insert(place.path.clone());
        Ok(())
    }

    /// An empty folder, private until its attributes are set; one that is there stays.
    pub fn make_folder(&mut self, place: &Place) -> Result<()> {
        match rustix::fs::mkdirat(&place.folder, &place.name, Mode::from_raw_mode(0o700)) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(errno(error)),
        }
        if kind_at(&place.folder, &place.name)? == Some(FileType::Directory) {
            return Ok(());
        }
        let hides = self.hides(place)?;
        self.remove(place)?;
        rustix::fs::mkdirat(&place.folder, &place.name, Mode::from_raw_mode(0o700)).map_err(errno)?;
        if hides {
            whiteout::set_opaque(&open_at(&place.folder, &place.name)?)?;
        }
        Ok(())
    }

    /// Makes something under a name; what had the name goes.
    pub fn make<T>(
        &mut self,
        place: &Place,
        mut create: impl FnMut(&OwnedFd, &CStr) -> rustix::io::Result<T>,
    ) -> Result<T> {
        match create(&place.folder, &place.name) {
            Err(Errno::EXIST) => {
                self.remove(place)?;
                create(&place.folder, &place.name).map_err(errno)
            }
            other => other.map_err(errno),
        }
    }

    fn hides(&self, place: &Place) -> Result<bool> {
        Ok(self.layered && whiteout::is_whiteout(&place.folder, &place.name)?)
    }

    pub(crate) fn remove(&mut self, place: &Place) -> Result<()> {
        // Paths may lead elsewhere from now on.
        self.parents.clear();
        remove_all(&place.folder, &place.name)
    }

    /// A folder for reading its entries and setting its attributes; `None` when the path is none any more.
    pub fn open_folder(&self, path: &[u8]) -> Result<Option<OwnedFd>> {
        if path.is_empty() {
            return reopen(&self.root).map(Some);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match open_in(&self.root, path, flags) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(errno(error)),
        }
    }

    fn resolve(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        open_in(&self.root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }
}

/// Opens a path as a process would whose root is `root`.
pub fn open_in(root: &OwnedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { &b"."[..] } else { path };
    loop {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // The kernel says so when anything on the machine was renamed while it looked at `..`.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// The same folder, for more than naming it.
pub fn reopen(fd: &OwnedFd) -> Result<OwnedFd> {
    open_at(fd, c".")
}

fn open_at(folder: &OwnedFd, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty()).map_err(errno)
}

/// What is under the name, itself and not what it points to.
pub fn kind_at(folder: &OwnedFd, name: &CStr) -> Result<Option<FileType>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(errno(error)),
    }
}

/// The folder that a dangling symlink stands for (`var/run` → `/run`), as a process in the root would make it.
fn link_target(link: &Place) -> Result<Vec<u8>> {
    let to = rustix::fs::readlinkat(&link.folder, &link.name, Vec::new()).map_err(errno)?;
    let (parent, _) = split(&link.path);
    let from = if to.to_bytes().starts_with(b"/") { &b""[..] } else { parent };
    clamp(&[from, b"/", to.to_bytes()].concat())
}

/// The folder under a name, only to look further from.
fn pass_through(place: &Place) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&place.folder, &place.name, flags, Mode::empty()).map_err(errno)
}

fn chown(folder: &OwnedFd, name: &CStr, (uid, gid): (u32, u32)) -> Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)
}

/// Removes what is under the name, a folder with all that is in it; follows nothing.
pub fn remove_all(folder: &impl AsFd, name: &CStr) -> Result<()> {
    let mut open = Vec::from_iter(unlink(folder.as_fd(), name)?.map(|dir| (name.to_owned(), dir)));
    while let Some((_, dir)) = open.last_mut() {
        let Some(entry) = dir.next() else {
            let Some((emptied, _)) = open.pop() else { break };
            let parent = match open.last() {
                Some((_, dir)) => dir.fd().map_err(errno)?,
                None => folder.as_fd(),
            };
            rustix::fs::unlinkat(parent, &emptied, AtFlags::REMOVEDIR).map_err(errno)?;
            continue;
        };
        let entry = entry.map_err(errno)?;
        if entry.file_name() == c"." || entry.file_name() == c".." {
            continue;
        }
        if let Some(inner) = unlink(dir.fd().map_err(errno)?, entry.file_name())? {
            if open.len() == MAX_DEPTH {
                return Err(Error::invalid("folders are nested too deeply"));
            }
            open.push((entry.file_name().to_owned(), inner));
        }
    }
    Ok(())
}

/// Removes a name; a folder is opened instead, to be emptied first.
fn unlink(folder: BorrowedFd<'_>, name: &CStr) -> Result<Option<Dir>> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(errno(error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(folder, name, flags, Mode::empty()).map_err(errno)?;
    Dir::new(inner).map(Some).map_err(errno)
}

/// Folder and last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

pub fn c_string(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Error::invalid("invalid name"))
}
