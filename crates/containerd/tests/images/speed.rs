//! How long a large load takes; run by hand: `GANTRY_LOAD_TAR=… cargo test --release -- --ignored --nocapture speed`.

use std::time::Instant;

use gantry_domain::ports::ImageStore as _;

use crate::{
    build::{Tar, oci_archive},
    harness::{Bench, able},
};

/// About 105 MiB in four layers and 8,000 files, as of a Debian with some programs.
fn synthetic() -> Vec<u8> {
    let noise: Vec<u8> = (0..4_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let layers: Vec<Vec<u8>> = (0..4)
        .map(|layer| {
            let mut tar = Tar::default();
            for folder in 0..40 {
                tar = tar.folder(&format!("usr/lib{layer}/{folder}/"), 0o755);
                for file in 0..50 {
                    let (start, length) = ((file * 7919 + layer) % 3_900_000, 1000 + file * 470);
                    tar = tar.file(&format!("usr/lib{layer}/{folder}/{file}"), &noise[start..start + length]);
                }
            }
            tar.done()
        })
        .collect();
    oci_archive(Some("docker.io/library/big:1"), &layers, |data| data.to_vec()).archive
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn loading_a_large_image() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let archive = std::env::var("GANTRY_LOAD_TAR").map_or_else(|_| synthetic(), |path| std::fs::read(path).unwrap());
    println!("{} MiB", archive.len() >> 20);
    for _ in 0..7 {
        let start = Instant::now();
        let loaded = bench.load(archive.clone()).await.unwrap();
        println!("load {:?}", start.elapsed());
        for image in bench.images.names().await.unwrap() {
            bench.images.remove_name(&image.name, true).await.unwrap();
        }
        assert!(!loaded.is_empty());
    }
    bench.end().await;
}
