//! Power cuts at every byte, flipped bits, damaged and lost databases.

use std::{fs, path::Path};

use gantry_domain::ports::{Store as _, Write};

use super::{block, container, fast_dir, generations, id, load, sized};
use crate::{RecordStore, log::Log, recovery};

/// A log of some commits; after each its length, and what was acknowledged.
fn recorded(root: &Path) -> (Vec<u8>, Vec<usize>) {
    let mut ends = vec![0];
    block(async {
        let store = RecordStore::open(root).unwrap();
        for n in 0..6 {
            store.commit(vec![container(n, 1), container(100 + n, 1)]).await.unwrap();
            ends.push(fs::metadata(Log::path_in(root)).unwrap().len() as usize);
        }
    });
    (fs::read(Log::path_in(root)).unwrap(), ends)
}

fn open_with(root: &Path, log: &[u8]) -> recovery::Recovered {
    fs::write(Log::path_in(root), log).unwrap();
    recovery::open(root).unwrap()
}

#[test]
fn a_power_cut_at_any_byte_keeps_every_acknowledged_commit_whole() {
    let dir = fast_dir();
    let (log, ends) = recorded(dir.path());
    for cut in 0..=log.len() {
        let at = fast_dir();
        let recovered = open_with(at.path(), &log[..cut]);
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        assert_eq!(recovered.log.index.len(), whole * 2, "cut at {cut}");
        assert_eq!(recovered.log.tail, ends[whole] as u64);
        assert_eq!(recovered.damage.is_empty(), ends.contains(&cut));
        // The next opening finds nothing wrong any more.
        assert!(recovery::open(at.path()).unwrap().damage.is_empty());
    }
}

#[test]
fn zeros_behind_the_last_record_are_cut() {
    let dir = fast_dir();
    let (mut log, _) = recorded(dir.path());
    let len = log.len();
    log.extend_from_slice(&[0; 5000]);
    let at = fast_dir();
    let recovered = open_with(at.path(), &log);
    assert_eq!((recovered.log.index.len(), recovered.log.tail), (12, len as u64));
}

#[test]
fn a_flipped_bit_costs_one_commit_and_is_said_and_the_file_is_kept() {
    let dir = fast_dir();
    let (log, ends) = recorded(dir.path());
    for byte in (0..log.len()).step_by(97) {
        let mut damaged = log.clone();
        damaged[byte] ^= 1 << (byte % 8);
        let at = fast_dir();
        let recovered = open_with(at.path(), &damaged);
        assert_eq!(recovered.log.index.len(), 10, "flip at {byte}");
        assert!(!recovered.damage.is_empty());
        let kept = quarantined(at.path());
        let last = byte >= ends[ends.len() - 2];
        let expected = if last { &damaged[ends[ends.len() - 2]..] } else { &damaged[..] };
        assert_eq!(fs::read(&kept[0]).unwrap(), expected);
        let again = recovery::open(at.path()).unwrap();
        assert_eq!((again.log.index.len(), again.damage.len()), (10, 0));
    }
}

#[test]
fn sled_heals_what_the_log_lost() {
    let dir = fast_dir();
    let (log, ends) = recorded(dir.path());
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        store.commit(vec![Write::ContainerTombstone { id: id(1) }]).await.unwrap();
        store.commit(vec![Write::ContainerGone { id: id(1) }]).await.unwrap();
        store.flush().await.unwrap();
    });
    // The third commit is damaged; what came after record 1's end is lost.
    let mut damaged = log;
    damaged[ends[2] + 30] ^= 1;
    fs::write(Log::path_in(dir.path()), &damaged).unwrap();
    let loaded = load(dir.path());
    assert_eq!(loaded.containers.len(), 11, "{:?}", loaded.damage);
    assert!(!generations(&loaded).contains(&("c1".into(), 1)), "a finished removal stays finished");
    assert!(!loaded.damage.is_empty());
    let again = load(dir.path());
    assert_eq!((again.containers.len(), again.damage.len()), (11, 0));
}

#[test]
fn a_lost_log_is_rebuilt_from_sled() {
    let dir = fast_dir();
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        store.commit(vec![container(1, 3), sized(2, 1, 10_000)]).await.unwrap();
        store.flush().await.unwrap();
    });
    fs::remove_file(Log::path_in(dir.path())).unwrap();
    let loaded = load(dir.path());
    assert_eq!(generations(&loaded), [("c1".into(), 3)]);
    assert!(loaded.damage.iter().any(|text| text.contains(id(2).as_str())), "{:?}", loaded.damage);
    assert_eq!(generations(&load(dir.path())), [("c1".into(), 3)]);
}

/// However sled's files are damaged, the records are there, and sled works again.
#[test]
fn damaged_sled_files_cost_no_record() {
    let dir = fast_dir();
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        for n in 0..300 {
            store.commit(vec![sized(n, 1, 500)]).await.unwrap();
        }
        store.put_cache("events", vec![1; 20_000]).await.unwrap();
        store.flush().await.unwrap();
    });
    drop(RecordStore::open(dir.path()).unwrap());
    let files: Vec<_> = files_below(&dir.path().join("sled"));
    assert!(files.len() >= 3, "{files:?}");
    for file in &files {
        for how in [Damage::Empty, Damage::Half, Damage::Flip(3), Damage::Flip(1), Damage::Noise] {
            let at = fast_dir();
            copy_tree(dir.path(), at.path());
            how.to(&at.path().join(file.strip_prefix(dir.path()).unwrap()));
            let loaded = load(at.path());
            assert_eq!(loaded.containers.len(), 300, "{file:?} {how:?}: {:?}", loaded.damage);
            block(async {
                let store = RecordStore::open(at.path()).unwrap();
                store.load().await.unwrap();
                store.put_cache("again", vec![3]).await.unwrap();
                store.flush().await.unwrap_or_else(|error| panic!("{file:?} {how:?}: {error}"));
            });
        }
    }
}

#[test]
fn an_unfinished_snapshot_of_sled_does_not_matter() {
    let dir = fast_dir();
    recorded(dir.path());
    fs::write(dir.path().join("sled/snap.ffffffffffffffff.generating"), b"half").unwrap();
    let loaded = load(dir.path());
    assert_eq!((loaded.containers.len(), loaded.damage), (12, vec![]));
}

#[derive(Debug)]
enum Damage {
    Empty,
    Half,
    Flip(usize),
    Noise,
}

impl Damage {
    fn to(&self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        let len = bytes.len();
        match self {
            Self::Empty => bytes.clear(),
            Self::Half => bytes.truncate(len / 2),
            Self::Flip(part) if len > 0 => bytes[len / part - usize::from(*part == 1)] ^= 0xff,
            Self::Flip(_) => {}
            Self::Noise => bytes.iter_mut().enumerate().for_each(|(n, byte)| *byte = (n * 31) as u8),
        }
        fs::write(file, bytes).unwrap();
    }
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn copy_tree(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

fn quarantined(root: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("quarantine-"))
        .flat_map(|path| files_below(&path))
        .collect()
}
