//! T07: whatever this reader takes, GNU tar lists with the same names and sizes. Archives in every format, then bent by
//! chance; what is refused here is no disagreement.
#![allow(clippy::unwrap_used)]

use std::{
    collections::VecDeque,
    io::Write as _,
    process::{Command, Stdio},
};

use bytes::Bytes;
use gantry_archive::{
    chunks::Chunks,
    reader::{Kind, TarReader},
};
use gantry_domain::Result;

struct Ready(VecDeque<Bytes>);

impl Chunks for Ready {
    fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.pop_front())
    }
}

/// Names as GNU tar quotes them, and bytes.
type Listing = Vec<(String, u64)>;

fn ours(archive: &[u8]) -> Option<Listing> {
    let mut reader = TarReader::new(Ready([Bytes::copy_from_slice(archive)].into()));
    let mut all = Vec::new();
    loop {
        match reader.next_member() {
            Ok(Some(member)) => {
                let size = member.sparse.as_ref().map_or(member.size, |sparse| sparse.real_size);
                let size = if member.kind == Kind::File { size } else { 0 };
                all.push((String::from_utf8(member.path).ok()?, size));
            }
            // What follows the end is not ours to judge.
            Ok(None) => return Some(all),
            Err(_) => return None,
        }
    }
}

/// `None` where tar itself refuses.
fn gnu(archive: &[u8]) -> Option<Listing> {
    let mut child = Command::new("tar")
        .args(["-tvf", "-", "--full-time", "--numeric-owner", "--quoting-style=literal", "-P"])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let copy = archive.to_vec();
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&copy)));
    let done = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    if !done.status.success() {
        return None;
    }
    let text = String::from_utf8(done.stdout).ok()?;
    text.lines().map(line).collect()
}

/// `-rw-r--r-- 0/0    5 2020-09-13 12:26:40 name`, with ` -> target` or ` link to target` behind it.
fn line(text: &str) -> Option<(String, u64)> {
    let mut words = text.split_whitespace();
    let (mode, _owner, size) = (words.next()?, words.next()?, words.next()?);
    let name = text.split_once(words.nth(1)?)?.1.strip_prefix(' ')?;
    let name = match mode.as_bytes().first()? {
        b'l' => name.split(" -> ").next()?,
        b'h' => name.split(" link to ").next()?,
        _ => name,
    };
    let size = if mode.starts_with('-') { size.parse().ok()? } else { 0 };
    Some((name.to_owned(), size))
}

/// Always the same; no seed from outside.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length = (body..).find(|length| length.to_string().len() + body == *length).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}

fn push(archive: &mut Vec<u8>, kind: u8, name: &str, link: &str, gnu: bool, data: &[u8]) {
    let mut header = if gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
    header.as_mut_bytes()[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    header.set_size(data.len() as u64);
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

fn archive(chance: &mut Chance) -> Vec<u8> {
    let mut archive = Vec::new();
    for number in 0..1 + chance.below(5) {
        let (name, gnu) = (format!("m{number}"), chance.below(2) == 0);
        let data = vec![b'd'; chance.below(1500)];
        let kind = chance.below(6);
        match chance.below(8) {
            0 if kind > 2 => push(&mut archive, b'x', "pax", "", false, &record("size", &data.len().to_string())),
            1 => push(&mut archive, b'x', "pax", "", false, &record("path", &format!("long/{}", "n".repeat(120)))),
            2 => push(&mut archive, b'L', "././@LongLink", "", true, format!("far/{}\0", "g".repeat(130)).as_bytes()),
            3 => push(&mut archive, b'x', "pax", "", false, &record("comment", "x\n30 path=never\n")),
            _ => {}
        }
        match kind {
            0 => push(&mut archive, b'5', &format!("{name}/"), "", gnu, b""),
            1 => push(&mut archive, b'2', &name, "to", gnu, b""),
            2 => push(&mut archive, b'0', &name, "", gnu, b""),
            _ => push(&mut archive, b'0', &name, "", gnu, &data),
        }
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// Changes a few bytes of a header, and often makes its sum right again.
fn bend(archive: &mut [u8], chance: &mut Chance) {
    let block = chance.below(archive.len() / 512) * 512;
    for _ in 0..1 + chance.below(3) {
        let at = block + chance.below(512);
        archive[at] = match chance.below(4) {
            0 => 0,
            1 => b'0' + chance.below(10) as u8,
            2 => archive[at] ^ (1 << chance.below(8)),
            _ => b"x5gLK\x80\xff "[chance.below(8)],
        };
    }
    if chance.below(3) > 0 {
        archive[block + 148..block + 156].fill(b' ');
        let sum: u32 = archive[block..block + 512].iter().map(|byte| u32::from(*byte)).sum();
        archive[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[test]
fn what_is_taken_here_is_what_gnu_tar_lists() {
    if gnu(&[0; 1024]).is_none() {
        eprintln!("SKIPPED: needs GNU tar");
        return;
    }
    let mut chance = Chance(7);
    let (mut taken, mut bent_and_taken) = (0, 0);
    for round in 0..400 {
        let mut archive = archive(&mut chance);
        let bent = round % 4 > 0;
        if bent {
            bend(&mut archive, &mut chance);
        }
        let Some(ours) = ours(&archive) else {
            assert!(bent, "round {round}: a sound archive is refused");
            continue;
        };
        taken += 1;
        bent_and_taken += u32::from(bent);
        // GNU tar reports what it skips or doubts by its status; then there is no listing to compare with.
        if let Some(theirs) = gnu(&archive) {
            assert_eq!(ours, theirs, "round {round}");
        }
    }
    assert!(taken > 150 && bent_and_taken > 30, "{taken} of 400 were taken, {bent_and_taken} of them bent");
}
