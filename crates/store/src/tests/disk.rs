//! A full disk (T55), on a small tmpfs; needs root.

use std::{fs, path::Path};

use gantry_domain::ports::{Store as _, Write};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{block, container, id, load, sized};
use crate::RecordStore;

struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        match mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(options.as_c_str())) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                println!("skipped: no tmpfs can be mounted here ({error})");
                None
            }
        }
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn on_a_full_disk_records_fail_whole_and_removals_still_go() {
    let Some(disk) = Tmpfs::new("8m") else { return };
    let mut kept = 0;
    block(async {
        let store = RecordStore::open(disk.path()).unwrap();
        store.load().await.unwrap();
        fs::write(disk.path().join("ballast"), vec![1; 1 << 20]).unwrap();
        let error = loop {
            match store.commit(vec![sized(kept, 1, 60_000), container(1000 + kept, 1)]).await {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 200, "the disk never filled");
        };
        assert!(error.message().contains("no space left"), "{error}");
        assert!(store.warnings().iter().any(|text| text.contains("no space left")));
        // Fill what is left to the last byte: only the reserve can help now.
        let mut filler = fs::File::create(disk.path().join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[0; 512]).is_ok() {}
        store.commit(vec![sized(5000, 1, 60_000)]).await.unwrap_err();
        for n in 0..kept {
            store.commit(vec![Write::ContainerTombstone { id: id(n) }]).await.unwrap();
        }
        drop(filler);
        fs::remove_file(disk.path().join("filler")).unwrap();
        fs::remove_file(disk.path().join("ballast")).unwrap();
        store.commit(vec![container(5001, 1)]).await.unwrap();
        assert!(!store.warnings().iter().any(|text| text.contains("no space left")), "{:?}", store.warnings());
    });
    let loaded = load(disk.path());
    assert_eq!(loaded.container_tombstones.len() as u64, kept);
    let mut ids: Vec<_> = loaded.containers.iter().map(|record| record.id.clone()).collect();
    ids.sort();
    assert_eq!(ids, (0..kept).map(|n| id(1000 + n)).chain([id(5001)]).collect::<Vec<_>>());
    assert!(!loaded.damage.iter().any(|text| text.contains("records.log")), "{:?}", loaded.damage);
}
