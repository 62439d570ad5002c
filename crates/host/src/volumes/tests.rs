//! Volumes on a real file system; those with mounts need root.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;

fn record(name: &str, options: &[(&str, &str)]) -> VolumeRecord {
    let options: BTreeMap<_, _> = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    VolumeRecord {
        schema: 1,
        generation: 1,
        name: name.into(),
        driver: "local".into(),
        created: "2026-01-01T00:00:00Z".parse().unwrap(),
        mountpoint: String::new(),
        options: (!options.is_empty()).then_some(options),
        labels: None,
    }
}

#[tokio::test]
async fn a_volume_is_made_found_measured_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, record) = (LocalVolumes::new(dir.path(), dir.path()), record("data", &[]));
    let made = volumes.create(&record).await.unwrap();
    assert!(made.fresh);
    let data = made.mountpoint;
    let again = volumes.create(&record).await.unwrap();
    assert_eq!((again.mountpoint, again.fresh), (data.clone(), false));
    assert_eq!(data, dir.path().join("volumes/data/_data"));
    fs::create_dir(data.join("sub")).unwrap();
    fs::write(data.join("sub/file"), [0; 1000]).unwrap();
    fs::hard_link(data.join("sub/file"), data.join("again")).unwrap();
    std::os::unix::fs::symlink("/etc", data.join("link")).unwrap();
    assert_eq!(volumes.usage(&record).await.unwrap(), 1004);
    let mountpoint = data.to_string_lossy().into_owned();
    assert_eq!(volumes.found().await.unwrap(), vec![VolumeRecord { mountpoint, ..record }]);
    volumes.remove("data").await.unwrap();
    volumes.remove("data").await.unwrap();
    assert!(volumes.found().await.unwrap().is_empty());
    assert!(Path::new("/etc/passwd").exists());
}

#[tokio::test]
async fn half_a_copy_is_gone_before_a_container_uses_the_volume_and_its_own_data_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, record) = (LocalVolumes::new(dir.path(), dir.path()), record("data", &[]));
    let data = volumes.create(&record).await.unwrap().mountpoint;
    // gantryd was killed while it filled the volume.
    fs::write(data.with_file_name("filling"), "").unwrap();
    fs::write(data.join("half"), "").unwrap();
    let user = ContainerId::random();
    volumes.mount(&record, &user).await.unwrap();
    assert!(!data.join("half").exists());
    fs::write(data.join("own"), "").unwrap();
    volumes.mount(&record, &ContainerId::random()).await.unwrap();
    assert!(filling::Filling::begin(&data).unwrap().is_none() && data.join("own").exists());
}

#[tokio::test]
async fn a_name_never_leaves_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["..", ".", "", "a/b", "../x", "a\0"] {
        assert!(LocalVolumes::new(dir.path(), dir.path()).create(&record(name, &[])).await.is_err(), "{name:?}");
        assert!(LocalVolumes::new(dir.path(), dir.path()).remove(name).await.is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn a_mount_lives_from_its_first_to_its_last_user() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("here"), "").unwrap();
    let volumes = LocalVolumes::new(dir.path(), dir.path());
    let bind = record("bind", &[("type", "none"), ("o", "bind,ro"), ("device", source.to_str().unwrap())]);
    let data = volumes.create(&bind).await.unwrap().mountpoint;
    let (one, two) = (ContainerId::random(), ContainerId::random());
    volumes.mount(&bind, &one).await.unwrap();
    volumes.mount(&bind, &two).await.unwrap();
    volumes.mount(&bind, &two).await.unwrap();
    assert!(data.join("here").exists());
    assert!(fs::write(data.join("new"), "").is_err(), "ro holds for a bind");
    volumes.unmount(&bind, &one).await.unwrap();
    assert!(data.join("here").exists());
    volumes.unmount(&bind, &two).await.unwrap();
    assert!(!data.join("here").exists());
    volumes.mount(&bind, &one).await.unwrap();
    volumes.remove("bind").await.unwrap();
    assert!(source.join("here").exists(), "removing a volume does not reach through its mount");
}

#[tokio::test]
async fn a_failed_mount_names_device_and_cause() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = LocalVolumes::new(dir.path(), dir.path());
    let bind = record("bad", &[("type", "none"), ("o", "bind"), ("device", "/no/such/folder")]);
    volumes.create(&bind).await.unwrap();
    let error = volumes.mount(&bind, &ContainerId::random()).await.unwrap_err();
    assert!(error.message().contains("failed to mount local volume: mount /no/such/folder:"), "{error}");
}
