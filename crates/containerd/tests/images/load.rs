//! Loading and saving, with skopeo as the judge.

use std::process::Command;

use futures::{StreamExt as _, TryStreamExt as _};
use gantry_domain::{image::Descriptor, ports::ImageStore as _};

use crate::{
    build::{Tar, body, docker_archive, oci_archive},
    harness::{Bench, able},
};

type Packing<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

fn two_layers() -> Vec<Vec<u8>> {
    vec![
        Tar::default().folder("etc/", 0o755).file("etc/one", b"1").file("etc/gone", b"x").done(),
        Tar::default().file("etc/two", b"2").file("etc/.wh.gone", b"").done(),
    ]
}

async fn saved(bench: &Bench, name: &str, target: &Descriptor) -> Vec<u8> {
    let stream = bench.images.save(vec![(Some(name.into()), target.clone())], Vec::new()).await.unwrap();
    stream
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_archive_gets_its_names_and_the_same_id_every_time() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let archive = docker_archive(&["a:1", "example.org/b:2"], &two_layers());
    let loaded = bench.load(archive.clone()).await.unwrap();
    assert_eq!(loaded.iter().map(|item| item.0.clone().unwrap()).collect::<Vec<_>>(), ["a:1", "example.org/b:2"]);
    let again = bench.load(archive).await.unwrap();
    assert_eq!(loaded, again);
    let mut names: Vec<_> = bench.images.names().await.unwrap().into_iter().map(|image| image.name).collect();
    names.sort();
    assert_eq!(names, ["docker.io/library/a:1", "example.org/b:2"]);
    assert!(bench.images.leases().await.unwrap().is_empty());
    assert_eq!(bench.snapshots().await, 2);
    for name in names {
        assert!(bench.images.remove_name(&name, true).await.unwrap());
        assert!(!bench.images.remove_name(&name, true).await.unwrap());
    }
    bench.assert_empty().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_put_in_order_whatever_the_order_and_packing_of_the_archive() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, data).unwrap();
        encoder.finish().unwrap()
    };
    let packings: [Packing; 3] = [&|data| data.to_vec(), &gzip, &|data| zstd::encode_all(data, 3).unwrap()];
    for (at, packing) in packings.into_iter().enumerate() {
        let oci = oci_archive(Some(&format!("docker.io/library/x:{at}")), &two_layers(), packing);
        // The archive itself packed too.
        let loaded = bench.load(gzip(&oci.archive)).await.unwrap();
        assert_eq!(loaded[0].0, Some(format!("x:{at}")));
        assert_eq!(loaded[0].1.digest, oci.manifest);
        let folders = bench.folders(&loaded[0].1).await;
        assert!(folders[0].join("etc/two").exists() && folders[1].join("etc/one").exists());
        let gone = std::fs::symlink_metadata(folders[0].join("etc/gone")).unwrap();
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(&gone.file_type()));
    }
    assert_eq!(bench.images.layer_usage().await.unwrap().len(), 2);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_valid_for_skopeo_and_loads_as_the_same_image() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let oci = oci_archive(Some("docker.io/library/x:1"), &two_layers(), |data| data.to_vec());
    let target = bench.load(oci.archive).await.unwrap().remove(0).1;
    let archive = saved(&bench, "docker.io/library/x:1", &target).await;
    let path = bench.dir.path().join("saved.tar");
    std::fs::write(&path, &archive).unwrap();
    for kind in ["docker-archive", "oci-archive"] {
        let output = Command::new("skopeo").args(["inspect", &format!("{kind}:{}", path.display())]).output().unwrap();
        assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
    }
    bench.images.remove_name("docker.io/library/x:1", true).await.unwrap();
    bench.assert_empty().await;
    let again = bench.load(archive).await.unwrap();
    assert_eq!(again, [(Some("x:1".to_owned()), target)]);
    // skopeo's own docker-archive, with links for layers.
    let other = bench.dir.path().join("other.tar");
    let (from, to) = (format!("oci-archive:{}", path.display()), format!("docker-archive:{}:y:1", other.display()));
    let output = Command::new("skopeo").args(["--insecure-policy", "copy", &from, &to]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let loaded = bench.load(std::fs::read(&other).unwrap()).await.unwrap();
    assert_eq!(loaded[0].0.as_deref(), Some("y:1"));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_name_leaves_the_old_image_without_one_and_not_lost() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let old = bench.load(docker_archive(&["a:1"], &two_layers())).await.unwrap().remove(0).1;
    bench.load(docker_archive(&["a:1"], &two_layers()[..1])).await.unwrap();
    let names: Vec<_> = bench.images.names().await.unwrap().into_iter().map(|image| image.name).collect();
    assert!(names.contains(&format!("gantry-dangling@{}", old.digest)), "{names:?}");
    assert_eq!(names.len(), 2);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_one_layer_that_its_lease_keeps() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let layer = Tar::default().file("bin/x", b"program").done();
    let config =
        format!(r#"{{"architecture":"{}","os":"linux"}}"#, gantry_domain::platform::Platform::host().architecture);
    let packed = zstd::encode_all(&layer[..], 3).unwrap();
    let (target, lease) = bench.images.import(body(packed), config.into()).await.unwrap();
    let folders = bench.folders(&target).await;
    assert_eq!(std::fs::read(folders[0].join("bin/x")).unwrap(), b"program");
    bench.images.set_name("docker.io/library/i:1", &target).await.unwrap();
    bench.images.release_lease(lease).await.unwrap();
    assert!(bench.platform(&target).await.complete);
    bench.images.remove_name("docker.io/library/i:1", true).await.unwrap();
    bench.assert_empty().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_loads_of_one_image_at_once_all_succeed() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let oci = oci_archive(Some("docker.io/library/x:1"), &two_layers(), |data| data.to_vec());
    let loads = (0..6).map(|_| bench.load(oci.archive.clone()));
    for loaded in futures::future::join_all(loads).await {
        assert_eq!(loaded.unwrap()[0].1.digest, oci.manifest);
    }
    bench.images.remove_name("docker.io/library/x:1", true).await.unwrap();
    bench.assert_empty().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_nothing() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let archive = docker_archive(&["a:1"], &two_layers());
    let half = body(archive[..archive.len() / 2].to_vec()).chain(futures::stream::pending());
    let progress = bench.images.load(Box::pin(half), Vec::new()).await.unwrap();
    drop(progress);
    bench.images.finish().await;
    bench.assert_empty().await;
    bench.end().await;
}
