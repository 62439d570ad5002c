//! Root file systems with hostile content; those with mounts need root.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use gantry_domain::ErrorKind;

use super::*;

struct Layers(tempfile::TempDir);

impl Layers {
    /// An overlay of one image layer; `None` where it cannot be mounted.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lower/etc", "upper", "work"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let layers = Self(dir);
        match mounted::with(&layers.mounts(), Access::Read, |_| Ok(())) {
            Ok(()) => Some(layers),
            Err(error) => {
                println!("skipped: no overlay can be mounted here ({error})");
                None
            }
        }
    }
    fn lower(&self) -> PathBuf {
        self.0.path().join("lower")
    }
    fn upper(&self) -> PathBuf {
        self.0.path().join("upper")
    }
    fn mounts(&self) -> Vec<RootMount> {
        let at = |name: &str| self.0.path().join(name).display().to_string();
        vec![RootMount {
            kind: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: vec![
                "index=off".into(),
                format!("workdir={}", at("work")),
                format!("upperdir={}", at("upper")),
                format!("lowerdir={}", at("lower")),
            ],
        }]
    }
    fn root(&self) -> RootRef {
        RootRef::Mounts(self.mounts())
    }
}

#[tokio::test]
async fn a_file_is_read_with_its_changes_and_never_from_outside() {
    let Some(layers) = Layers::new() else { return };
    fs::write(layers.lower().join("etc/passwd"), "inside").unwrap();
    symlink("/etc/passwd", layers.lower().join("absolute")).unwrap();
    symlink("../../../../../../etc/passwd", layers.lower().join("etc/climbing")).unwrap();
    symlink("/proc/self/root/etc/passwd", layers.lower().join("magic")).unwrap();
    let (fs_port, root) = (RootFileSystems::default(), layers.root());
    for path in ["/etc/passwd", "/absolute", "/etc/climbing", "../../etc/passwd"] {
        let read = fs_port.read(&root, path, 100).await.unwrap();
        assert_eq!(read.as_deref(), Some(&b"inside"[..]), "{path}");
    }
    assert_eq!(fs_port.read(&root, "/magic", 100).await.unwrap(), None);
    assert_eq!(fs_port.read(&root, "/etc/passwd/x", 100).await.unwrap(), None);
    fs::create_dir(layers.upper().join("etc")).unwrap();
    fs::write(layers.upper().join("etc/passwd"), "changed").unwrap();
    assert_eq!(fs_port.read(&root, "/etc/passwd", 100).await.unwrap().unwrap(), b"changed");
}

/// A whole archive at once.
struct Once(Option<bytes::Bytes>);

impl gantry_archive::chunks::Chunks for Once {
    fn next(&mut self) -> Result<Option<bytes::Bytes>> {
        Ok(self.0.take())
    }
}

#[tokio::test]
async fn archives_have_the_owners_that_the_container_sees_and_the_disk_those_of_the_host() {
    use futures::StreamExt as _;
    let Some(layers) = Layers::new() else { return };
    let maps = Arc::new(IdMaps::of_subordinate(&[(100_000, 2000)], &[(200_000, 2000)]).unwrap());
    let rootfs = RootFileSystems::new(maps);
    let (mapped, foreign) = (layers.upper().join("mapped"), layers.upper().join("foreign"));
    fs::write(&mapped, "").unwrap();
    std::os::unix::fs::chown(&mapped, Some(100_005), Some(200_007)).unwrap();
    let capability = [&[1, 0, 0, 3][..], &[0, 4, 0, 0], &[0; 12], &100_000u32.to_le_bytes()].concat();
    rustix::fs::setxattr(&mapped, "security.capability", &capability, rustix::fs::XattrFlags::empty()).unwrap();
    fs::write(&foreign, "").unwrap();
    std::os::unix::fs::chown(&foreign, Some(33), Some(33)).unwrap();
    rootfs.make_dir(&layers.root(), "/made/dir", 1, 2).await.unwrap();
    let bind = RootBind { source: "/etc".into(), destination: "/place/for".into(), read_only: true, recursive: false };
    rootfs.make_places(&layers.mounts(), std::slice::from_ref(&bind)).await.unwrap();
    for (path, owner) in [("made/dir", (100_001, 200_002)), ("place/for", (100_000, 200_000))] {
        let stat = fs::metadata(layers.upper().join(path)).unwrap();
        assert_eq!((stat.uid(), stat.gid()), owner, "{path}");
    }
    let view = RootView { root: layers.root(), write: false, binds: Vec::new(), veiled: Vec::new() };
    let opened = rootfs.open(view, Box::new(())).await.unwrap();
    let layer = rootfs.layer(&layers.mounts()).await.unwrap().unwrap();
    for stream in [opened.export().await.unwrap(), layer] {
        let bytes: Vec<u8> = stream.map(|piece| piece.unwrap().to_vec()).collect::<Vec<_>>().await.concat();
        let mut reader = gantry_archive::reader::TarReader::new(Once(Some(bytes.into())));
        let mut found = std::collections::BTreeMap::new();
        while let Some(member) = reader.next_member().unwrap() {
            found.insert(String::from_utf8(member.path.clone()).unwrap(), member);
        }
        let owner = |path: &str| (found[path].uid, found[path].gid);
        assert_eq!((owner("mapped"), owner("made/dir/"), owner("place/for/")), ((5, 7), (1, 2), (0, 0)));
        assert_eq!(owner("foreign"), (33, 33), "what is nobody's in the container is told as it is");
        let second = [&[1, 0, 0, 2][..], &capability[4..20]].concat();
        assert_eq!(found["mapped"].xattrs, [(b"security.capability".to_vec(), second)]);
    }
}

#[tokio::test]
async fn only_small_regular_files_are_read() {
    let Some(layers) = Layers::new() else { return };
    let lower = layers.lower();
    let rw = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, lower.join("fifo"), FileType::Fifo, rw, 0).unwrap();
    rustix::fs::mknodat(CWD, lower.join("zero"), FileType::CharacterDevice, rw, rustix::fs::makedev(1, 5)).unwrap();
    fs::File::create(lower.join("sparse")).unwrap().set_len(20 << 30).unwrap();
    for path in ["/fifo", "/zero", "/sparse", "/etc"] {
        let error = RootFileSystems::default().read(&layers.root(), path, 10 << 20).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter, "{path}");
    }
}

#[tokio::test]
async fn a_working_directory_is_made_inside() {
    let Some(layers) = Layers::new() else { return };
    symlink("/etc", layers.lower().join("link")).unwrap();
    fs::write(layers.lower().join("file"), "").unwrap();
    let root = layers.root();
    RootFileSystems::default().make_dir(&root, "/link/new/../deep/er", 1000, 1001).await.unwrap();
    RootFileSystems::default().make_dir(&root, "/link/deep/er", 7, 7).await.unwrap();
    let made = fs::metadata(layers.upper().join("etc/deep/er")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (1000, 1001, 0o755));
    let error = RootFileSystems::default().make_dir(&root, "/file", 0, 0).await.unwrap_err();
    assert_eq!(error.message(), "Cannot mkdir: /file is not a directory");
}

#[tokio::test]
async fn an_empty_volume_is_filled_with_everything_as_it_is() {
    let Some(layers) = Layers::new() else { return };
    let data = layers.lower().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("sub/file"), "text").unwrap();
    fs::hard_link(data.join("sub/file"), data.join("zz-again")).unwrap();
    symlink("/etc/passwd", data.join("link")).unwrap();
    rustix::fs::mknodat(CWD, data.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::os::unix::fs::chown(data.join("sub/file"), Some(42), Some(43)).unwrap();
    fs::set_permissions(data.join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o1777)).unwrap();
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000));
    fs::File::open(data.join("sub/file")).unwrap().set_times(old).unwrap();
    let volume = tempfile::tempdir().unwrap();
    RootFileSystems::default().copy_up(&layers.root(), "/data", volume.path()).await.unwrap();
    let file = fs::symlink_metadata(volume.path().join("sub/file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.mtime()), (42, 43, 0o4751, 1000));
    assert_eq!(fs::metadata(volume.path().join("zz-again")).unwrap().ino(), file.ino());
    assert_eq!(fs::read_link(volume.path().join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::metadata(volume.path()).unwrap().mode() & 0o7777, 0o1777);
    fs::remove_file(volume.path().join("link")).unwrap();
    RootFileSystems::default().copy_up(&layers.root(), "/data", volume.path()).await.unwrap();
    assert!(!volume.path().join("link").exists(), "a volume with content is left alone");
}

#[tokio::test]
async fn a_volume_is_never_filled_from_the_host() {
    let Some(layers) = Layers::new() else { return };
    fs::write(layers.lower().join("etc/inside"), "").unwrap();
    symlink("/etc", layers.lower().join("out")).unwrap();
    for path in ["/../../etc", "/out", "/out/../../../etc"] {
        let volume = tempfile::tempdir().unwrap();
        RootFileSystems::default().copy_up(&layers.root(), path, volume.path()).await.unwrap();
        assert!(!volume.path().join("passwd").exists(), "{path}");
        assert!(volume.path().join("inside").exists(), "{path}");
    }
    let volume = tempfile::tempdir().unwrap();
    RootFileSystems::default().copy_up(&layers.root(), "/absent", volume.path()).await.unwrap();
    assert!(fs::read_dir(volume.path()).unwrap().next().is_none());
}

#[tokio::test]
async fn changes_are_seen_in_the_upper_layer_without_a_mount() {
    let Some(layers) = Layers::new() else { return };
    fs::write(layers.lower().join("etc/passwd"), "").unwrap();
    let paths = ["/etc/passwd", "/etc/group"];
    let changed = async || RootFileSystems::default().upper_changes(&layers.mounts(), &paths).await.unwrap();
    assert!(!changed().await);
    fs::create_dir(layers.upper().join("etc")).unwrap();
    fs::write(layers.upper().join("etc/other"), "").unwrap();
    assert!(!changed().await);
    fs::write(layers.upper().join("etc/group"), "").unwrap();
    assert!(changed().await);
    fs::remove_dir_all(layers.upper().join("etc")).unwrap();
    symlink("/usr", layers.upper().join("etc")).unwrap();
    assert!(changed().await);
}

#[tokio::test]
async fn a_link_is_seen_in_the_uppermost_layer_that_has_the_name() {
    let Some(layers) = Layers::new() else { return };
    let is_link = async || RootFileSystems::default().is_link(&layers.mounts(), "dev").await.unwrap();
    assert!(!is_link().await);
    symlink("/etc", layers.lower().join("dev")).unwrap();
    assert!(is_link().await);
    fs::create_dir(layers.upper().join("dev")).unwrap();
    assert!(!is_link().await);
    fs::remove_dir(layers.upper().join("dev")).unwrap();
    fs::remove_file(layers.lower().join("dev")).unwrap();
    symlink("nowhere", layers.upper().join("dev")).unwrap();
    assert!(is_link().await);
}

#[tokio::test]
async fn a_running_root_is_reached_by_its_process() {
    let read =
        RootFileSystems::default().read(&RootRef::Process(std::process::id()), "/etc/passwd", 1 << 20).await.unwrap();
    assert_eq!(read.unwrap(), fs::read("/etc/passwd").unwrap());
}

#[tokio::test]
async fn an_image_of_many_layers_is_mounted_though_its_options_exceed_a_page() {
    let Some(layers) = Layers::new() else { return };
    let mut mounts = layers.mounts();
    let snapshots = layers.0.path().join("snapshots-in-a-folder-whose-name-takes-some-room");
    let lowers: Vec<String> = (0..120)
        .map(|n| {
            let layer = snapshots.join(n.to_string()).join("fs");
            fs::create_dir_all(&layer).unwrap();
            fs::write(layer.join(format!("file{n}")), n.to_string()).unwrap();
            layer.display().to_string()
        })
        .collect();
    let last = mounts[0].options.len() - 1;
    mounts[0].options[last] = format!("lowerdir={}", lowers.join(":"));
    assert!(mounts[0].options[last].len() > 5000);
    fs::write(layers.upper().join("own"), "upper").unwrap();
    let root = RootRef::Mounts(mounts);
    assert_eq!(RootFileSystems::default().read(&root, "/file119", 10).await.unwrap().unwrap(), b"119");
    assert_eq!(RootFileSystems::default().read(&root, "/own", 10).await.unwrap().unwrap(), b"upper");
    RootFileSystems::default().make_dir(&root, "/made", 0, 0).await.unwrap();
    assert!(layers.upper().join("made").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_creates_fill_one_volume_once() {
    let Some(layers) = Layers::new() else { return };
    fs::create_dir(layers.lower().join("data")).unwrap();
    fs::write(layers.lower().join("data/image"), "").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("_data");
    fs::create_dir(&volume).unwrap();
    fs::write(folder.path().join(crate::volumes::RECORD), "{}").unwrap();
    let first = Filling::begin(&volume).unwrap().unwrap();
    let (root, at) = (layers.root(), volume.clone());
    let second = tokio::spawn(async move { RootFileSystems::default().copy_up(&root, "/data", &at).await });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(!second.is_finished(), "it waits for its turn");
    fs::write(volume.join("first"), "").unwrap();
    first.end(Ok(())).unwrap();
    second.await.unwrap().unwrap();
    let names: Vec<_> = fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["first"]);
}

#[tokio::test]
async fn a_half_filled_volume_is_filled_anew() {
    let Some(layers) = Layers::new() else { return };
    fs::create_dir(layers.lower().join("data")).unwrap();
    fs::write(layers.lower().join("data/whole"), "").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("_data");
    fs::create_dir(&volume).unwrap();
    fs::write(folder.path().join(crate::volumes::RECORD), "{}").unwrap();
    fs::write(folder.path().join("filling"), "").unwrap();
    fs::write(volume.join("half"), "").unwrap();
    RootFileSystems::default().copy_up(&layers.root(), "/data", &volume).await.unwrap();
    assert!(volume.join("whole").exists() && !volume.join("half").exists());
    assert!(!folder.path().join("filling").exists());
}

#[tokio::test]
async fn marks_are_made_where_the_image_has_none_and_are_nobodys_change() {
    let Some(layers) = Layers::new() else { return };
    let rootfs = RootFileSystems::default();
    fs::set_permissions(layers.lower().join("etc"), fs::Permissions::from_mode(0o751)).unwrap();
    let before = fs::metadata(layers.lower().join("etc")).unwrap();
    for _ in 0..2 {
        rootfs.make_marks(&layers.mounts()).await.unwrap();
    }
    assert_eq!(fs::metadata(layers.upper().join(".dockerenv")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_link(layers.upper().join("etc/mtab")).unwrap(), PathBuf::from("/proc/mounts"));
    let after = fs::metadata(layers.upper().join("etc")).unwrap();
    assert_eq!((after.mode(), after.mtime_nsec()), (before.mode(), before.mtime_nsec()));
    assert_eq!(rootfs.changes(&layers.mounts()).await.unwrap(), []);
    fs::remove_dir_all(layers.upper().join("etc")).unwrap();
    fs::write(layers.lower().join("etc/mtab"), "the image's").unwrap();
    rootfs.make_marks(&layers.mounts()).await.unwrap();
    assert!(!layers.upper().join("etc").exists());
}

#[tokio::test]
async fn an_image_whose_etc_is_a_link_keeps_it() {
    let Some(layers) = Layers::new() else { return };
    fs::remove_dir(layers.lower().join("etc")).unwrap();
    symlink("/usr", layers.lower().join("etc")).unwrap();
    RootFileSystems::default().make_marks(&layers.mounts()).await.unwrap();
    assert!(!layers.upper().join("etc").exists() && layers.upper().join(".dockerenv").exists());
}
