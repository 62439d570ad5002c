//! One 512-byte header: ustar, GNU and old (v7) forms.

use gantry_domain::{Error, Result};

use super::{BLOCK, Kind, until_nul};

pub struct RawHeader([u8; BLOCK]);

impl RawHeader {
    pub fn checked(block: [u8; BLOCK]) -> Result<Self> {
        let header = Self(block);
        let stated = number(header.field(148, 8))?;
        let others = || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
        let unsigned: i64 = others().map(i64::from).sum();
        // Some old writers summed signed bytes.
        let signed: i64 = others().map(|byte| i64::from(byte as i8)).sum();
        if stated != unsigned && stated != signed {
            return Err(Error::invalid("invalid tar header"));
        }
        Ok(header)
    }

    fn field(&self, at: usize, length: usize) -> &[u8] {
        &self.0[at..at + length]
    }

    pub fn flag(&self) -> u8 {
        self.0[156]
    }

    pub fn kind(&self, path: &[u8]) -> Result<Kind> {
        Ok(match self.flag() {
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(Error::invalid(format!("unhandled tar header type {other}"))),
        })
    }

    fn is_gnu(&self) -> bool {
        self.field(257, 8) == b"ustar  \0"
    }

    pub fn path(&self) -> Vec<u8> {
        let name = until_nul(self.field(0, 100));
        if self.field(257, 6) != b"ustar\0" {
            return name;
        }
        let prefix = until_nul(self.field(345, 155));
        if prefix.is_empty() { name } else { [&prefix[..], b"/", &name[..]].concat() }
    }

    pub fn link(&self) -> Vec<u8> {
        until_nul(self.field(157, 100))
    }

    pub fn mode(&self) -> Result<u32> {
        Ok(unsigned(self.field(100, 8))? as u32)
    }
    pub fn uid(&self) -> Result<u64> {
        unsigned(self.field(108, 8))
    }
    pub fn gid(&self) -> Result<u64> {
        unsigned(self.field(116, 8))
    }
    pub fn size(&self) -> Result<u64> {
        unsigned(self.field(124, 12))
    }
    pub fn mtime(&self) -> Result<i64> {
        number(self.field(136, 12))
    }
    pub fn device(&self) -> Result<(u32, u32)> {
        Ok((unsigned(self.field(329, 8))? as u32, unsigned(self.field(337, 8))? as u32))
    }

    pub fn real_size(&self) -> Result<u64> {
        if !self.is_gnu() {
            return Err(Error::invalid("sparse archive member without a GNU header"));
        }
        unsigned(self.field(483, 12))
    }

    /// The four entries of the header itself; whether blocks with more follow.
    pub fn sparse_entries(&self, map: &mut Vec<(u64, u64)>) -> Result<bool> {
        entries(self.field(386, 4 * 24), map)?;
        Ok(self.0[482] != 0)
    }
}

/// The 21 entries of an extension block; whether another one follows.
pub fn extended_sparse_entries(block: &[u8; BLOCK], map: &mut Vec<(u64, u64)>) -> Result<bool> {
    entries(&block[..21 * 24], map)?;
    Ok(block[504] != 0)
}

fn entries(bytes: &[u8], map: &mut Vec<(u64, u64)>) -> Result<()> {
    for entry in bytes.chunks_exact(24).take_while(|entry| entry[0] != 0) {
        map.push((unsigned(&entry[..12])?, unsigned(&entry[12..])?));
    }
    Ok(())
}

fn unsigned(field: &[u8]) -> Result<u64> {
    u64::try_from(number(field)?).map_err(|_| Error::invalid("invalid tar header"))
}

/// Octal text, or GNU's big-endian two's complement when the first bit is set.
fn number(field: &[u8]) -> Result<i64> {
    let bad = || Error::invalid("invalid tar header");
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 && !negative { byte & 0x7f } else { *byte };
            value = value.checked_mul(256).ok_or_else(bad)? | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| bad());
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    if digits[end..].iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return Err(bad());
    }
    digits[..end].iter().try_fold(0i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value + i64::from(byte - b'0')).ok_or_else(bad),
        _ => Err(bad()),
    })
}
