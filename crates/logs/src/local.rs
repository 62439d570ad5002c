//! The compact format of the driver `local`.
//!
//! A file is a sequence of records, without a head of its own:
//!
//! ```text
//!   magic 0xd7 | stream u8 | attrs length u16 | body length u32 | time i64 | attrs | line | body length u32 ^ !0
//! ```
//!
//! Integers are little endian; the time is in nanoseconds since the epoch; `attrs` is a JSON object or empty; the body
//! is `attrs` and `line` together. The length again at the end lets a reader walk backwards; it is inverted so that a
//! stretch of zeros, which a power failure leaves, is never a record.

use crate::{
    batch::Attrs,
    format::{Record, Step},
};

pub(crate) const MAGIC: u8 = 0xd7;
const HEAD: usize = 16;
const TAIL: usize = 4;
/// A longer body is damage: lines are at most 16 KiB, and attributes fit their 16 bits.
const MAX_BODY: usize = 256 << 10;

/// Appends one record. Attributes that do not fit 64 KiB are left out.
pub(crate) fn encode(out: &mut Vec<u8>, record: &Record<'_>) {
    let attrs = if record.attrs.len() > usize::from(u16::MAX) { &[] } else { record.attrs };
    let body = (attrs.len() + record.line.len()) as u32;
    out.extend_from_slice(&[MAGIC, record.stream]);
    out.extend_from_slice(&(attrs.len() as u16).to_le_bytes());
    out.extend_from_slice(&body.to_le_bytes());
    out.extend_from_slice(&record.at.to_le_bytes());
    out.extend_from_slice(attrs);
    out.extend_from_slice(record.line);
    out.extend_from_slice(&(!body).to_le_bytes());
}

/// Bytes of the record at the start of `bytes`; `Ok(None)` when it is not whole, `Err` when it is none.
fn measure(bytes: &[u8]) -> Result<Option<usize>, ()> {
    match bytes.first() {
        None => return Ok(None),
        Some(byte) if *byte != MAGIC => return Err(()),
        Some(_) => {}
    }
    let Some(head) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
    let body = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let attrs = usize::from(u16::from_le_bytes([head[2], head[3]]));
    if body as usize > MAX_BODY || attrs > body as usize {
        return Err(());
    }
    let total = HEAD + body as usize + TAIL;
    match bytes.get(total - TAIL..total) {
        None => Ok(None),
        Some(tail) if *tail == (!body).to_le_bytes() => Ok(Some(total)),
        Some(_) => Err(()),
    }
}

/// The record at the start of `bytes`; its line is appended to `data`.
pub(crate) fn next(bytes: &[u8], data: &mut Vec<u8>) -> Step {
    let total = match measure(bytes) {
        Ok(Some(total)) => total,
        Ok(None) => return Step::Incomplete,
        Err(()) => {
            let next = memchr::memchr(MAGIC, &bytes[1..]).map_or(bytes.len(), |at| at + 1);
            return Step::Damaged { used: next };
        }
    };
    let body = HEAD + usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
    data.extend_from_slice(&bytes[body..total - TAIL]);
    let mut at = [0; 8];
    at.copy_from_slice(&bytes[8..16]);
    Step::Record { used: total, stream: bytes[1], at: i64::from_le_bytes(at), attrs: attributes(&bytes[HEAD..body]) }
}

fn attributes(text: &[u8]) -> Attrs {
    if text.is_empty() { None } else { serde_json::from_slice(text).ok().map(Box::new) }
}

/// Whole records at the start of `bytes`.
pub(crate) fn whole(bytes: &[u8]) -> (usize, u64) {
    let (mut end, mut count) = (0, 0);
    while let Ok(Some(total)) = measure(&bytes[end..]) {
        end += total;
        count += 1;
    }
    (end, count)
}

/// Bytes of the record that ends where `bytes` ends; `Ok(None)` when it begins before them.
pub(crate) fn last(bytes: &[u8]) -> Result<Option<usize>, ()> {
    let Some(tail) = bytes.last_chunk::<TAIL>() else { return Ok(None) };
    let body = !u32::from_le_bytes(*tail) as usize;
    if body > MAX_BODY {
        return Err(());
    }
    let total = HEAD + body + TAIL;
    let Some(start) = bytes.len().checked_sub(total) else { return Ok(None) };
    if measure(&bytes[start..])? == Some(total) { Ok(Some(total)) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn encoded(line: &[u8], attrs: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, &Record { stream: 2, at: -5, attrs, line });
        out
    }

    proptest! {
        #[test]
        fn every_record_comes_back_and_is_found_from_behind(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = b"before".to_vec();
            bytes.extend(encoded(&line, b"{\"a\":\"b\"}"));
            let record = &bytes[6..];
            let mut data = Vec::new();
            let attrs = Some(Box::new(BTreeMap::from([("a".to_owned(), "b".to_owned())])));
            prop_assert_eq!(next(record, &mut data), Step::Record { used: record.len(), stream: 2, at: -5, attrs });
            prop_assert_eq!(&data, &line);
            prop_assert_eq!(last(&bytes), Ok(Some(record.len())));
            for end in 0..record.len() {
                prop_assert_eq!(next(&record[..end], &mut data), Step::Incomplete);
                prop_assert_eq!(whole(&record[..end]), (0, 0));
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
            let (mut at, mut data) = (0, Vec::new());
            while at < bytes.len() {
                match next(&bytes[at..], &mut data) {
                    Step::Record { used, .. } | Step::Damaged { used } => at += used,
                    Step::Incomplete => break,
                }
            }
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(last(&[0; 64]), Err(()));
        assert_eq!(next(&[0; 8], &mut Vec::new()), Step::Damaged { used: 8 });
    }
}
