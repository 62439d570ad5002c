//! PAX records, read by their length.

use gantry_domain::{Error, Result};

const XATTR: &[u8] = b"SCHILY.xattr.";

#[derive(Debug, Default)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse_name: Option<Vec<u8>>,
    pub sparse_size: Option<u64>,
    sparse_major: Option<u64>,
    sparse_minor: Option<u64>,
    sparse_map: Option<Vec<u8>>,
    sparse_old: bool,
}

pub enum SparseFormat {
    InRecords(Vec<(u64, u64)>),
    BeforeData,
}

impl Pax {
    pub fn parse(mut records: &[u8]) -> Result<Self> {
        let mut pax = Self::default();
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or_else(bad)?;
            pax.take(key, value)?;
            records = rest;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"path" => self.path = text(value),
            b"linkpath" => self.link = text(value),
            b"size" => self.size = decimal(value)?,
            b"uid" => self.uid = decimal(value)?,
            b"gid" => self.gid = decimal(value)?,
            b"mtime" => self.mtime = time(value)?,
            b"GNU.sparse.major" => self.sparse_major = decimal(value)?,
            b"GNU.sparse.minor" => self.sparse_minor = decimal(value)?,
            b"GNU.sparse.name" => self.sparse_name = text(value),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse_size = decimal(value)?,
            b"GNU.sparse.map" => self.sparse_map = Some(value.to_vec()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse_old = true,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR).filter(|name| !name.is_empty() && !name.contains(&0)) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Global records (a git commit) are left unused, so they must not claim what would shift or rename members.
    pub fn check_global(&self) -> Result<()> {
        if self.size.is_some() || self.path.is_some() || self.link.is_some() || self.sparse_major.is_some() {
            return Err(Error::invalid("archive names or sizes its members globally"));
        }
        Ok(())
    }

    pub fn sparse_format(&mut self) -> Result<Option<SparseFormat>> {
        match (self.sparse_major, self.sparse_minor, self.sparse_map.take()) {
            (Some(1), Some(0), None) => Ok(Some(SparseFormat::BeforeData)),
            (None | Some(0), _, Some(map)) => {
                let numbers: Vec<u64> = map.split(|byte| *byte == b',').map(required).collect::<Result<_>>()?;
                pairs(&numbers).map(|map| Some(SparseFormat::InRecords(map)))
            }
            (None, None, None) if !self.sparse_old => Ok(None),
            _ => Err(Error::invalid("sparse format of an archive member is not supported")),
        }
    }
}

/// The map in front of the data (format 1.0): a count and then offset and length, one a line. `None` when more is
/// needed.
pub fn sparse_lines(text: &[u8]) -> Result<Option<Vec<(u64, u64)>>> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let Some(count) = lines.next() else { return Ok(None) };
    let wanted = required(count)?.checked_mul(2).filter(|wanted| *wanted < 1 << 20).ok_or_else(bad)? as usize;
    // Zero padding fills the last block; only so many lines are numbers.
    if text.iter().filter(|byte| **byte == b'\n').count() <= wanted {
        return Ok(None);
    }
    let numbers: Vec<u64> = lines.take(wanted).map(required).collect::<Result<_>>()?;
    pairs(&numbers).map(Some)
}

fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>> {
    if !numbers.len().is_multiple_of(2) {
        return Err(bad());
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// `length key=value\n`, where the length counts the whole record.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return None;
    }
    let body = &bytes[space + 1..length - 1];
    let equals = body.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

/// An empty value takes the record back.
fn text(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

fn decimal(value: &[u8]) -> Result<Option<u64>> {
    if value.is_empty() { Ok(None) } else { required(value).map(Some) }
}

fn required(value: &[u8]) -> Result<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)
}

/// Seconds with an optional fraction, which may be negative.
fn time(value: &[u8]) -> Result<Option<(i64, u32)>> {
    if value.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let nanos: u32 = format!("{fraction:0<9}")[..9].parse().map_err(|_| bad())?;
    // -1.25 is 0.75 s after -2.
    if whole.starts_with('-') && nanos > 0 {
        return Ok(Some((seconds.checked_sub(1).ok_or_else(bad)?, 1_000_000_000 - nanos)));
    }
    Ok(Some((seconds, nanos)))
}

fn bad() -> Error {
    Error::invalid("invalid PAX record in the archive")
}
