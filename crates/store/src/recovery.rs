//! Opening the log: what is whole is taken, what is not is kept aside and said.

use std::{fs, io, os::unix::fs::FileExt, path::Path};

use gantry_domain::{Error, Result};

use crate::{entry, frame, log::Log, quarantine};

/// An opened log, and what was wrong with it.
pub struct Recovered {
    pub log: Log,
    /// Texts for `/info`; empty when the log was whole.
    pub damage: Vec<String>,
    /// sled may know what the log lost: it was damaged, or there was none.
    pub heal: bool,
}

/// Opens the log in `root`. Fails only where the folder itself cannot be used.
pub fn open(root: &Path) -> Result<Recovered> {
    let failed = |error: io::Error| {
        Error::system(format!("cannot open the records in {}: {error}", root.display())).with_source(error)
    };
    fs::create_dir_all(root).map_err(failed)?;
    remove_unfinished_rewrite(root);
    let mut log = Log::open(root).map_err(failed)?;
    let (bytes, mut damage) = read_all(&log.file).map_err(failed)?;
    let scan = frame::scan(&bytes);
    let mut gaps = scan.gaps.clone();
    for frame in &scan.frames {
        match entry::decode_all(&bytes[frame.payload.clone()], frame.payload.start) {
            Some(entries) => entries.iter().for_each(|entry| log.apply(frame.sequence, entry)),
            None => gaps.push(frame.payload.clone()),
        }
        log.sequence = log.sequence.max(frame.sequence);
    }
    log.tail = scan.end as u64;
    if !gaps.is_empty() || !damage.is_empty() {
        set_damage_aside(root, &mut log, &bytes, &gaps, &mut damage);
    } else if scan.end < bytes.len() {
        cut_tail(root, &mut log, &bytes[scan.end..], &mut damage);
    }
    for text in &damage {
        tracing::warn!(damage = %text, "the record log was damaged");
    }
    let heal = !damage.is_empty() || log.sequence == 0;
    Ok(Recovered { log, damage, heal })
}

fn remove_unfinished_rewrite(root: &Path) {
    match fs::remove_file(root.join("records.log.tmp")) {
        Ok(()) => tracing::info!("an unfinished rewrite of the record log was dropped"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "cannot remove an unfinished rewrite of the record log"),
    }
}

/// The whole file. Blocks that the disk cannot read become zeros, and are said.
fn read_all(file: &fs::File) -> io::Result<(Vec<u8>, Vec<String>)> {
    const BLOCK: usize = 4096;
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    if file.read_exact_at(&mut bytes, 0).is_ok() {
        return Ok((bytes, Vec::new()));
    }
    let mut unread = 0;
    for (n, block) in bytes.chunks_mut(BLOCK).enumerate() {
        if file.read_exact_at(block, (n * BLOCK) as u64).is_err() {
            block.fill(0);
            unread += block.len();
        }
    }
    let said = if unread > 0 { vec![format!("records.log: the disk could not read {unread} bytes")] } else { vec![] };
    Ok((bytes, said))
}

/// The middle is damaged: a copy of the whole goes to quarantine, and the log is rewritten from what is readable.
fn set_damage_aside(
    root: &Path,
    log: &mut Log,
    bytes: &[u8],
    gaps: &[std::ops::Range<usize>],
    damage: &mut Vec<String>,
) {
    let lost = gaps.iter().map(|gap| gap.len()).sum::<usize>() + bytes.len() - log.tail as usize;
    let said = format!("records.log was damaged in {} place(s), {lost} bytes could not be read", gaps.len());
    match quarantine::keep(root, "records.log", bytes) {
        Ok(folder) => {
            damage.push(format!("{said}; the damaged file is kept in {}", folder.display()));
            if let Err(error) = log.compact(root) {
                damage.push(format!("records.log could not be rewritten: {error}"));
            }
        }
        Err(error) => {
            damage.push(format!("{said}; no copy could be made ({error}), so it is kept in its place"));
            log.pinned = true;
            log.tail = bytes.len() as u64;
        }
    }
}

/// What follows the last whole frame: a write that the crash cut short, or damage. It is kept, then cut.
fn cut_tail(root: &Path, log: &mut Log, tail: &[u8], damage: &mut Vec<String>) {
    let said = format!("records.log ended in {} bytes that are no whole record", tail.len());
    let cut = quarantine::keep(root, "records.log.tail", tail).and_then(|folder| {
        log.file.set_len(log.tail)?;
        log.file.sync_all()?;
        Ok(folder)
    });
    match cut {
        Ok(folder) => damage.push(format!("{said}; they were cut off and are kept in {}", folder.display())),
        Err(error) => {
            damage.push(format!("{said}; they could not be put aside ({error}), so they are kept in their place"));
            log.pinned = true;
            log.tail += tail.len() as u64;
        }
    }
}
