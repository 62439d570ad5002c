//! What an archive may cost: bytes, entries, ratio. Input is hostile; each limit has a clear error.

use gantry_domain::{Error, Result};

/// Largest sum of the headers that describe one member of a tar, in bytes (PAX records, long names, sparse maps).
pub const MAX_MEMBER_HEADERS: u64 = 1 << 20;

/// Longest path of a member, and longest target of a link, in bytes: what the kernel takes.
pub const MAX_PATH: usize = 4096;
/// Longest name in a path, in bytes, as in the kernel.
pub const MAX_NAME: usize = 255;
/// Bytes of one member's extended attributes, names and values: one of the kernel's largest, and more.
pub const MAX_XATTRS: usize = 128 << 10;
/// Bytes that one layer may make us keep until its end: names of folders and of links, and what folders bear.
pub const MAX_KEPT: usize = 64 << 20;

/// What is kept of an archive until its end; a few bytes of compressed headers can stand for much.
#[derive(Debug)]
pub struct Kept {
    left: usize,
}

impl Kept {
    pub fn of(bytes: usize) -> Self {
        Self { left: bytes }
    }

    /// Takes room for an entry of these bytes and for what holds it.
    pub fn entry(&mut self, bytes: usize) -> Result<()> {
        const HOLDER: usize = 96;
        let left = self.left.checked_sub(bytes.saturating_add(HOLDER));
        self.left = left.ok_or_else(|| Error::invalid("archive has too many names to keep in mind"))?;
        Ok(())
    }
}

/// Budget for one layer, and for the archive around layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that one layer or archive may unpack to.
    pub bytes: u64,
    /// Members of one layer.
    pub entries: u64,
    /// Members of an archive of images.
    pub members: u64,
    /// Unpacked bytes for each packed byte, beyond `ratio_floor`.
    pub ratio: u64,
    /// Unpacked bytes up to which the ratio is not looked at.
    pub ratio_floor: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 30, entries: 4_000_000, members: 20_000, ratio: 300, ratio_floor: 1 << 30 }
    }
}

/// What one layer has used so far.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    bytes: u64,
    /// Without the holes of sparse files.
    stored: u64,
    entries: u64,
}

impl Meter {
    pub fn new(limits: Limits) -> Self {
        Self { limits, bytes: 0, stored: 0, entries: 0 }
    }

    pub fn entry(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::invalid(format!("archive has more than {} entries", self.limits.entries)));
        }
        Ok(())
    }

    /// Bytes of a sparse file that the archive does not hold. They have no part in the ratio: they cost no room, but who
    /// reads the file pays for them.
    pub fn holes(&mut self, bytes: u64) -> Result<()> {
        self.bytes_within(bytes)
    }

    fn bytes_within(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes {
            return Err(Error::invalid(format!("archive unpacks to more than {} bytes", self.limits.bytes)));
        }
        Ok(())
    }

    /// `unpacked` bytes more; `packed` is the whole that was taken from the compressed stream.
    pub fn bytes(&mut self, unpacked: u64, packed: u64) -> Result<()> {
        self.bytes_within(unpacked)?;
        self.stored = self.stored.saturating_add(unpacked);
        let allowed = packed.saturating_mul(self.limits.ratio).max(self.limits.ratio_floor);
        if self.stored > allowed {
            return Err(Error::invalid(format!(
                "archive unpacks to more than {} times its compressed size",
                self.limits.ratio
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_kept_until_the_end_has_a_bound() {
        let mut kept = Kept::of(1000);
        kept.entry(100).unwrap();
        assert!(kept.entry(800).unwrap_err().message().contains("too many names"));
        assert!(kept.entry(usize::MAX).is_err());
    }

    #[test]
    fn each_budget_ends_with_its_own_error() {
        let limits = Limits { bytes: 1000, entries: 2, members: 1, ratio: 3, ratio_floor: 100 };
        let mut meter = Meter::new(limits);
        meter.entry().unwrap();
        meter.entry().unwrap();
        assert!(meter.entry().unwrap_err().message().contains("more than 2 entries"));
        meter.bytes(100, 1).unwrap();
        assert!(meter.bytes(1, 1).unwrap_err().message().contains("3 times"));
        let mut meter = Meter::new(limits);
        meter.holes(1000).unwrap();
        meter.bytes(0, 1).unwrap();
        assert!(meter.holes(1).unwrap_err().message().contains("more than 1000 bytes"), "holes count too");
        let mut meter = Meter::new(limits);
        assert!(meter.bytes(1001, 1000).unwrap_err().message().contains("more than 1000 bytes"));
    }
}
