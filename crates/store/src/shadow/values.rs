//! How a record lies in sled: checked, small, with the sequence of the log that it came from.
//!
//! `crc32c u32 | sequence u64 | generation u64 | schema u32 | state u8 | JSON`. Large records stay in the log alone:
//! sled spills big nodes to files that it never syncs.

use crate::{
    entry::{Key, Kind},
    log::Slot,
};

/// Largest record that goes into sled, bytes.
pub const MAX: usize = 6 << 10;
const HEAD: usize = 25;

/// A record as sled holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub key: Key,
    pub sequence: u64,
    pub generation: u64,
    pub schema: u32,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Inline(Vec<u8>),
    /// Too large for sled: in the log only.
    InLog,
    Tombstone,
}

pub fn key(key: &Key) -> Vec<u8> {
    let mut bytes = vec![key.kind.0];
    bytes.extend_from_slice(key.id.as_bytes());
    bytes
}

pub fn encode(slot: &Slot, data: &[u8]) -> Vec<u8> {
    sealed(slot, if slot.tombstone { 2 } else { 0 }, data)
}

/// The mark that the record is in the log alone.
pub fn encode_in_log(slot: &Slot) -> Vec<u8> {
    sealed(slot, 1, &[])
}

fn sealed(slot: &Slot, state: u8, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEAD + data.len());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&slot.sequence.to_le_bytes());
    body.extend_from_slice(&slot.generation.to_le_bytes());
    body.extend_from_slice(&slot.schema.to_le_bytes());
    body.push(state);
    body.extend_from_slice(data);
    let crc = crc32c::crc32c(&body[4..]).to_le_bytes();
    body[..4].copy_from_slice(&crc);
    body
}

pub fn decode(key: &[u8], value: &[u8]) -> Option<Kept> {
    let (kind, id) = key.split_first()?;
    let id = std::str::from_utf8(id).ok()?.to_owned();
    let (head, data) = value.split_at_checked(HEAD)?;
    if crc32c::crc32c(&value[4..]).to_le_bytes() != head[..4] {
        return None;
    }
    let state = match head[24] {
        0 => State::Inline(data.to_vec()),
        1 => State::InLog,
        2 => State::Tombstone,
        _ => return None,
    };
    Some(Kept {
        key: Key { kind: Kind(*kind), id },
        sequence: u64::from_le_bytes(head[4..12].try_into().ok()?),
        generation: u64::from_le_bytes(head[12..20].try_into().ok()?),
        schema: u32::from_le_bytes(head[20..24].try_into().ok()?),
        state,
    })
}
