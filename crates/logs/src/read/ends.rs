//! Looks at a file from behind: where its last whole entry ends, and where its last n entries begin.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use super::Decoder;
use crate::{
    format::{Format, Step},
    local,
};

const BLOCK: u64 = 16 << 10;

/// Where the whole entries end, and the time of the last one.
pub(crate) fn whole_end(file: &File, format: Format) -> io::Result<(u64, Option<i64>)> {
    let size = file.metadata()?.size();
    let end = match format {
        Format::JsonFile => last_newline(file, size)?,
        Format::Local => local_end(file, size)?,
    };
    let (start, found) = tail_start_of(file, format, end, 1)?;
    if found == 0 {
        return Ok((end, None));
    }
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0).min(super::MAX_RECORD)];
    file.read_exact_at(&mut bytes, start)?;
    match Decoder::default().next(&bytes, &mut Vec::new()) {
        Step::Record { at, .. } => Ok((end, Some(at))),
        _ => Ok((end, None)),
    }
}

/// Where the last `wanted` whole entries before `end` begin, and how many there are of them.
pub(super) fn tail_start(file: &File, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut first = [0];
    if file.read_at(&mut first, 0)? == 0 {
        return Ok((0, 0));
    }
    let format = Format::detect(first[0]);
    let end = match format {
        Format::JsonFile => last_newline(file, end)?,
        Format::Local => local_end(file, end)?,
    };
    tail_start_of(file, format, end, wanted)
}

fn tail_start_of(file: &File, format: Format, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
    if wanted == 0 {
        return Ok((end, 0));
    }
    match format {
        Format::JsonFile => tail_of_lines(file, end, wanted),
        Format::Local => tail_of_records(file, end, wanted),
    }
}

/// Behind the last newline before `end`.
fn last_newline(file: &File, mut end: u64) -> io::Result<u64> {
    let mut block = Vec::new();
    while end > 0 {
        let start = read_before(file, end, BLOCK, &mut block)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The block of at most `len` bytes that ends at `end`; returns where it starts.
fn read_before(file: &File, end: u64, len: u64, block: &mut Vec<u8>) -> io::Result<u64> {
    let start = end.saturating_sub(len);
    block.resize((end - start) as usize, 0);
    file.read_exact_at(block, start)?;
    Ok(start)
}

/// `end` is behind a newline.
fn tail_of_lines(file: &File, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut block = Vec::new();
    let mut found = 0;
    let mut block_end = end.saturating_sub(1); // the last line's own newline begins no line
    if end == 0 {
        return Ok((0, 0));
    }
    while block_end > 0 {
        let start = read_before(file, block_end, BLOCK, &mut block)?;
        for at in memchr::memrchr_iter(b'\n', &block) {
            found += 1;
            if found == wanted {
                return Ok((start + at as u64 + 1, found));
            }
        }
        block_end = start;
    }
    Ok((0, found + 1))
}

/// `end` is behind a record.
fn tail_of_records(file: &File, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut block = Vec::new();
    let (mut at, mut found) = (end, 0);
    let mut len = BLOCK;
    while at > 0 && found < wanted {
        let start = read_before(file, at, len, &mut block)?;
        let mut left = block.len();
        while found < wanted
            && let Ok(Some(total)) = local::last(&block[..left])
        {
            left -= total;
            found += 1;
        }
        match (left == block.len(), local::last(&block)) {
            (false, _) => len = BLOCK,
            (true, Ok(None)) if start > 0 => len *= 2,
            // Damage before this point: what lies behind it is all there is to find from behind.
            _ => return Ok((at, found)),
        }
        at = start + left as u64;
    }
    Ok((at, found))
}

/// The end of the last whole record before `size`; quick when it is there.
fn local_end(file: &File, size: u64) -> io::Result<u64> {
    let mut block = Vec::new();
    read_before(file, size, BLOCK, &mut block)?;
    if matches!(local::last(&block), Ok(Some(_))) {
        return Ok(size);
    }
    // Torn: only from the beginning it is certain where records begin.
    let (mut at, mut end) = (0, 0);
    let mut data = Vec::new();
    while at < size {
        block.resize((size - at).min(1 << 20) as usize, 0);
        file.read_exact_at(&mut block, at)?;
        let mut used = 0;
        loop {
            data.clear();
            match block.get(used..).filter(|rest| !rest.is_empty()).map(|rest| local::next(rest, &mut data)) {
                Some(Step::Record { used: len, .. }) => {
                    used += len;
                    end = at + used as u64;
                }
                Some(Step::Damaged { used: len }) => used += len,
                Some(Step::Incomplete) | None => break,
            }
        }
        if used == 0 {
            break;
        }
        at += used as u64;
    }
    Ok(end)
}
