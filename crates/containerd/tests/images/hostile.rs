//! Archives made to harm: nothing outside changes, the error is the client's, nothing stays (T05 to T08, T15, T16).

use std::os::unix::fs::MetadataExt as _;

use gantry_containerd::images::Limits;
use gantry_domain::ErrorKind;

use crate::{
    build::{Tar, docker_archive, oci_archive},
    harness::{Bench, able},
};

#[tokio::test(flavor = "multi_thread")]
async fn link_tricks_change_nothing_outside_the_layer() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "as it was").unwrap();
    let before = std::fs::metadata(&outside).unwrap();
    let path = outside.to_str().unwrap();
    let up = format!("../../../../../../../../../..{path}");
    let tricks = [
        Tar::default().symlink("d", path).folder("d", 0o777),
        Tar::default().symlink("d", path).file("d/file", b"changed").file("d/new", b""),
        Tar::default().symlink("d", &up).file("d/file", b"changed"),
        Tar::default().symlink("a", "b").symlink("b", path).file("a/file", b"changed").folder("a/", 0o777),
        Tar::default().symlink("s", &format!("{path}/file")).hard_link("h", "s").file("h", b"changed"),
        Tar::default().symlink("d", path).file("d/.wh.file", b"").file("d/.wh..wh..opq", b""),
        Tar::default().symlink("d", path).symlink("d/link", "x").folder("d/sub/", 0o777),
        Tar::default().file(&path[1..], b"inside"),
        Tar::default().file(path, b"absolute"),
    ];
    for (at, trick) in tricks.into_iter().enumerate() {
        bench.load(docker_archive(&["a:1"], &[trick.done()])).await.unwrap_or_else(|error| panic!("{at}: {error}"));
    }
    let refused = [
        Tar::default().file("../escape", b""),
        Tar::default().hard_link("h", &format!("{path}/file")),
        Tar::default().hard_link("h", "../../x"),
        Tar::default().file("f", b"").file("f/below", b""),
        Tar::default().symlink("l", "l").file("l/x", b""),
    ];
    for (at, trick) in refused.into_iter().enumerate() {
        assert!(bench.load(docker_archive(&["b:1"], &[trick.done()])).await.is_err(), "{at}");
    }
    assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"as it was");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    let after = std::fs::metadata(&outside).unwrap();
    assert_eq!((after.mode(), after.mtime_nsec(), after.uid()), (before.mode(), before.mtime_nsec(), before.uid()));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_to_deep_folders_are_an_error_and_not_the_end_of_gantryd() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let deep = "a/".repeat(1_000);
    let mut layer = Tar::default();
    for at in 0..30 {
        let to = format!("s{}/{deep}", at + 1);
        layer = layer.pax(&[("linkpath", to.as_bytes())]).symlink(&format!("s{at}"), "x");
    }
    let path = format!("s0/{deep}f");
    let layer = layer.pax(&[("path", path.as_bytes())]).file("f", b"");
    let error = bench.load(docker_archive(&["deep:1"], &[layer.done()])).await.expect_err("it is refused");
    assert!(error.message().contains("too long"), "{error}");
    let layer = Tar::default().pax(&[("path", format!("{deep}f").as_bytes())]).file("f", b"").done();
    bench.load(docker_archive(&["deep:2"], &[layer])).await.expect("depth alone is no offence");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_is_the_clients_fault_and_leaves_nothing() {
    if !able() {
        return;
    }
    let limits = Limits { bytes: 1 << 20, entries: 50, ..Limits::default() };
    let bench = Bench::with_limits(limits).await;
    let layer = Tar::default().file("a", b"1").done();
    let good = oci_archive(Some("docker.io/library/x:1"), std::slice::from_ref(&layer), |data| data.to_vec());
    let mut wrong = good.archive.clone();
    let at = wrong.windows(4).rposition(|window| window == b"sh\"]").unwrap();
    wrong[at] = b'z';
    let many = (0..60).fold(Tar::default(), |tar, at| tar.file(&format!("{at}"), b"")).done();
    let both = Tar::default().file("index.json", br#"{"manifests":[],"layers":[],"config":{}}"#).done();
    let wrong_diff = oci_archive(None, &[layer], |_| Tar::default().file("other", b"").done());
    let sparse = Tar::default()
        .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")])
        .file("s", b"1\n99999999999\n1\n")
        .done();
    let archives = [
        ("cut", good.archive[..good.archive.len() - 3000].to_vec()),
        ("wrong digest", wrong),
        ("wrong diff id", wrong_diff.archive),
        ("entries", docker_archive(&["a:1"], &[many])),
        ("bytes", docker_archive(&["a:1"], &[Tar::default().file("big", &vec![0; 2 << 20]).done()])),
        ("ambiguous", both),
        ("sparse", docker_archive(&["a:1"], &[sparse])),
        ("bad name", docker_archive(&["UPPER:1"], &[Tar::default().done()])),
        ("missing layer", Tar::default().file("manifest.json", br#"[{"Config":"c","Layers":["l"]}]"#).done()),
        ("two manifests", Tar::default().file("manifest.json", b"[]").file("manifest.json", b"[]").done()),
        ("no tar", b"this is not an archive at all".repeat(100)),
        ("empty", Vec::new()),
        ("nothing in it", Tar::default().done()),
    ];
    for (what, archive) in archives {
        let error = bench.load(archive).await.err().unwrap_or_else(|| panic!("{what} was taken"));
        assert_eq!(error.kind(), ErrorKind::InvalidParameter, "{what}: {error}");
        bench.assert_empty().await;
    }
    bench.end().await;
}
