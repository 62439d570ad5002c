//! What a frame's payload holds: records, tombstones and ends, each by kind and id.

use gantry_domain::{Error, Result, container, ports::Write};

/// Shapes newer than these are listed, never changed.
pub const SCHEMA: u32 = container::record::SCHEMA;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub u8);

impl Kind {
    pub const CONTAINER: Self = Self(1);
    pub const VOLUME: Self = Self(2);
    pub const NETWORK: Self = Self(3);
    pub const DEBT: Self = Self(4);

    pub fn name(self) -> String {
        match self {
            Self::CONTAINER => "container".into(),
            Self::VOLUME => "volume".into(),
            Self::NETWORK => "network".into(),
            Self::DEBT => "debt".into(),
            Self(other) => format!("kind-{other}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    pub id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Put = 1,
    Tombstone = 2,
    Gone = 3,
}

/// One change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub op: Op,
    pub schema: u32,
    pub generation: u64,
    /// JSON; empty but for `Put`.
    pub data: Vec<u8>,
}

/// An entry where it lies: `data` is a range of what was decoded.
#[derive(Debug)]
pub struct Located {
    pub key: Key,
    pub op: Op,
    pub schema: u32,
    pub generation: u64,
    pub data: std::ops::Range<usize>,
}

impl Entry {
    pub fn of(write: &Write) -> Result<Self> {
        let entry = |kind, id: &str, op| Self {
            key: Key { kind, id: id.to_owned() },
            op,
            schema: 0,
            generation: 0,
            data: Vec::new(),
        };
        let put = |kind, id: &str, schema, generation, data: serde_json::Result<Vec<u8>>| {
            let data = data.map_err(|error| Error::system("cannot encode a record").with_source(error))?;
            Ok::<_, Error>(Self { schema, generation, data, ..entry(kind, id, Op::Put) })
        };
        Ok(match write {
            Write::Container(r) => {
                put(Kind::CONTAINER, r.id.as_str(), r.schema, r.generation, serde_json::to_vec(r.as_ref()))?
            }
            Write::Volume(r) => put(Kind::VOLUME, &r.name, r.schema, r.generation, serde_json::to_vec(r))?,
            Write::Network(r) => put(Kind::NETWORK, r.id.as_str(), r.schema, r.generation, serde_json::to_vec(r))?,
            Write::ContainerTombstone { id } => entry(Kind::CONTAINER, id.as_str(), Op::Tombstone),
            Write::ContainerGone { id } => entry(Kind::CONTAINER, id.as_str(), Op::Gone),
            Write::VolumeTombstone { name } => entry(Kind::VOLUME, name, Op::Tombstone),
            Write::VolumeGone { name } => entry(Kind::VOLUME, name, Op::Gone),
            Write::NetworkTombstone { id } => entry(Kind::NETWORK, id.as_str(), Op::Tombstone),
            Write::NetworkGone { id } => entry(Kind::NETWORK, id.as_str(), Op::Gone),
            Write::Debt(r) => put(Kind::DEBT, &r.id, r.schema, r.generation, serde_json::to_vec(r))?,
            Write::DebtGone { id } => entry(Kind::DEBT, id, Op::Gone),
        })
    }

    /// Appends the entry to a payload; returns where its data lies in it.
    pub fn encode(&self, out: &mut Vec<u8>) -> std::ops::Range<usize> {
        out.push(self.op as u8);
        out.push(self.key.kind.0);
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&(self.key.id.len() as u32).to_le_bytes());
        out.extend_from_slice(self.key.id.as_bytes());
        out.extend_from_slice(&(self.data.len() as u32).to_le_bytes());
        let start = out.len();
        out.extend_from_slice(&self.data);
        start..out.len()
    }
}

/// The entries of a payload that starts at `base` of its file; `None` where the payload is not of this format.
pub fn decode_all(payload: &[u8], base: usize) -> Option<Vec<Located>> {
    let mut rest = Reader { bytes: payload, at: 0 };
    let mut entries = Vec::new();
    while rest.at < payload.len() {
        let op = match rest.take(1)?[0] {
            1 => Op::Put,
            2 => Op::Tombstone,
            3 => Op::Gone,
            _ => return None,
        };
        let kind = Kind(rest.take(1)?[0]);
        let schema = rest.u32()?;
        let generation = u64::from_le_bytes(rest.take(8)?.try_into().ok()?);
        let id_len = rest.u32()? as usize;
        let id = std::str::from_utf8(rest.take(id_len)?).ok()?.to_owned();
        let data_len = rest.u32()? as usize;
        let start = base + rest.at;
        rest.take(data_len)?;
        entries.push(Located { key: Key { kind, id }, op, schema, generation, data: start..start + data_len });
    }
    Some(entries)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
}
