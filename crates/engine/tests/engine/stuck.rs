//! Nothing is stuck (T53): whatever hangs, a container is ended within 15 seconds beyond the time that was asked for.

use std::time::Duration;

use gantry_domain::ContainerId;
use gantry_engine::volume::VolumeCreate;
use serde_json::json;
use tokio::time::Instant;

use crate::lab::Lab;

const BEYOND: Duration = Duration::from_secs(15);

/// What may hang for ever, each alone.
const STEPS: [&str; 12] = [
    "runtime.kill",
    "runtime.wait",
    "runtime.delete_task",
    "runtime.abandon_task",
    "runtime.delete_container",
    "network.delete_sandbox",
    "network.release_ports",
    "stdio.close",
    "stdio.drained",
    "volumes.unmount",
    "files.remove",
    "runtime.pause",
];

fn published() -> serde_json::Value {
    json!({
        "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
        "Mounts": [{"Type": "volume", "Target": "/x"}],
        "RestartPolicy": {"Name": "always"},
    })
}

async fn stubborn() -> (Lab, ContainerId) {
    let lab = Lab::new().await;
    lab.fakes.world().stubborn = true;
    let id = lab.running("web", published()).await;
    (lab, id)
}

#[tokio::test(start_paused = true)]
async fn a_removal_by_force_ends_in_time_whatever_hangs_and_the_name_is_free() {
    for hangs in STEPS {
        let (lab, _) = stubborn().await;
        lab.fakes.calls.hang(hangs);
        let begun = Instant::now();
        lab.remove("web").await.unwrap_or_else(|error| panic!("{hangs}: {error}"));
        assert!(begun.elapsed() <= BEYOND, "{hangs}: {:?}", begun.elapsed());
        assert!(lab.engine.container_inspect("web", false).await.is_err(), "{hangs}");
        lab.fakes.calls.heal();
        lab.create("web", json!({})).await.unwrap_or_else(|error| panic!("{hangs}: {error}"));
        lab.remove("web").await.unwrap();
        // What hung is given up after its own time, and done again.
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(lab.fakes.held().is_empty(), "{hangs}: {:?}", lab.fakes.held());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_in_time_whatever_hangs_and_tells_the_truth() {
    for hangs in STEPS {
        for seconds in [0, 5] {
            let (lab, _) = stubborn().await;
            lab.fakes.calls.hang(hangs);
            let begun = Instant::now();
            lab.engine.container_stop("web", None, Some(seconds)).await.unwrap();
            let limit = BEYOND + Duration::from_secs(u64::try_from(seconds).unwrap());
            assert!(begun.elapsed() <= limit, "{hangs}: {:?}", begun.elapsed());
            assert_eq!(lab.status("web").await, "exited", "{hangs}");
            lab.fakes.calls.heal();
            lab.settle().await;
            assert_eq!(lab.status("web").await, "exited", "{hangs}: the policy must not start it");
            lab.engine.container_start("web").await.unwrap_or_else(|error| panic!("{hangs}: {error}"));
            lab.remove("web").await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_in_time_whatever_hangs() {
    for hangs in STEPS {
        let (lab, _) = stubborn().await;
        lab.fakes.calls.hang(hangs);
        let begun = Instant::now();
        lab.engine.container_kill("web", None).await.unwrap();
        assert!(begun.elapsed() <= BEYOND, "{hangs}: {:?}", begun.elapsed());
        assert_eq!(lab.status("web").await, "exited", "{hangs}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_holds_nobody_up() {
    for hangs in [
        "runtime.create_task",
        "runtime.start_task",
        "network.create_sandbox",
        "volumes.mount",
        "runtime.update_container",
    ] {
        let lab = Lab::new().await;
        lab.create("web", published()).await.unwrap();
        lab.fakes.calls.hang(hangs);
        let engine = lab.engine.clone();
        let start = tokio::spawn(async move { engine.container_start("web").await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(lab.status("web").await, "created", "{hangs}: a read does not wait");
        let begun = Instant::now();
        lab.remove("web").await.unwrap_or_else(|error| panic!("{hangs}: {error}"));
        assert!(begun.elapsed() <= BEYOND, "{hangs}: {:?}", begun.elapsed());
        assert!(start.await.unwrap().is_err(), "{hangs}");
        lab.settle().await;
        assert!(lab.fakes.held().is_empty(), "{hangs}: {:?}", lab.fakes.held());
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_the_policy_that_hangs_is_ended_by_a_stop() {
    let lab = Lab::new().await;
    let id = lab.running("web", published()).await;
    lab.fakes.calls.hang("runtime.create_task");
    lab.fakes.exit(&id, None, 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(lab.status("web").await, "restarting");
    let begun = Instant::now();
    lab.engine.container_stop("web", None, Some(0)).await.unwrap();
    assert!(begun.elapsed() <= BEYOND, "{:?}", begun.elapsed());
    assert_eq!(lab.status("web").await, "exited");
    lab.fakes.calls.heal();
    lab.settle().await;
    assert_eq!((lab.status("web").await, lab.starts()), ("exited", 1));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_hangs_does_not_keep_a_container() {
    let (lab, _) = stubborn().await;
    lab.fakes.calls.hang("runtime.pause");
    for _ in 0..2 {
        let engine = lab.engine.clone();
        tokio::spawn(async move { engine.container_pause("web").await });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    lab.remove("web").await.unwrap();
    assert!(begun.elapsed() <= BEYOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_hangs_is_gone_on_with_by_the_next_gantryd() {
    let (lab, id) = stubborn().await;
    lab.fakes.calls.hang("runtime.delete_container");
    lab.remove("web").await.unwrap();
    let fakes = lab.fakes.clone();
    drop(lab);
    assert!(fakes.held().contains(&format!("tombstone {id}")), "{:?}", fakes.held());
    // It hangs on: the engine comes up all the same.
    let lab = Lab::on(fakes.clone()).await;
    lab.fakes.calls.heal();
    drop(lab);
    let lab = Lab::on(fakes).await;
    lab.settle().await;
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn a_removal_by_force_takes_also_what_a_start_before_it_brings_up() {
    let lab = Lab::new().await;
    lab.create("web", json!({})).await.unwrap();
    // Longer than a look at the state, and shorter than the patience with a job.
    lab.fakes.calls.slow("runtime.create_task", Duration::from_secs(2));
    let removal = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.remove("web").await
    };
    let (started, removed) = tokio::join!(lab.engine.container_start("web"), removal);
    started.unwrap();
    removed.unwrap();
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn a_start_that_waits_when_a_removal_comes_is_refused() {
    let lab = Lab::new().await;
    lab.create("web", json!({})).await.unwrap();
    lab.fakes.calls.slow("runtime.update_container", Duration::from_secs(1));
    let after = |time: u64| tokio::time::sleep(Duration::from_millis(time));
    let start = async {
        after(100).await;
        lab.engine.container_start("other").await
    };
    let restart = async {
        after(100).await;
        lab.engine.container_restart("other", None, None).await
    };
    let removal = async {
        after(200).await;
        lab.remove("other").await
    };
    // A rename holds the container meanwhile.
    let (renamed, started, restarted, removed) =
        tokio::join!(lab.engine.container_rename("web", "other"), start, restart, removal);
    renamed.unwrap();
    let refusal = "container is marked for removal and cannot be started";
    assert_eq!(started.unwrap_err().message(), refusal);
    restarted.unwrap_err();
    removed.unwrap();
    assert_eq!(lab.starts(), 0);
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_volume_does_not_answer_does_not_keep_the_container() {
    let lab = Lab::new().await;
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let options = [option("type", "nfs"), option("device", ":/far"), option("o", "addr=192.0.2.1")].into();
    let volume = VolumeCreate { name: "far".into(), options: Some(options), ..VolumeCreate::default() };
    lab.engine.volume_create(volume).await.unwrap();
    lab.create("web", json!({"Binds": ["far:/data"]})).await.unwrap();
    lab.fakes.calls.hang("volumes.mount");
    let engine = lab.engine.clone();
    let copy = tokio::spawn(async move { engine.container_archive_info("web", "/data").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    lab.remove("web").await.unwrap();
    assert!(begun.elapsed() <= BEYOND, "{:?}", begun.elapsed());
    assert!(copy.await.unwrap().is_err());
    assert!(!lab.fakes.held().iter().any(|line| line.starts_with("volume-mount")), "{:?}", lab.fakes.held());
}
