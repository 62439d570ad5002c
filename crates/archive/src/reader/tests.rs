//! What the tar reader takes and refuses.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::chunks::Ready;

fn header(kind: u8, path: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).unwrap();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

fn member(kind: u8, path: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, path, data.len() as u64).as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn read(bytes: &[u8], step: usize) -> Result<Vec<(Member, Vec<u8>)>> {
    let mut reader = TarReader::new(Ready(bytes.chunks(step).map(Bytes::copy_from_slice).collect()));
    let mut all = Vec::new();
    while let Some(member) = reader.next_member()? {
        let data = reader.data_whole(1 << 20)?;
        all.push((member, data));
    }
    Ok(all)
}

#[test]
fn data_is_the_same_whatever_the_chunks() {
    let mut bytes = member(b'0', "a", &[7; 1000]);
    bytes.extend(member(b'0', "b", b""));
    bytes.extend([0; 1024]);
    for step in [1, 511, 512, 4096] {
        let all = read(&bytes, step).unwrap();
        assert_eq!(
            all.iter().map(|(member, data)| (&member.path[..], data.len())).collect::<Vec<_>>(),
            [(&b"a"[..], 1000), (&b"b"[..], 0)]
        );
    }
}

#[test]
fn a_record_within_a_value_shifts_nothing() {
    // By lines the second record would be `size=512` and swallow the next header.
    let value = "x\n12 size=512";
    let record = format!("{} comment={value}\n", 3 + "comment=".len() + value.len() + 1);
    let mut bytes = member(b'x', "pax", record.as_bytes());
    bytes.extend(member(b'0', "a", b"1"));
    bytes.extend(member(b'0', "b", b"2"));
    let all = read(&bytes, 512).unwrap();
    assert_eq!(all.iter().map(|(_, data)| &data[..]).collect::<Vec<_>>(), [b"1", b"2"]);
}

#[test]
fn a_pax_size_overrides_the_headers() {
    let mut bytes = member(b'x', "pax", b"9 size=3\n");
    let mut file = member(b'0', "a", b"abc");
    file[..512].copy_from_slice(header(b'0', "a", 0).as_bytes());
    bytes.extend(file);
    bytes.extend(member(b'0', "b", b"2"));
    let all = read(&bytes, 512).unwrap();
    assert_eq!((&all[0].1[..], &all[1].1[..]), (&b"abc"[..], &b"2"[..]));
}

#[test]
fn what_readers_disagree_on_is_refused() {
    let cases: [(&str, Vec<u8>); 9] = [
        ("a cut member", member(b'0', "a", &[1; 1000])[..900].to_vec()),
        ("a folder with data", member(b'5', "a", b"data")),
        ("a link with data", member(b'1', "a", b"data")),
        ("an unknown kind", member(b'Q', "a", b"")),
        ("a record longer than its block", member(b'x', "p", b"999 path=b\n")),
        ("a global size", member(b'g', "p", b"9 size=3\n")),
        ("headers without a member", member(b'x', "p", b"10 path=b\n")),
        ("a lone block of zeros", [vec![0; 512], member(b'0', "a", b"")].concat()),
        ("a NUL in a name", [member(b'x', "p", b"12 path=a\0b\n"), member(b'0', "a", b"")].concat()),
    ];
    for (what, bytes) in cases {
        assert!(read(&bytes, 512).is_err(), "{what}");
    }
}

#[test]
fn headers_of_one_member_have_a_budget() {
    let many: Vec<u8> = (0..5000).flat_map(|_| member(b'V', "label", b"")).collect();
    assert!(read(&many, 4096).unwrap_err().message().contains("too large"));
    let long = header(b'L', "long", 8 << 30);
    assert!(read(long.as_bytes(), 512).unwrap_err().message().contains("too large"));
}

fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length = (body..).find(|length| length.to_string().len() + body == *length).unwrap();
    let record = [format!("{length} {key}=").as_bytes(), value, b"\n"].concat();
    let mut bytes = member(b'x', "pax", &record);
    bytes.extend(member(b'0', "a", b""));
    bytes
}

#[test]
fn names_that_the_kernel_would_not_take_are_refused() {
    let deep = |length: usize| "x/".repeat(length / 2).into_bytes();
    for key in ["path", "linkpath"] {
        assert_eq!(read(&pax(key, &deep(4096)), 4096).unwrap().len(), 1, "{key}");
        assert_eq!(read(&pax(key, &[b'x'; 255]), 4096).unwrap().len(), 1, "{key}");
        for long in [deep(4098), vec![b'x'; 256]] {
            assert!(read(&pax(key, &long), 4096).unwrap_err().message().contains("too long"), "{key}");
        }
    }
}

#[test]
fn attributes_have_a_bound_for_each_member() {
    let one = |size: usize| read(&pax("SCHILY.xattr.user.x", &vec![7; size]), 4096);
    assert_eq!(one(MAX_XATTRS - 6).unwrap()[0].0.xattrs.len(), 1);
    assert!(one(MAX_XATTRS).unwrap_err().message().contains("extended attributes"));
}
