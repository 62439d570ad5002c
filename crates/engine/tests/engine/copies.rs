//! Copies, exports and commits: what they hold is given back, whatever fails and whoever leaves.

use std::{sync::atomic::Ordering, time::Duration};

use futures::StreamExt as _;
use gantry_domain::{Error, ErrorKind, ports::ByteStream};
use gantry_engine::{container::ArchivePut, image::ImageCommit};
use serde_json::json;

use crate::lab::Lab;

fn opened(lab: &Lab) -> usize {
    lab.fakes.world().opened.load(Ordering::SeqCst)
}

fn put(path: &str) -> ArchivePut {
    ArchivePut { path: path.into(), ..ArchivePut::default() }
}

/// A body that never ends, as of a client that stands still.
fn stalled() -> ByteStream {
    futures::stream::pending().boxed()
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_a_copy_a_while_and_then_ends_it() {
    let lab = Lab::new().await;
    lab.create("web", json!({})).await.unwrap();
    let engine = lab.engine.clone();
    let copy = tokio::spawn(async move { engine.put_container_archive("web", put("/"), stalled()).await });
    while opened(&lab) == 0 {
        tokio::task::yield_now().await;
    }
    let begin = tokio::time::Instant::now();
    lab.engine.container_start("web").await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(10) && begin.elapsed() < Duration::from_secs(13));
    assert_eq!(copy.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(opened(&lab), 0, "nothing is held when the container runs");
}

#[tokio::test(start_paused = true)]
async fn a_removal_ends_copies_at_once() {
    for running in [false, true] {
        let lab = Lab::new().await;
        lab.create("web", json!({})).await.unwrap();
        if running {
            lab.engine.container_start("web").await.unwrap();
        }
        let engine = lab.engine.clone();
        let copy = tokio::spawn(async move { engine.put_container_archive("web", put("/"), stalled()).await });
        while opened(&lab) == 0 {
            tokio::task::yield_now().await;
        }
        let begin = tokio::time::Instant::now();
        lab.remove("web").await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(3));
        assert!(copy.await.unwrap().is_err());
        assert_eq!(opened(&lab), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn two_copies_into_a_container_that_does_not_run_share_one_mount() {
    let lab = Lab::new().await;
    lab.create("web", json!({})).await.unwrap();
    let copies: Vec<_> = (0..2)
        .map(|_| {
            let engine = lab.engine.clone();
            tokio::spawn(async move { engine.put_container_archive("web", put("/"), stalled()).await })
        })
        .collect();
    lab.settle().await;
    assert_eq!((lab.fakes.calls.count("rootfs.open"), opened(&lab)), (1, 1));
    lab.remove("web").await.unwrap();
    for copy in copies {
        assert!(copy.await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_of_a_copy_leaves_nothing_open_and_a_retry_works() {
    for call in ["rootfs.open", "runtime.root_mounts", "rootfs.make_places"] {
        let lab = Lab::new().await;
        lab.create("web", json!({"Binds": ["data:/data"]})).await.unwrap();
        lab.fakes.calls.fail_next(call, Error::system("ordered"));
        let body = || futures::stream::empty().boxed();
        assert!(lab.engine.put_container_archive("web", put("/"), body()).await.is_err(), "{call}");
        assert_eq!(opened(&lab), 0, "{call}");
        lab.engine.put_container_archive("web", put("/"), body()).await.unwrap();
        lab.engine.container_archive_info("web", "/").await.unwrap();
        lab.settle().await;
        assert_eq!(opened(&lab), 0, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_only_root_refuses_a_copy_in_dockers_words() {
    let lab = Lab::new().await;
    lab.create("web", json!({"ReadonlyRootfs": true})).await.unwrap();
    let body = futures::stream::empty().boxed();
    let error = lab.engine.put_container_archive("web", put("/"), body).await.unwrap_err();
    assert_eq!(error.message(), "container rootfs is marked read-only");
}

fn commit() -> ImageCommit {
    ImageCommit { container: "web".into(), repo: "new".into(), pause: true, ..ImageCommit::default() }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_in_a_commit_the_container_runs_on() {
    for call in ["rootfs.layer", "images.commit", "images.set_name", "runtime.root_mounts", "runtime.pause"] {
        let lab = Lab::new().await;
        lab.running("web", json!({})).await;
        lab.fakes.calls.fail_next(call, Error::system("ordered"));
        let made = lab.engine.image_commit(commit()).await;
        // As dockerd, which commits what it cannot pause.
        assert_eq!(made.is_ok(), call == "runtime.pause", "{call}");
        assert_eq!(lab.status("web").await, "running", "{call}");
        lab.engine.image_commit(commit()).await.unwrap();
        assert_eq!(lab.status("web").await, "running", "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gantryd_that_finds_a_container_paused_by_a_commit_wakes_it() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({})).await;
    lab.settle().await;
    // The commit pauses it, and gantryd dies before it is done.
    lab.fakes.calls.panic_next("images.commit");
    lab.fakes.calls.fail_next("runtime.resume", Error::system("dead"));
    let _ = lab.engine.image_commit(commit()).await;
    assert_eq!(lab.status("web").await, "paused");
    let mut record = lab.inspect("web").await.snapshot.record.as_ref().clone();
    record.run.as_mut().unwrap().paused_by_commit = true;
    record.generation += 1000;
    lab.fakes.world().records.containers.insert(id, record);
    let fakes = lab.fakes.clone();
    drop(lab);
    let next = Lab::on(fakes).await;
    next.settle().await;
    assert_eq!(next.status("web").await, "running");
}
