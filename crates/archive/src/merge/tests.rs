//! What a copy makes of hostile and of plain archives.
#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use super::*;
use crate::{chunks::Ready, writer};

fn member(path: &str, kind: Kind, link: &str, size: u64) -> Member {
    Member {
        path: path.into(),
        link: link.into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: (1_000_000_000, 0),
        size,
        device: (0, 0),
        xattrs: Vec::new(),
        sparse: None,
    }
}

fn archive(members: &[(Member, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (member, data) in members {
        bytes.extend(writer::head(member).unwrap());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len() + writer::padding(data.len() as u64), 0);
    }
    bytes.extend(writer::END);
    bytes
}

fn put(root: &Path, base: &str, bytes: Vec<u8>, options: MergeOptions) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).unwrap();
    let base = base.as_bytes().to_vec();
    // A thread of its own, for the umask.
    std::thread::spawn(move || merge(Ready([Bytes::from(bytes)].into()), root, &base, options, Limits::default()))
        .join()
        .unwrap()
}

fn file(path: &str, data: &'static [u8]) -> (Member, &'static [u8]) {
    (member(path, Kind::File, "", data.len() as u64), data)
}

#[test]
fn nothing_outside_the_root_is_touched_by_links_and_names() {
    let place = tempfile::tempdir().unwrap();
    let (root, outside) = (place.path().join("root"), place.path().join("outside"));
    fs::create_dir_all(root.join("dest")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("sentinel"), "untouched").unwrap();
    let out = outside.to_str().unwrap();
    let up = "../".repeat(12) + out;
    for target in [out, up.as_str()] {
        let through = archive(&[
            (member("dest/link", Kind::Symlink, target, 0), b""),
            file("dest/link/evil", b"x"),
            (member("dest/link/sentinel", Kind::Directory, "", 0), b""),
            (member("dest/hard", Kind::HardLink, "dest/link/sentinel", 0), b""),
        ]);
        let _ = put(&root, "", through, MergeOptions::default());
        fs::remove_dir_all(root.join("dest")).unwrap();
        fs::create_dir(root.join("dest")).unwrap();
    }
    for name in ["../evil", "a/../../evil", "/../../evil"] {
        let _ = put(&root, "dest", archive(&[file(name, b"x")]), MergeOptions::default());
    }
    let hard = archive(&[(member("h", Kind::HardLink, "../../outside/sentinel", 0), b"")]);
    let error = put(&root, "dest", hard, MergeOptions::default()).unwrap_err();
    assert!(error.message().contains("invalid hardlink target"), "{error}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("sentinel")).unwrap(), "untouched");
    assert_eq!(fs::metadata(outside.join("sentinel")).unwrap().nlink(), 1);
    assert!(!place.path().join("evil").exists());
}

#[test]
fn a_folder_entry_does_not_change_what_a_link_points_to() {
    let place = tempfile::tempdir().unwrap();
    let (root, sentinel) = (place.path().join("root"), place.path().join("sentinel"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&sentinel).unwrap();
    let before = fs::metadata(&sentinel).unwrap().mode();
    let open = Member { mode: 0o777, ..member("d", Kind::Directory, "", 0) };
    let bytes = archive(&[(member("d", Kind::Symlink, sentinel.to_str().unwrap(), 0), &b""[..]), (open, &b""[..])]);
    put(&root, "", bytes, MergeOptions::default()).unwrap();
    assert_eq!(fs::metadata(&sentinel).unwrap().mode(), before);
    assert!(fs::symlink_metadata(root.join("d")).unwrap().is_dir());
}

#[test]
fn what_is_there_is_merged_and_replaced_or_kept_by_request() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    fs::create_dir_all(root.join("d/kept")).unwrap();
    fs::write(root.join("f"), "old").unwrap();
    let strict = MergeOptions { no_overwrite: true, ..MergeOptions::default() };
    let folder = || archive(&[(member("f", Kind::Directory, "", 0), &b""[..])]);
    let error = put(root, "", folder(), strict.clone()).unwrap_err();
    assert!(error.message().ends_with("cannot overwrite non-directory \"f\" with directory \"/\""), "{error}");
    let error = put(root, "", archive(&[file("d", b"x")]), strict.clone()).unwrap_err();
    assert!(error.message().ends_with("cannot overwrite directory \"d\" with non-directory \"/\""), "{error}");
    put(root, "", folder(), MergeOptions::default()).unwrap();
    assert!(root.join("f").is_dir());
    let more = archive(&[(member("d", Kind::Directory, "", 0), &b""[..]), file("d/new", b"n")]);
    put(root, "", more, strict).unwrap();
    assert!(root.join("d/kept").is_dir() && root.join("d/new").is_file());
    assert_eq!(fs::metadata(root.join("d")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn owners_are_those_of_the_containers_user_namespace() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let maps = Arc::new(IdMaps::of_subordinate(&[(100_000, 2000)], &[(200_000, 2000)]).unwrap());
    let options = |owner| MergeOptions { owner, maps: maps.clone(), ..MergeOptions::default() };
    let owned = |path: &str, kind, uid| (Member { uid, gid: 7, ..member(path, kind, "t", 0) }, &b""[..]);
    let all = [
        owned("implied/f", Kind::File, 5),
        owned("d", Kind::Directory, 6),
        owned("l", Kind::Symlink, 7),
        owned("p", Kind::Fifo, 8),
    ];
    put(place.path(), "", archive(&all), options(None)).unwrap();
    let owner =
        |path: &str| fs::symlink_metadata(place.path().join(path)).map(|stat| (stat.uid(), stat.gid())).unwrap();
    for (path, uid) in [("implied/f", 5), ("d", 6), ("l", 7), ("p", 8)] {
        assert_eq!(owner(path), (100_000 + uid, 200_007), "{path}");
    }
    assert_eq!(owner("implied"), (100_000, 200_000), "root's in the container");
    put(place.path(), "", archive(&[owned("theirs", Kind::File, 5)]), options(Some((9, 10)))).unwrap();
    assert_eq!(owner("theirs"), (100_009, 200_010));
    for (path, kind) in [("x", Kind::File), ("y", Kind::Directory), ("z", Kind::Symlink)] {
        let error = put(place.path(), "", archive(&[owned(path, kind, 2000)]), options(None)).unwrap_err();
        assert!(error.message().ends_with("container ID 2000 cannot be mapped to a host ID"), "{error}");
        assert!(place.path().join(path).symlink_metadata().is_err(), "nothing is left of what is nobody's");
    }
}

#[test]
fn a_cut_archive_leaves_no_half_file() {
    let place = tempfile::tempdir().unwrap();
    let whole = vec![7u8; 100_000];
    let mut bytes = archive(&[file("a", b"whole"), (member("b", Kind::File, "", 100_000), &whole)]);
    bytes.truncate(50_000);
    assert!(put(place.path(), "", bytes, MergeOptions::default()).is_err());
    assert_eq!(fs::read(place.path().join("a")).unwrap(), b"whole");
    assert!(!place.path().join("b").exists());
}

#[test]
fn a_path_of_thousands_of_folders_is_made_or_refused_and_never_a_crash() {
    let place = tempfile::tempdir().unwrap();
    let path = |count: usize| format!("{}f", "d/".repeat(count));
    let long = |count| archive(&[(member(&path(count), Kind::File, "", 1), b"x")]);
    put(place.path(), "", long(1900), MergeOptions::default()).unwrap();
    assert!(put(place.path(), "", long(100_000), MergeOptions::default()).is_err());
    // What is too deep to be taken away safely stays.
    assert!(put(place.path(), "", archive(&[file("d", b"x")]), MergeOptions::default()).is_err());
}

#[test]
fn an_empty_body_is_an_empty_archive_and_garbage_is_the_clients_fault() {
    let place = tempfile::tempdir().unwrap();
    put(place.path(), "", Vec::new(), MergeOptions::default()).unwrap();
    let error = put(place.path(), "", b"garbage".repeat(300), MergeOptions::default()).unwrap_err();
    assert_eq!(error.kind(), gantry_domain::ErrorKind::InvalidParameter);
}
