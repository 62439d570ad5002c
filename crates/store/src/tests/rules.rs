//! What may be written, and what comes back.

use std::{fs, sync::Arc};

use gantry_domain::{
    ErrorKind,
    network::lent::Debt,
    ports::{Gift, RecordKind, Store as _, Write},
};

use super::{block, container, generations, id, load, sized};
use crate::{
    RecordStore,
    entry::{Entry, Key, Kind, Op},
    log::Log,
};

#[test]
fn what_was_committed_is_loaded_by_the_next_store() {
    let dir = tempfile::tempdir().unwrap();
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        store.commit(vec![container(1, 1), container(2, 1), container(3, 1)]).await.unwrap();
        store.commit(vec![container(1, 2)]).await.unwrap();
        store.commit(vec![Write::ContainerTombstone { id: id(2) }]).await.unwrap();
        store.commit(vec![Write::ContainerTombstone { id: id(3) }]).await.unwrap();
        store.commit(vec![Write::ContainerGone { id: id(3) }]).await.unwrap();
        store.commit(vec![sized(4, 1, 3 << 20)]).await.unwrap();
    });
    let loaded = load(dir.path());
    assert_eq!(generations(&loaded), [("c1".into(), 2), ("c4".into(), 1)]);
    assert_eq!(loaded.container_tombstones, [id(2)]);
    assert_eq!(loaded.damage, Vec::<String>::new());
}

#[test]
fn a_debt_is_loaded_until_it_is_paid_and_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let debt = |generation| {
        let gift = Gift { ipam: "far".into(), pool: "p".into(), address: None };
        Debt { id: "d".into(), generation, ..Debt::of_gift(&gift) }
    };
    let commit = |writes: Vec<Write>| block(async { RecordStore::open(dir.path()).unwrap().commit(writes).await });
    commit(vec![container(1, 1), Write::Debt(debt(2))]).unwrap();
    assert_eq!(load(dir.path()).debts.len(), 1);
    assert_eq!(commit(vec![Write::Debt(debt(1))]).unwrap_err().kind(), ErrorKind::Conflict);
    commit(vec![container(1, 2), Write::DebtGone { id: "d".into() }]).unwrap();
    assert!(load(dir.path()).debts.is_empty());
    commit(vec![Write::Debt(debt(1))]).unwrap();
    let loaded = load(dir.path());
    assert_eq!((loaded.debts.len(), loaded.kept.len(), loaded.damage.len()), (1, 0, 0));
}

#[test]
fn the_lower_generation_loses() {
    let dir = tempfile::tempdir().unwrap();
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        store.commit(vec![container(1, 5)]).await.unwrap();
        let error = store.commit(vec![container(2, 1), container(1, 4)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    });
    assert_eq!(generations(&load(dir.path())), [("c1".into(), 5)], "nothing of the refused commit is there");
}

#[test]
fn a_record_does_not_come_back_over_its_tombstone() {
    let dir = tempfile::tempdir().unwrap();
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        store.commit(vec![container(1, 1)]).await.unwrap();
        store.commit(vec![Write::ContainerTombstone { id: id(1) }]).await.unwrap();
        let error = store.commit(vec![container(1, 2)]).await.unwrap_err();
        assert_eq!(error.message(), format!("removal of container {} is already in progress", id(1)));
    });
}

#[test]
fn a_newer_schema_is_listed_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let newer = match container(1, 1) {
        Write::Container(mut record) => {
            record.schema = 99;
            Write::Container(record)
        }
        _ => unreachable!(),
    };
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        store.commit(vec![newer]).await.unwrap();
        for write in [container(1, 2), Write::ContainerTombstone { id: id(1) }] {
            assert_eq!(store.commit(vec![write]).await.unwrap_err().kind(), ErrorKind::Conflict);
        }
    });
    let loaded = load(dir.path());
    assert!(loaded.containers.is_empty());
    let kept = &loaded.kept[0];
    assert_eq!((&kept.kind, kept.id.as_str(), kept.newer), (&RecordKind::Container, id(1).as_str(), true));
    assert!(String::from_utf8_lossy(&kept.raw).contains("\"schema\":99"));
}

#[test]
fn a_record_that_does_not_decode_is_said_and_known_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key { kind: Kind::CONTAINER, id: id(1).to_string() };
    let entry = Entry { key, op: Op::Put, schema: 1, generation: 1, data: b"{\"name\":7}".to_vec() };
    fs::write(Log::path_in(dir.path()), Log::encode(1, &[entry]).bytes).unwrap();
    let loaded = load(dir.path());
    assert!(loaded.containers.is_empty());
    let kept = &loaded.kept[0];
    assert_eq!((&kept.kind, kept.id.as_str(), kept.newer), (&RecordKind::Container, id(1).as_str(), false));
    assert_eq!(loaded.damage.len(), 1, "{:?}", loaded.damage);
}

#[test]
fn concurrent_commits_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    block(async {
        let store = Arc::new(RecordStore::open(dir.path()).unwrap());
        // The log's lock holds the committer up, so that all the others are there when it comes back.
        let all: Vec<_> = {
            let log = Arc::clone(store.log());
            let gate = std::thread::spawn(move || {
                let _held = log.lock();
                std::thread::sleep(std::time::Duration::from_millis(300));
            });
            std::thread::sleep(std::time::Duration::from_millis(50));
            let spawned = (0..200)
                .map(|n| {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move { store.commit(vec![container(n, 1)]).await })
                })
                .collect();
            tokio::task::spawn_blocking(move || gate.join().unwrap()).await.unwrap();
            spawned
        };
        for one in all {
            one.await.unwrap().unwrap();
        }
        assert!(store.syncs() <= 20, "{} syncs for 200 commits", store.syncs());
    });
    assert_eq!(load(dir.path()).containers.len(), 200);
}

#[test]
fn garbage_is_rewritten_away_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        for generation in 1..=60 {
            store.commit(vec![sized(1, generation, 100_000), container(2, generation)]).await.unwrap();
        }
        store.commit(vec![Write::ContainerTombstone { id: id(3) }]).await.unwrap();
        store.commit(vec![container(4, 1)]).await.unwrap();
    });
    assert!(fs::metadata(Log::path_in(dir.path())).unwrap().len() < 2 << 20);
    let loaded = load(dir.path());
    assert_eq!(generations(&loaded), [("c1".into(), 60), ("c2".into(), 60), ("c4".into(), 1)]);
    assert_eq!(loaded.container_tombstones, [id(3)]);
}

#[test]
fn an_unfinished_rewrite_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    block(async {
        RecordStore::open(dir.path()).unwrap().commit(vec![container(1, 1)]).await.unwrap();
    });
    let log = fs::read(Log::path_in(dir.path())).unwrap();
    for cut in [0, 10, log.len()] {
        fs::write(dir.path().join("records.log.tmp"), &log[..cut]).unwrap();
        let loaded = load(dir.path());
        assert_eq!(generations(&loaded), [("c1".into(), 1)]);
        assert!(loaded.damage.is_empty());
        assert!(!dir.path().join("records.log.tmp").exists());
    }
}

#[test]
fn caches_are_kept_at_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        store.put_cache("events", vec![1; 50_000]).await.unwrap();
        store.put_cache("events", large.clone()).await.unwrap();
        store.put_cache("events2", vec![7]).await.unwrap();
        store.put_cache("empty", Vec::new()).await.unwrap();
        store.flush().await.unwrap();
        assert_eq!(store.get_cache("events").await.unwrap().unwrap(), large);
    });
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        assert_eq!(store.get_cache("events").await.unwrap().unwrap(), large);
        assert_eq!(store.get_cache("events2").await.unwrap().unwrap(), [7]);
        assert_eq!(store.get_cache("empty").await.unwrap(), None, "an empty value removes the key");
        assert_eq!(store.get_cache("none").await.unwrap(), None);
    });
}

#[test]
fn ten_thousand_records_load_within_five_seconds() {
    let dir = tempfile::tempdir().unwrap();
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        for thousand in 0..10 {
            let writes = (thousand * 1000..(thousand + 1) * 1000).map(|n| sized(n, 1, 2000)).collect();
            store.commit(writes).await.unwrap();
        }
    });
    let start = std::time::Instant::now();
    assert_eq!(load(dir.path()).containers.len(), 10_000);
    println!("10,000 records in {:?}", start.elapsed());
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn after_a_failed_sync_the_log_is_rewritten_before_it_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(parking_lot::Mutex::new(crate::recovery::open(dir.path()).unwrap().log));
    let (asks, _asked) = std::sync::mpsc::channel();
    let committer = crate::committer::Committer {
        root: dir.path().to_owned(),
        log: Arc::clone(&log),
        dirty: crate::shadow::Dirty::new(asks),
        reserve: crate::reserve::Reserve::open(dir.path()),
        syncs: Arc::default(),
        trouble: Arc::default(),
        torn: true,
        suspect: true,
    };
    let before = inode(dir.path());
    let (commits, committed) = std::sync::mpsc::channel();
    let (reply, answer) = tokio::sync::oneshot::channel();
    let entries = vec![crate::entry::Entry::of(&container(1, 1)).unwrap()];
    commits.send(crate::committer::Commit { entries, reply }).unwrap();
    drop(commits);
    committer.run(&committed);
    block(answer).unwrap().unwrap();
    assert_ne!(inode(dir.path()), before);
    assert_eq!(generations(&load(dir.path())), [("c1".into(), 1)]);
}

fn inode(root: &std::path::Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(Log::path_in(root)).unwrap())
}

#[test]
fn a_commit_alone_is_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    block(async {
        let store = RecordStore::open(dir.path()).unwrap();
        let start = std::time::Instant::now();
        for generation in 1..=100 {
            store.commit(vec![container(1, generation)]).await.unwrap();
        }
        println!("a commit takes {:?}", start.elapsed() / 100);
        assert_eq!(store.syncs(), 100);
    });
}
