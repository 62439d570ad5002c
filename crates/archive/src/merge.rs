//! An archive becomes files in a folder of a root file system that is in use (`docker cp`): what is there is merged
//! with or replaced, as dockerd's untar does it, and nothing outside the root is ever touched (T01, T05, T06).

use std::{os::fd::OwnedFd, sync::Arc};

use gantry_domain::{Error, Result, id_maps::IdMaps};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::{
    chunks::Chunks,
    compression::Decompressed,
    extract::{self, Attributes, Place, Tree, clean, errno, kind_at, times},
    limits::Limits,
    reader::{Kind, Member, TarReader},
    weighed::Weighed,
};

#[derive(Debug, Clone, Default)]
pub struct MergeOptions {
    /// A folder is not replaced by a file, nor a file by a folder.
    pub no_overwrite: bool,
    /// Owner of everything instead of what the archive says.
    pub owner: Option<(u32, u32)>,
    /// Which owners these and the archive's are on the host.
    pub maps: Arc<IdMaps>,
}

/// Lays an archive out in `base`, a folder of `root`. Call it on a thread of its own: it changes the thread's umask.
/// An empty body is an empty archive.
pub fn merge(source: impl Chunks, root: OwnedFd, base: &[u8], options: MergeOptions, limits: Limits) -> Result<()> {
    extract::own_umask()?;
    let (stream, _) = Decompressed::new(source)?;
    let mut reader = TarReader::new(Weighed::new(stream, limits));
    let mut merge = Merge {
        tree: Tree::merged(root).owned_by(options.maps.root()),
        base: clean(base)?,
        options,
        folders: Vec::new(),
    };
    while let Some(member) = reader.next_member()? {
        reader.source_mut().meter().entry()?;
        merge.apply(&member, &mut reader)?;
    }
    merge.finish()?;
    // A client that is not read to its end would see a broken pipe instead of the answer.
    reader.drain()
}

struct Merge {
    tree: Tree,
    base: Vec<u8>,
    options: MergeOptions,
    /// Folders whose time is set at the end: what is made in them changes it.
    folders: Vec<(Vec<u8>, (i64, u32))>,
}

impl Merge {
    fn apply<C: Chunks>(&mut self, member: &Member, reader: &mut TarReader<C>) -> Result<()> {
        let name = clean(&member.path)
            .map_err(|_| Error::invalid(format!("invalid entry name {:?}", String::from_utf8_lossy(&member.path))))?;
        if name.is_empty() {
            // The folder itself is the caller's; its attributes stay.
            return if member.kind == Kind::Directory {
                Ok(())
            } else {
                Err(Error::invalid("invalid entry name \".\""))
            };
        }
        self.make(&name, member, reader).map_err(|error| extract::located(member, error))
    }

    fn make<C: Chunks>(&mut self, name: &[u8], member: &Member, reader: &mut TarReader<C>) -> Result<()> {
        let place = self.tree.place(&self.inside(name))?;
        let link = match member.kind {
            Kind::HardLink => Some(self.link_source(member)?),
            _ => None,
        };
        if let Some(source) = &link
            && self.tree.same_file(source, &place)?
        {
            return Ok(());
        }
        self.clear(name, &place, member)?;
        match (member.kind, link) {
            (Kind::Directory, _) => self.directory(place, member),
            (Kind::File, _) => self.file(&place, member, reader),
            (Kind::HardLink, Some(source)) => self.tree.make(&place, |folder, name| {
                rustix::fs::linkat(&source.folder, &source.name, folder, name, AtFlags::empty())
            }),
            (Kind::HardLink, None) => Err(Error::system("a hard link without its target")),
            (Kind::Symlink, _) => self.symlink(&place, member),
            (Kind::CharDevice, _) => self.node(&place, member, FileType::CharacterDevice),
            (Kind::BlockDevice, _) => self.node(&place, member, FileType::BlockDevice),
            (Kind::Fifo, _) => self.node(&place, member, FileType::Fifo),
        }
    }

    fn attributes(&self, member: &Member) -> Result<Attributes> {
        Attributes::copied(member, self.options.owner, &self.options.maps)
    }

    fn inside(&self, name: &[u8]) -> Vec<u8> {
        if self.base.is_empty() { name.to_vec() } else { [&self.base[..], b"/", name].concat() }
    }

    fn link_source(&mut self, member: &Member) -> Result<Place> {
        let shown = || String::from_utf8_lossy(&member.link).into_owned();
        let target =
            clean(&member.link).map_err(|_| Error::invalid(format!("invalid hardlink target {:?}", shown())))?;
        let found = self.tree.find(&self.inside(&target))?;
        found.ok_or_else(|| Error::invalid(format!("hard link to a missing file: {:?}", shown())))
    }

    /// Takes away what is in the way, if it may go. A folder stays for a folder.
    fn clear(&mut self, name: &[u8], place: &Place, member: &Member) -> Result<()> {
        let Some(there) = kind_at(&place.folder, &place.name)? else { return Ok(()) };
        let (was_folder, is_folder) = (there == FileType::Directory, member.kind == Kind::Directory);
        if self.options.no_overwrite && was_folder != is_folder {
            let (name, base) = (String::from_utf8_lossy(name), String::from_utf8_lossy(&self.base).into_owned());
            let (from, to) = if was_folder { ("directory", "non-directory") } else { ("non-directory", "directory") };
            return Err(Error::invalid(format!("cannot overwrite {from} {name:?} with {to} {:?}", format!("/{base}"))));
        }
        if was_folder && is_folder { Ok(()) } else { self.tree.remove(place) }
    }

    fn directory(&mut self, place: Place, member: &Member) -> Result<()> {
        let attributes = self.attributes(member)?;
        self.tree.make_folder(&place)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&place.folder, &place.name, flags, Mode::empty()).map_err(errno)?;
        attributes.set_on_folder(&fd)?;
        self.tree.kept.entry(place.path.len())?;
        self.folders.push((place.path, member.mtime));
        Ok(())
    }

    /// Half a file is taken away again.
    fn file<C: Chunks>(&mut self, place: &Place, member: &Member, reader: &mut TarReader<C>) -> Result<()> {
        let attributes = self.attributes(member)?;
        let fd = extract::new_file(&mut self.tree, place, member)?;
        let written = extract::write_content(&fd, member, reader).and_then(|()| attributes.set_on_new_file(&fd));
        if written.is_err() {
            // Whoever took the name meanwhile keeps it no more than any file that a copy replaces.
            let _ = rustix::fs::unlinkat(&place.folder, &place.name, AtFlags::empty());
        }
        written
    }

    fn symlink(&mut self, place: &Place, member: &Member) -> Result<()> {
        if member.link.is_empty() {
            return Err(Error::invalid("symlink without a target"));
        }
        let attributes = self.attributes(member)?;
        self.tree.make(place, |folder, name| rustix::fs::symlinkat(&member.link[..], folder, name))?;
        attributes.set_on_name(&place.folder, &place.name)
    }

    fn node(&mut self, place: &Place, member: &Member, kind: FileType) -> Result<()> {
        let attributes = self.attributes(member)?;
        extract::new_node(&mut self.tree, place, member, kind)?;
        attributes.set_on_name(&place.folder, &place.name)
    }

    /// Later members first: a folder within another must still change the other's time.
    fn finish(&mut self) -> Result<()> {
        for (path, mtime) in self.folders.drain(..).rev() {
            if let Some(fd) = self.tree.open_folder(&path)? {
                rustix::fs::futimens(&fd, &times(mtime)).map_err(errno)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
