//! Frames of `records.log`: one commit each, found again after damage by their magic and checksum.
//!
//! ```text
//! FF 'G' 'R' FE | length u32 | crc32c u32 | sequence u64 | payload
//! ```
//! Little-endian; the checksum covers length, sequence and payload. The magic holds bytes that never occur in UTF-8,
//! so that no text inside a record can pass for a frame.

pub const MAGIC: [u8; 4] = [0xff, b'G', b'R', 0xfe];
pub const HEADER: usize = 20;

/// One whole frame in a log.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub sequence: u64,
    /// Where its payload lies in the file.
    pub payload: std::ops::Range<usize>,
}

/// What a log holds: its frames from first to last, and the ranges that are not frames.
#[derive(Debug, Default)]
pub struct Scan {
    pub frames: Vec<Frame>,
    /// Unreadable ranges between frames.
    pub gaps: Vec<std::ops::Range<usize>>,
    /// Where the last frame ends; what follows is a damaged tail.
    pub end: usize,
}

/// Appends a frame to `out`; its length must fit 32 bits.
pub fn encode(out: &mut Vec<u8>, sequence: u64, payload: &[u8]) {
    let length = (payload.len() as u32).to_le_bytes();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, sequence, payload).to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(payload);
}

/// Reads a log; where a frame is damaged it goes on at the next whole one.
pub fn scan(log: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let mut at = 0;
    while at < log.len() {
        match decode(log, at).or_else(|| resync(log, at + 1)) {
            Some(frame) => {
                let start = frame.payload.start - HEADER;
                if start > at {
                    scan.gaps.push(at..start);
                }
                at = frame.payload.end;
                scan.end = at;
                scan.frames.push(frame);
            }
            None => break,
        }
    }
    scan
}

fn decode(log: &[u8], at: usize) -> Option<Frame> {
    let header = log.get(at..at + HEADER)?;
    if header[..4] != MAGIC {
        return None;
    }
    let length: [u8; 4] = header[4..8].try_into().ok()?;
    let crc = u32::from_le_bytes(header[8..12].try_into().ok()?);
    let sequence = u64::from_le_bytes(header[12..20].try_into().ok()?);
    let start = at + HEADER;
    let end = start.checked_add(u32::from_le_bytes(length) as usize)?;
    let payload = log.get(start..end)?;
    (checksum(length, sequence, payload) == crc).then_some(Frame { sequence, payload: start..end })
}

fn resync(log: &[u8], mut at: usize) -> Option<Frame> {
    while let Some(found) = log.get(at..)?.windows(MAGIC.len()).position(|window| window == MAGIC) {
        if let Some(frame) = decode(log, at + found) {
            return Some(frame);
        }
        at += found + 1;
    }
    None
}

fn checksum(length: [u8; 4], sequence: u64, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&length);
    let crc = crc32c::crc32c_append(crc, &sequence.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<u8> {
        let mut log = Vec::new();
        for (sequence, text) in [(1, "one"), (2, "zwei"), (3, "trois")] {
            encode(&mut log, sequence, text.as_bytes());
        }
        log
    }

    #[test]
    fn every_cut_leaves_the_whole_frames_before_it() {
        let log = three();
        for cut in 0..=log.len() {
            let scan = scan(&log[..cut]);
            let whole = [23, 47, 72].iter().filter(|end| **end <= cut).count();
            assert_eq!(scan.frames.len(), whole, "cut at {cut}");
            assert!(scan.gaps.is_empty());
        }
    }

    #[test]
    fn a_flipped_bit_costs_only_its_own_frame() {
        let log = three();
        for byte in 0..log.len() {
            let mut damaged = log.clone();
            damaged[byte] ^= 0x10;
            let seen: Vec<u64> = scan(&damaged).frames.iter().map(|frame| frame.sequence).collect();
            let lost = if byte < 23 {
                1
            } else if byte < 47 {
                2
            } else {
                3
            };
            assert_eq!(seen, (1..=3).filter(|n| *n != lost).collect::<Vec<_>>(), "flip at {byte}");
        }
    }
}
