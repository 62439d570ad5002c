//! What a layer's files look like on disk.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use gantry_domain::id_maps::IdMaps;

use crate::{
    build::{Tar, docker_archive},
    harness::{Bench, able},
};

#[tokio::test(flavor = "multi_thread")]
async fn owners_modes_links_devices_times_and_capabilities_are_kept() {
    if !able() {
        return;
    }
    // A capability whose bytes hold a newline, which a reader by lines would cut.
    let capability: Vec<u8> = [1, 0, 0, 2, 0x0a, 4, 0, 0].into_iter().chain([0; 12]).collect();
    let layer = Tar::default()
        .raw(b'5', "var/mail/", "", |header| (header.set_mode(0o2775), header.set_gid(8)).0, b"")
        .raw(
            b'0',
            "var/mail/x",
            "",
            |header| (header.set_uid(1000), header.set_gid(2000), header.set_mode(0o4755)).2,
            b"x",
        )
        .file("var/mail/plain", b"p")
        .hard_link("var/mail/y", "var/mail/x")
        .symlink("run", "var/run")
        .file("run/pid", b"7")
        .pax(&[
            ("mtime", b"1500000000.25"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ])
        .raw(b'0', "ping", "", |header| header.set_mode(0o755), b"ping")
        .raw(b'3', "null", "", |header| (header.set_device_major(1), header.set_device_minor(3)).0.unwrap(), b"")
        .raw(b'6', "fifo", "", |_| {}, b"")
        .done();
    let bench = Bench::new().await;
    let target = bench.load(docker_archive(&["a:1"], &[layer])).await.unwrap().remove(0).1;
    let root = bench.folders(&target).await.remove(0);
    let stat = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap();
    let x = stat("var/mail/x");
    assert_eq!((x.uid(), x.gid(), x.mode() & 0o7777, x.nlink()), (1000, 2000, 0o4755, 2));
    assert_eq!(x.ino(), stat("var/mail/y").ino());
    assert_eq!((stat("var/mail").gid(), stat("var/mail").mode() & 0o7777), (8, 0o2775));
    assert_eq!((stat("var/mail").mtime(), stat("var/mail/plain").gid()), (1_600_000_000, 0));
    assert_eq!(std::fs::read(root.join("var/run/pid")).unwrap(), b"7");
    let ping = stat("ping");
    assert_eq!((ping.mtime(), ping.mtime_nsec()), (1_500_000_000, 250_000_000));
    let mut value = [0u8; 64];
    let length = rustix::fs::getxattr(root.join("ping"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..length], capability);
    assert!(rustix::fs::getxattr(root.join("ping"), "trusted.overlay.redirect", &mut value[..]).is_err());
    assert!(stat("null").file_type().is_char_device() && stat("null").rdev() == rustix::fs::makedev(1, 3));
    assert!(stat("fifo").file_type().is_fifo());
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_a_remapped_engine_belong_to_the_ids_of_its_containers() {
    if !able() {
        return;
    }
    let lower = Tar::default()
        .raw(b'0', "srv/data", "", |header| (header.set_uid(33), header.set_gid(8)).0, b"x")
        .raw(b'5', "own/", "", |header| header.set_uid(5), b"")
        .done();
    let upper = Tar::default().hard_link("deep/link", "srv/data").file("own/new", b"").done();
    let maps = IdMaps::of_subordinate(&[(100_000, 65_536)], &[(200_000, 65_536)]).unwrap();
    let bench = Bench::with_id_maps(maps).await;
    let target = bench.load(docker_archive(&["a:1"], &[lower, upper])).await.unwrap().remove(0).1;
    let folders = bench.folders(&target).await;
    let owner = |layer: usize, path: &str| {
        let stat = std::fs::symlink_metadata(folders[layer].join(path)).unwrap();
        (stat.uid(), stat.gid())
    };
    let root = (100_000, 200_000);
    assert_eq!((owner(1, "srv/data"), owner(1, "srv"), owner(1, ".")), ((100_033, 200_008), root, root));
    assert_eq!((owner(0, "srv/data"), owner(0, "deep"), owner(0, ".")), ((100_033, 200_008), root, root));
    assert_eq!((owner(0, "own"), owner(0, "own/new")), ((100_005, 200_000), root));
    let nobodys = Tar::default().raw(b'0', "f", "", |header| header.set_uid(65_536), b"").done();
    let error = bench.load(docker_archive(&["b:1"], &[nobodys])).await.unwrap_err();
    assert!(error.message().ends_with("container ID 65536 cannot be mapped to a host ID"), "{error}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_takes_from_those_below_what_it_does_not_say() {
    if !able() {
        return;
    }
    let lower = Tar::default()
        .raw(b'5', "./", "", |header| header.set_mode(0o711), b"")
        .raw(b'5', "srv/", "", |header| (header.set_uid(33), header.set_mode(0o750)).1, b"")
        .file("srv/data", b"data")
        .folder("old/", 0o755)
        .file("old/hidden", b"")
        .file("back/hidden", b"")
        .done();
    let upper = Tar::default()
        .file("srv/new/deep", b"")
        .hard_link("copy", "srv/data")
        .folder("old/", 0o755)
        .file("old/.wh..wh..opq", b"")
        .file(".wh.back", b"")
        .file("back/seen", b"")
        .done();
    let bench = Bench::new().await;
    let target = bench.load(docker_archive(&["a:1"], &[lower, upper])).await.unwrap().remove(0).1;
    let top = bench.folders(&target).await.remove(0);
    let stat = |path: &str| std::fs::symlink_metadata(top.join(path)).unwrap();
    assert_eq!((stat("srv").uid(), stat("srv").mode() & 0o7777), (33, 0o750));
    assert_eq!(stat(".").mode() & 0o7777, 0o711);
    assert_eq!((stat("copy").nlink(), stat("copy").ino()), (2, stat("srv/data").ino()));
    for folder in ["old", "back"] {
        let mut value = [0u8; 4];
        let length = rustix::fs::getxattr(top.join(folder), "trusted.overlay.opaque", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"y", "{folder}");
    }
    bench.end().await;
}
