//! A file's content put into another, without its holes: a few bytes of archive can stand for a file of any size.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
};

use rustix::{fs::SeekFrom, io::Errno};

/// Copies what `from` holds into the empty file `to`.
pub fn copy_content(from: &File, mut to: &File) -> io::Result<()> {
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0;
    while let Some((start, end)) = next_data(from, at, size)? {
        rustix::fs::seek(from, SeekFrom::Start(start))?;
        to.seek(io::SeekFrom::Start(start))?;
        io::copy(&mut from.take(end - start), &mut to)?;
        at = end;
    }
    Ok(())
}

/// Where the next stretch of data begins and ends.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some((start, rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size)))),
        Err(Errno::NXIO) => Ok(None),
        // A file system that does not know holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some((at, size))),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn a_copy_is_as_sparse_as_its_source() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.set_len(1 << 40).unwrap();
        from.write_all_at(b"middle", 1 << 30).unwrap();
        from.write_all_at(b"end", (1 << 40) - 3).unwrap();
        copy_content(&from, &to).unwrap();
        let (mut middle, mut end) = ([0; 6], [0; 3]);
        to.read_exact_at(&mut middle, 1 << 30).unwrap();
        to.read_exact_at(&mut end, (1 << 40) - 3).unwrap();
        assert_eq!((&middle, &end), (b"middle", b"end"));
        let copied = to.metadata().unwrap();
        assert_eq!(copied.len(), 1 << 40);
        assert!(copied.blocks() * 512 < 1 << 20, "{} bytes on disk", copied.blocks() * 512);
    }
}
