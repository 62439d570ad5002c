//! The store as a whole: power cuts, damage, full disks, many writers.
#![allow(clippy::unwrap_used)]

mod damage;
mod disk;
mod rules;

use std::path::Path;

use gantry_domain::{
    ContainerId,
    container::ContainerRecord,
    ports::{Loaded, Store as _, Write},
};

use crate::RecordStore;

fn id(n: u64) -> ContainerId {
    ContainerId::parse(&format!("{n:064x}")).unwrap()
}

fn container(n: u64, generation: u64) -> Write {
    sized(n, generation, 10)
}

/// A record whose JSON grows by `size`.
fn sized(n: u64, generation: u64, size: usize) -> Write {
    Write::Container(Box::new(ContainerRecord {
        id: id(n),
        generation,
        name: format!("c{n}"),
        error: "e".repeat(size),
        ..ContainerRecord::default()
    }))
}

fn load(root: &Path) -> Loaded {
    block(async { RecordStore::open(root).unwrap().load().await.unwrap() })
}

/// Ids and generations of what is there, sorted.
fn generations(loaded: &Loaded) -> Vec<(String, u64)> {
    let mut all: Vec<_> = loaded.containers.iter().map(|r| (r.name.clone(), r.generation)).collect();
    all.sort();
    all
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// A folder in memory where there is one: thousands of openings would wait for the disk.
fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
