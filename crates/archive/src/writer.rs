//! Writing an archive: a ustar header for each member, with PAX records in front where it cannot hold everything.

use gantry_domain::Result;

use crate::reader::{Kind, Member};

const BLOCK: u64 = 512;
/// What ends an archive.
pub const END: [u8; 1024] = [0; 1024];
/// Longest name that the header itself holds.
const NAME: usize = 100;
/// Largest numbers that fit the header's octal fields.
const MAX_SIZE: u64 = 0o77_777_777_777;
const MAX_ID: u32 = 0o7_777_777;

/// The header of a member whose `size` bytes of data, then [`padding`], follow. A sparse map is not written.
pub fn head(member: &Member) -> Result<Vec<u8>> {
    let records = records(member);
    let mut bytes = Vec::with_capacity(BLOCK as usize);
    if !records.is_empty() {
        let mut header = tar::Header::new_ustar();
        put_name(&mut header.as_ustar_mut().map(|ustar| &mut ustar.name), b"PaxHeaders.0/member");
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&records);
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
    }
    bytes.extend_from_slice(ustar(member)?.as_bytes());
    Ok(bytes)
}

/// Zeros after `size` bytes of data.
pub fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK) - size) as usize
}

fn ustar(member: &Member) -> Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    put_name(&mut header.as_ustar_mut().map(|ustar| &mut ustar.name), &member.path);
    put_name(&mut header.as_ustar_mut().map(|ustar| &mut ustar.linkname), &member.link);
    header.set_entry_type(entry_type(member.kind));
    header.set_mode(member.mode);
    header.set_uid(member.uid.into());
    header.set_gid(member.gid.into());
    header.set_mtime(u64::try_from(member.mtime.0).unwrap_or_default());
    header.set_size(member.size);
    header.set_device_major(member.device.0)?;
    header.set_device_minor(member.device.1)?;
    header.set_cksum();
    Ok(header)
}

/// As much as fits; a longer name is in the records.
fn put_name(field: &mut Option<&mut [u8; NAME]>, name: &[u8]) {
    if let Some(field) = field {
        let count = name.len().min(NAME);
        field[..count].copy_from_slice(&name[..count]);
    }
}

fn entry_type(kind: Kind) -> tar::EntryType {
    match kind {
        Kind::File => tar::EntryType::Regular,
        Kind::HardLink => tar::EntryType::Link,
        Kind::Symlink => tar::EntryType::Symlink,
        Kind::CharDevice => tar::EntryType::Char,
        Kind::BlockDevice => tar::EntryType::Block,
        Kind::Directory => tar::EntryType::Directory,
        Kind::Fifo => tar::EntryType::Fifo,
    }
}

/// What the header cannot hold, or would leave to the reader's idea of an encoding.
fn records(member: &Member) -> Vec<u8> {
    let mut records = Vec::new();
    let plain = |name: &[u8]| name.len() <= NAME && name.is_ascii();
    if !plain(&member.path) {
        record(&mut records, b"path", &member.path);
    }
    if !plain(&member.link) {
        record(&mut records, b"linkpath", &member.link);
    }
    if member.size > MAX_SIZE {
        record(&mut records, b"size", member.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], member.uid), (b"gid", member.gid)] {
        if id > MAX_ID {
            record(&mut records, key, id.to_string().as_bytes());
        }
    }
    if member.mtime.0 < 0 || member.mtime.0 as u64 > MAX_SIZE {
        record(&mut records, b"mtime", member.mtime.0.to_string().as_bytes());
    }
    for (name, value) in &member.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    records
}

/// `length key=value\n`, where the length counts its own digits too.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    for part in [key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;
    use crate::{chunks::Ready, reader::TarReader};

    fn member(path: &[u8], kind: Kind) -> Member {
        Member {
            path: path.to_vec(),
            link: Vec::new(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    fn round_trip(member: &Member) -> Member {
        let mut bytes = head(member).unwrap();
        assert_eq!(bytes.len() % 512, 0);
        bytes.extend(END);
        TarReader::new(Ready([Bytes::from(bytes)].into())).next_member().unwrap().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let long = [&[b'x'; 200][..], &[b'y'; 200]].join(&b'/');
        let mut all = vec![
            member(b"a", Kind::Fifo),
            member(&long, Kind::Fifo),
            member("ünïcode/π".as_bytes(), Kind::Fifo),
            member(b"latin-\xff", Kind::Fifo),
            Member { device: (8, 1_048_575), ..member(b"dev", Kind::BlockDevice) },
            Member { link: long.clone(), ..member(b"s", Kind::Symlink) },
            Member { uid: 4_000_000_000, gid: 2_097_152, mode: 0o4755, ..member(b"id", Kind::Fifo) },
            Member { mtime: (-5, 0), ..member(b"old", Kind::Fifo) },
        ];
        all.push(Member {
            xattrs: vec![(b"security.capability".to_vec(), b"\x01\n\0=7 x\n".to_vec())],
            ..member(b"cap", Kind::Fifo)
        });
        for one in &all {
            assert_eq!(&round_trip(one), one);
        }
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for length in [1, 85, 86, 87, 88, 89, 90, 91, 92, 980, 985, 986, 987, 990] {
            let mut bytes = Vec::new();
            record(&mut bytes, b"path", &vec![b'a'; length]);
            let stated: usize = String::from_utf8_lossy(&bytes).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(stated, bytes.len());
        }
    }

    #[test]
    fn a_huge_file_is_told_by_its_record() {
        let huge = Member { size: 1 << 40, ..member(b"huge", Kind::File) };
        let bytes = head(&huge).unwrap();
        let read = TarReader::new(Ready([Bytes::from(bytes)].into())).next_member().unwrap().unwrap();
        assert_eq!(read.size, 1 << 40);
    }
}
