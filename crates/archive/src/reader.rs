//! A streaming tar reader: every length is counted, every disagreement between headers is an error (T07).
//!
//! The `tar` crate splits PAX records at newlines, so that a binary value (a file capability) or a record inside a
//! value can shift what follows. Here records are read by their length, as Go and GNU tar do, and data comes out as
//! slices of the input that nobody copied.

mod header;
mod pax;

use bytes::Bytes;
use gantry_domain::{Error, Result};

use self::{header::RawHeader, pax::Pax};
use crate::{
    chunks::Chunks,
    limits::{MAX_MEMBER_HEADERS, MAX_NAME, MAX_PATH, MAX_XATTRS},
};

const BLOCK: usize = 512;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One member of an archive; its data follows through [`TarReader::data`].
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Bytes of data that the archive holds for it.
    pub size: u64,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<Sparse>,
}

/// Where the stored bytes of a sparse file belong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sparse {
    pub real_size: u64,
    /// Offset and length, rising.
    pub map: Vec<(u64, u64)>,
}

impl Sparse {
    /// Bytes that the archive does not hold.
    pub fn holes(&self) -> u64 {
        self.real_size.saturating_sub(self.map.iter().map(|(_, length)| length).sum())
    }
}

pub struct TarReader<C> {
    source: C,
    buffer: Bytes,
    /// Data of the current member not yet given out.
    remaining: u64,
    padding: u64,
    /// Bytes of headers since the last member.
    headers: u64,
}

impl<C: Chunks> TarReader<C> {
    pub fn new(source: C) -> Self {
        Self { source, buffer: Bytes::new(), remaining: 0, padding: 0, headers: 0 }
    }

    pub fn source_mut(&mut self) -> &mut C {
        &mut self.source
    }

    pub fn into_source(self) -> C {
        self.source
    }

    /// The next member; what was left of the one before is skipped.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        self.skip(self.remaining + self.padding)?;
        (self.remaining, self.padding, self.headers) = (0, 0, 0);
        let (mut pax, mut long_name, mut long_link) = (None, None, None);
        loop {
            let Some(raw) = self.header()? else {
                if pax.is_some() || long_name.is_some() || long_link.is_some() {
                    return Err(Error::invalid("unexpected EOF"));
                }
                return Ok(None);
            };
            match raw.flag() {
                b'x' | b'X' => once(&mut pax, Pax::parse(&self.extension(&raw)?)?)?,
                b'g' => Pax::parse(&self.extension(&raw)?)?.check_global()?,
                b'L' => once(&mut long_name, until_nul(&self.extension(&raw)?))?,
                b'K' => once(&mut long_link, until_nul(&self.extension(&raw)?))?,
                b'V' => drop(self.extension(&raw)?),
                _ => return self.member(&raw, pax.unwrap_or_default(), long_name, long_link).map(Some),
            }
        }
    }

    /// The next stored bytes of the current member.
    pub fn data(&mut self) -> Result<Option<Bytes>> {
        if self.remaining == 0 {
            return Ok(None);
        }
        self.fill()?;
        let count = (self.buffer.len() as u64).min(self.remaining);
        self.remaining -= count;
        Ok(Some(self.buffer.split_to(count as usize)))
    }

    /// All data of the current member, at most `max` bytes.
    pub fn data_whole(&mut self, max: u64) -> Result<Vec<u8>> {
        if self.remaining > max {
            return Err(Error::invalid(format!("document of {} bytes is larger than {max} bytes", self.remaining)));
        }
        let mut whole = Vec::with_capacity(self.remaining as usize);
        while let Some(data) = self.data()? {
            whole.extend_from_slice(&data);
        }
        Ok(whole)
    }

    /// Reads what follows the archive, up to the end of the stream: it is part of the digest.
    pub fn drain(&mut self) -> Result<()> {
        self.buffer.clear();
        while self.source.next()?.is_some() {}
        Ok(())
    }

    fn member(
        &mut self,
        raw: &RawHeader,
        mut pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Member> {
        let path = pax.path.take().or(long_name).unwrap_or_else(|| raw.path());
        let kind = raw.kind(&path)?;
        let size = match pax.size {
            Some(size) => size,
            None => raw.size()?,
        };
        if kind != Kind::File && size != 0 {
            return Err(Error::invalid("archive member without data has a size"));
        }
        self.begin(size)?;
        let sparse = match raw.flag() {
            b'S' => Some(self.old_sparse(raw, size)?),
            _ => self.pax_sparse(&mut pax)?,
        };
        if let Some(sparse) = &sparse {
            check_sparse(sparse, self.remaining)?;
        }
        let member = Member {
            path: pax.sparse_name.take().unwrap_or(path),
            link: pax.link.take().or(long_link).unwrap_or_else(|| raw.link()),
            kind,
            mode: raw.mode()? & 0o7777,
            uid: id(pax.uid, || raw.uid())?,
            gid: id(pax.gid, || raw.gid())?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => (raw.mtime()?, 0),
            },
            size: self.remaining,
            device: if matches!(kind, Kind::CharDevice | Kind::BlockDevice) { raw.device()? } else { (0, 0) },
            xattrs: pax.xattrs,
            sparse,
        };
        check_names(&member)?;
        Ok(member)
    }

    fn begin(&mut self, size: u64) -> Result<()> {
        if size > i64::MAX as u64 {
            return Err(Error::invalid("archive member is too large"));
        }
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// Old GNU format: the map begins in the header and goes on in blocks of its own before the data.
    fn old_sparse(&mut self, raw: &RawHeader, size: u64) -> Result<Sparse> {
        let mut sparse = Sparse { real_size: raw.real_size()?, map: Vec::new() };
        let mut more = raw.sparse_entries(&mut sparse.map)?;
        while more {
            let block = self.block()?.ok_or_else(|| Error::invalid("unexpected EOF"))?;
            more = header::extended_sparse_entries(&block, &mut sparse.map)?;
        }
        self.begin(size)?;
        Ok(sparse)
    }

    /// GNU's PAX formats 0.1 (map in the records) and 1.0 (map in front of the data).
    fn pax_sparse(&mut self, pax: &mut Pax) -> Result<Option<Sparse>> {
        let Some(format) = pax.sparse_format()? else { return Ok(None) };
        let real_size = pax.sparse_size.ok_or_else(|| Error::invalid("sparse archive member has no size"))?;
        let map = match format {
            pax::SparseFormat::InRecords(map) => map,
            pax::SparseFormat::BeforeData => self.sparse_prologue()?,
        };
        Ok(Some(Sparse { real_size, map }))
    }

    fn sparse_prologue(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut text = Vec::new();
        loop {
            if self.remaining < BLOCK as u64 {
                return Err(Error::invalid("sparse archive member is cut"));
            }
            let block = self.block()?.ok_or_else(|| Error::invalid("unexpected EOF"))?;
            self.remaining -= BLOCK as u64;
            text.extend_from_slice(&block);
            if let Some(map) = pax::sparse_lines(&text)? {
                return Ok(map);
            }
        }
    }

    fn extension(&mut self, raw: &RawHeader) -> Result<Vec<u8>> {
        let size = raw.size()?;
        self.charge(size)?;
        self.begin(size)?;
        let data = self.data_whole(MAX_MEMBER_HEADERS)?;
        self.skip(self.padding)?;
        Ok(data)
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<RawHeader>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            return match self.block()? {
                Some(second) if second.iter().any(|byte| *byte != 0) => Err(Error::invalid("invalid tar header")),
                _ => Ok(None),
            };
        }
        RawHeader::checked(block).map(Some)
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        self.charge(BLOCK as u64)?;
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            if self.buffer.is_empty() {
                match self.source.next()? {
                    Some(chunk) => self.buffer = chunk,
                    None if filled == 0 => return Ok(None),
                    None => return Err(Error::invalid("unexpected EOF")),
                }
            }
            let count = self.buffer.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&self.buffer.split_to(count));
            filled += count;
        }
        Ok(Some(block))
    }

    fn charge(&mut self, bytes: u64) -> Result<()> {
        self.headers = self.headers.saturating_add(bytes);
        if self.headers > MAX_MEMBER_HEADERS {
            return Err(Error::invalid("headers of an archive member are too large"));
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        while self.buffer.is_empty() {
            self.buffer = self.source.next()?.ok_or_else(|| Error::invalid("unexpected EOF"))?;
        }
        Ok(())
    }

    fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            self.fill()?;
            let step = (self.buffer.len() as u64).min(count);
            let _ = self.buffer.split_to(step as usize);
            count -= step;
        }
        Ok(())
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::invalid("archive member is described twice")),
    }
}

fn id(pax: Option<u64>, header: impl FnOnce() -> Result<u64>) -> Result<u32> {
    let id = match pax {
        Some(id) => id,
        None => header()?,
    };
    // The last one means "leave as it is" to the kernel.
    u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| Error::invalid("archive member has a bad owner"))
}

/// Names that the kernel would not take are refused before anything remembers them.
fn check_names(member: &Member) -> Result<()> {
    let long =
        |path: &[u8]| path.len() > MAX_PATH || path.split(|byte| *byte == b'/').any(|name| name.len() > MAX_NAME);
    if member.path.contains(&0) || member.link.contains(&0) {
        return Err(Error::invalid("archive member has a NUL in its name"));
    }
    if long(&member.path) || long(&member.link) {
        return Err(Error::invalid("file name too long"));
    }
    if member.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_XATTRS {
        return Err(Error::invalid("archive member has too many extended attributes"));
    }
    Ok(())
}

fn check_sparse(sparse: &Sparse, stored: u64) -> Result<()> {
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in &sparse.map {
        let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= sparse.real_size);
        end = next.ok_or_else(|| Error::invalid("sparse map of an archive member is wrong"))?;
        sum += length;
    }
    if sum != stored || sparse.real_size > i64::MAX as u64 {
        return Err(Error::invalid("sparse map of an archive member is wrong"));
    }
    Ok(())
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests;
