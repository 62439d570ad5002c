//! Layers made by hand, in overlayfs's form.
#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::PermissionsExt as _};

use rustix::fs::{XattrFlags, lsetxattr, mknodat};

use super::*;

struct Layers {
    _place: tempfile::TempDir,
    upper: PathBuf,
    lower: PathBuf,
    mounts: Vec<RootMount>,
}

fn layers() -> Layers {
    let place = tempfile::tempdir().unwrap();
    let (upper, lower, base) = (place.path().join("u"), place.path().join("l"), place.path().join("b"));
    for folder in [&upper, &lower, &base] {
        fs::create_dir(folder).unwrap();
    }
    fs::create_dir_all(base.join("etc")).unwrap();
    fs::write(base.join("etc/passwd"), "root").unwrap();
    fs::write(base.join("etc/group"), "root").unwrap();
    fs::create_dir_all(lower.join("dir/sub")).unwrap();
    fs::write(lower.join("dir/one"), "1").unwrap();
    let options = vec![
        "index=off".into(),
        format!("upperdir={}", upper.display()),
        format!("lowerdir={}:{}", lower.display(), base.display()),
    ];
    let mounts = vec![RootMount { kind: "overlay".into(), source: "overlay".into(), target: String::new(), options }];
    Layers { _place: place, upper, lower, mounts }
}

fn told(layers: &Layers) -> Vec<String> {
    let letter = |kind| ["C", "A", "D"][kind as usize];
    changes(&layers.mounts).unwrap().iter().map(|change| format!("{} {}", letter(change.kind), change.path)).collect()
}

fn whiteout(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

#[test]
fn added_changed_and_deleted_are_told_with_their_parents() {
    let layers = layers();
    let upper = &layers.upper;
    fs::create_dir_all(upper.join("etc")).unwrap();
    fs::write(upper.join("etc/passwd"), "changed").unwrap();
    whiteout(&upper.join("etc/group"));
    fs::create_dir_all(upper.join("new/deep")).unwrap();
    whiteout(&upper.join("never"));
    assert_eq!(told(&layers), ["C /etc", "D /etc/group", "C /etc/passwd", "A /new", "A /new/deep"]);
}

#[test]
fn the_engines_own_places_are_nobodys_change() {
    let layers = layers();
    let upper = &layers.upper;
    for folder in ["etc", "proc", "dev/pts", "dev/shm", "sys"] {
        fs::create_dir_all(upper.join(folder)).unwrap();
    }
    for file in ["etc/hosts", "etc/resolv.conf", "dev/console"] {
        fs::write(upper.join(file), "").unwrap();
    }
    assert!(told(&layers).is_empty());
    fs::write(upper.join("dev/mine"), "x").unwrap();
    fs::write(upper.join("etc/hostname"), "not the engine's").unwrap();
    assert_eq!(told(&layers), ["A /dev", "A /dev/mine", "C /etc", "A /etc/hostname"]);
}

#[test]
fn a_folder_made_anew_has_lost_what_was_in_it() {
    let layers = layers();
    fs::create_dir(layers.upper.join("dir")).unwrap();
    lsetxattr(layers.upper.join("dir"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    fs::write(layers.upper.join("dir/two"), "2").unwrap();
    assert_eq!(told(&layers), ["C /dir", "D /dir/one", "D /dir/sub", "A /dir/two"]);
}

#[test]
fn a_touched_folder_is_unchanged_and_a_new_mode_is_a_change() {
    let layers = layers();
    fs::create_dir(layers.upper.join("dir")).unwrap();
    assert!(told(&layers).is_empty());
    fs::set_permissions(layers.upper.join("dir"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(told(&layers), ["C /dir"]);
    let _ = &layers.lower;
}
