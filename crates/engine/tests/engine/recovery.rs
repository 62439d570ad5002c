//! A new engine on what an older one left.

use std::time::Duration;

use gantry_domain::{
    ContainerId, Error,
    container::Exit,
    filter::Filters,
    ports::{KeptRecord, RecordKind},
};
use gantry_engine::volume::VolumeCreate;
use jiff::Timestamp;
use serde_json::json;

use crate::lab::Lab;

/// gantryd dies: its tasks stop, the host stays as it is.
async fn killed(lab: Lab) -> gantry_fakes::Fakes {
    lab.settle().await;
    let fakes = lab.fakes.clone();
    drop(lab);
    fakes
}

fn ended(seconds: i64, code: u32) -> Exit {
    Exit { code, at: Timestamp::now() + jiff::SignedDuration::from_secs(seconds), oom_killed: false }
}

#[tokio::test(start_paused = true)]
async fn a_container_runs_on_and_keeps_its_address() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({})).await;
    let address = |run: Option<gantry_domain::container::Run>| run.unwrap().endpoints["bridge"].ipv4;
    let before = address(lab.inspect("web").await.snapshot.record.run.clone());
    let lab = Lab::on(killed(lab).await).await;
    assert_eq!(lab.status("web").await, "running");
    assert_eq!(address(lab.inspect("web").await.snapshot.record.run.clone()), before);
    lab.running("other", json!({})).await;
    assert_ne!(address(lab.inspect("other").await.snapshot.record.run.clone()), before, "it is still taken");
    lab.fakes.exit(&id, None, 4);
    lab.settle().await;
    assert_eq!(lab.inspect("web").await.snapshot.record.run.as_ref().unwrap().exit.unwrap().code, 4);
}

#[tokio::test(start_paused = true)]
async fn exits_nobody_saw_are_worked_off_in_the_order_of_their_end() {
    let lab = Lab::new().await;
    let mut ids = Vec::new();
    for name in ["first", "second", "third"] {
        ids.push(lab.running(name, json!({})).await);
    }
    lab.settle().await;
    let fresh = gantry_fakes::Fakes::new();
    move_host(&lab.fakes, &fresh);
    drop(lab);
    fresh.exit_at(&ids[2], None, ended(-30, 3));
    fresh.exit_at(&ids[0], None, ended(-20, 1));
    fresh.exit_at(&ids[1], None, ended(-10, 2));
    let lab = Lab::on(fresh).await;
    let died: Vec<String> = deaths(&lab).await;
    assert_eq!(died, ["third", "first", "second"]);
    for (name, code) in [("first", 1), ("second", 2), ("third", 3)] {
        assert_eq!(lab.inspect(name).await.snapshot.record.run.as_ref().unwrap().exit.unwrap().code, code);
        assert_eq!(lab.status(name).await, "exited");
    }
    assert!(!lab.fakes.held().iter().any(|line| line.starts_with("task ")));
}

#[tokio::test(start_paused = true)]
async fn auto_remove_and_restart_policies_are_caught_up() {
    let lab = Lab::new().await;
    let gone = lab.running("gone", json!({"AutoRemove": true})).await;
    let again = lab.running("again", json!({"RestartPolicy": {"Name": "always"}})).await;
    lab.settle().await;
    let fresh = gantry_fakes::Fakes::new();
    move_host(&lab.fakes, &fresh);
    drop(lab);
    fresh.exit_at(&gone, None, ended(-5, 0));
    fresh.exit_at(&again, None, ended(-5, 0));
    let lab = Lab::on(fresh).await;
    lab.settle().await;
    assert!(lab.engine.container_inspect("gone", false).await.is_err());
    assert_eq!(lab.status("again").await, "running");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_was_decided_is_finished() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}})).await;
    lab.settle().await;
    let fresh = gantry_fakes::Fakes::new();
    move_host(&lab.fakes, &fresh);
    drop(lab);
    {
        let mut world = fresh.world();
        world.records.containers.remove(&id);
        world.records.container_tombstones.insert(id.clone());
    }
    let lab = Lab::on(fresh).await;
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
    lab.create("web", json!({})).await.expect("the name is free");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_went_without_a_seen_exit_counts_as_255() {
    let lab = Lab::new().await;
    lab.running("web", json!({})).await;
    lab.settle().await;
    let fresh = gantry_fakes::Fakes::new();
    move_host(&lab.fakes, &fresh);
    drop(lab);
    fresh.world().processes.clear();
    let lab = Lab::on(fresh).await;
    assert_eq!(lab.inspect("web").await.snapshot.record.run.as_ref().unwrap().exit.unwrap().code, 255);
    assert_eq!(lab.status("web").await, "exited");
}

#[tokio::test(start_paused = true)]
async fn what_no_record_claims_is_gone_seconds_after_the_start() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({})).await;
    lab.settle().await;
    let fresh = gantry_fakes::Fakes::new();
    move_host(&lab.fakes, &fresh);
    drop(lab);
    fresh.world().records.containers.remove(&id);
    let lab = Lab::on(fresh).await;
    assert!(!lab.fakes.held().is_empty(), "nothing goes before it was unclaimed in two passes");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
}

/// A store that this gantryd cannot read whole: by a downgrade (`newer`), or by damage.
async fn with_a_record_that_is_kept(newer: bool, raw: &str) -> (Lab, ContainerId) {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({"Mounts": [{"Type": "volume", "Target": "/x"}]})).await;
    lab.settle().await;
    let fresh = gantry_fakes::Fakes::new();
    move_host(&lab.fakes, &fresh);
    drop(lab);
    {
        let mut world = fresh.world();
        let record = world.records.containers.remove(&id).unwrap();
        let raw = if raw.is_empty() { serde_json::to_vec(&record).unwrap() } else { raw.into() };
        world.records.kept.push(KeptRecord { kind: RecordKind::Container, id: id.to_string(), newer, raw });
        if !newer {
            world.records.damage.push("a record cannot be decoded".into());
        }
    }
    (Lab::on(fresh).await, id)
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_record_cannot_be_used_runs_on_and_is_not_touched() {
    for (newer, raw) in [(true, ""), (false, "no json"), (false, "{\"name\": 7}")] {
        let (lab, id) = with_a_record_that_is_kept(newer, raw).await;
        let before = lab.fakes.held();
        lab.settle().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(lab.fakes.held(), before, "the reconciliation took something away");
        assert!(before.contains(&format!("task {id}")));
        let error = lab.remove(id.as_str()).await.expect_err("kept");
        assert!(error.is_conflict(), "{error}");
        assert!(lab.engine.container_start(id.short()).await.expect_err("kept").is_conflict());
        assert_eq!(lab.fakes.held(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_record_keeps_its_name_and_its_volumes() {
    let (lab, _) = with_a_record_that_is_kept(true, "").await;
    assert!(lab.create("web", json!({})).await.expect_err("its name").is_conflict());
    let volume = lab.engine.volume_list(&Filters::default()).await.unwrap().volumes.remove(0).record;
    assert!(lab.engine.volume_delete(&volume.name, false).await.expect_err("in use").is_conflict());
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_record_cannot_be_used_keeps_its_folder() {
    let lab = Lab::new().await;
    lab.create("web", json!({"Mounts": [{"Type": "volume", "Target": "/x"}]})).await.unwrap();
    lab.settle().await;
    let fresh = gantry_fakes::Fakes::new();
    move_host(&lab.fakes, &fresh);
    drop(lab);
    let name = {
        let mut world = fresh.world();
        let (name, _) = world.records.volumes.pop_first().unwrap();
        world.records.kept.push(KeptRecord {
            kind: RecordKind::Volume,
            id: name.clone(),
            newer: true,
            raw: Vec::new(),
        });
        name
    };
    let lab = Lab::on(fresh).await;
    assert!(lab.fakes.held().contains(&format!("volume {name}")));
    let request = VolumeCreate { name: name.clone(), ..VolumeCreate::default() };
    assert!(lab.engine.volume_create(request).await.expect_err("kept").is_conflict());
    assert!(lab.engine.volume_delete(&name, true).await.expect_err("kept").is_conflict());
}

/// The host as it stands, under new ports: what an older engine still awaits never answers.
fn move_host(from: &gantry_fakes::Fakes, to: &gantry_fakes::Fakes) {
    std::mem::swap(&mut *from.world(), &mut *to.world());
}

async fn deaths(lab: &Lab) -> Vec<String> {
    use futures::StreamExt as _;
    let query = gantry_engine::EventQuery {
        since: Some(Timestamp::UNIX_EPOCH),
        until: Some(Timestamp::now() + jiff::SignedDuration::from_secs(1)),
        filters: gantry_domain::filter::Filters::default(),
    };
    let events = lab.engine.system_events(query).await.unwrap();
    let died = events.filter(|event| std::future::ready(event.action == "die"));
    died.map(|event| event.attributes["name"].clone()).collect().await
}

#[tokio::test(start_paused = true)]
async fn what_the_hosts_end_has_stopped_runs_again_after_it_and_what_a_user_stopped_does_not() {
    let lab = Lab::new().await;
    let policy = json!({"RestartPolicy": {"Name": "unless-stopped"}});
    let web = lab.running("web", policy.clone()).await;
    let rests = lab.running("rests", policy).await;
    lab.engine.container_stop("rests", None, None).await.unwrap();
    lab.engine.shutdown_containers().await;
    let records = lab.fakes.world().records.containers.clone();
    assert!(!records[&web].manually_stopped && records[&rests].manually_stopped);
    let fakes = lab.fakes.clone();
    drop(lab);
    let lab = Lab::on(fakes).await;
    lab.settle().await;
    assert_eq!((lab.status("web").await, lab.status("rests").await), ("running", "exited"));
}

#[tokio::test(start_paused = true)]
async fn a_kill_is_on_record_before_the_signal() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({"RestartPolicy": {"Name": "always"}})).await;
    lab.settle().await;
    lab.fakes.calls.forget();
    lab.engine.container_kill("web", Some("KILL")).await.unwrap();
    let made = lab.fakes.calls.made();
    let at = |call: &str| made.iter().position(|one| *one == call).unwrap_or(usize::MAX);
    assert!(at("store.commit container") < at("runtime.kill"), "{made:?}");
    assert!(lab.fakes.world().records.containers[&id].manually_stopped);
}

#[tokio::test(start_paused = true)]
async fn a_running_container_whose_record_was_lost_keeps_its_name_and_address() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({})).await;
    let address = |run: Option<gantry_domain::container::Run>| run.unwrap().endpoints["bridge"].ipv4;
    let before = address(lab.inspect("web").await.snapshot.record.run.clone());
    let fakes = killed(lab).await;
    {
        let mut world = fakes.world();
        world.records.containers.remove(&id);
        world.records.damage.push("the log is damaged".into());
    }
    let lab = Lab::on(fakes).await;
    assert_eq!(lab.status("web").await, "running");
    assert_eq!(address(lab.inspect("web").await.snapshot.record.run.clone()), before);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_a_damaged_store_has_lost_is_in_the_copy() {
    let lab = Lab::new().await;
    let id = lab.create("web", json!({})).await.unwrap();
    let before = lab.fakes.world().records.containers[&id].clone();
    lab.engine.container_rename("web", "shop").await.unwrap();
    let fakes = killed(lab).await;
    {
        let mut world = fakes.world();
        world.records.containers.insert(id.clone(), before);
        world.records.damage.push("the end of the log is damaged".into());
    }
    let lab = Lab::on(fakes).await;
    assert_eq!(lab.inspect("shop").await.snapshot.record.id, id);
    assert_eq!(lab.fakes.world().records.containers[&id].name, "shop");
    lab.create("web", json!({})).await.expect("the old name is free");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_missed_by_the_list_and_found_by_the_second_look_runs_on() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({})).await;
    let fakes = killed(lab).await;
    fakes.world().unlisted.insert(id.clone());
    let lab = Lab::on(fakes).await;
    assert_eq!(lab.status("web").await, "running");
    assert!(!lab.actions().await.contains(&"die".to_owned()));
    lab.fakes.exit(&id, None, 4);
    lab.settle().await;
    assert_eq!(lab.inspect("web").await.snapshot.record.run.as_ref().unwrap().exit.unwrap().code, 4);
}

#[tokio::test(start_paused = true)]
async fn a_start_cut_off_before_its_process_ran_is_undone() {
    let lab = Lab::new().await;
    let id = lab.create("web", json!({})).await.unwrap();
    lab.fakes.calls.hang("runtime.start_task");
    let engine = lab.engine.clone();
    let started = tokio::spawn(async move { engine.container_start("web").await.is_ok() });
    tokio::time::sleep(Duration::from_millis(10)).await;
    started.abort();
    let fresh = gantry_fakes::Fakes::new();
    move_host(&lab.fakes, &fresh);
    drop(lab);
    let lab = Lab::on(fresh).await;
    assert_eq!(lab.status("web").await, "created");
    assert!(!lab.actions().await.contains(&"die".to_owned()), "no run, no exit");
    lab.engine.container_start("web").await.unwrap();
    assert_eq!(lab.inspect("web").await.snapshot.record.id, id);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_failed_on_a_full_disk_is_on_record_when_there_is_room() {
    let lab = Lab::new().await;
    lab.running("web", json!({"RestartPolicy": {"Name": "on-failure"}})).await;
    lab.settle().await;
    lab.fakes.calls.fail_always("store.commit container", Error::system("No space left on device"));
    lab.engine.container_restart("web", None, Some(1)).await.unwrap_err();
    lab.settle().await;
    lab.fakes.calls.heal();
    lab.settle().await;
    let starts = lab.starts();
    let lab = Lab::on(killed(lab).await).await;
    lab.settle().await;
    assert_eq!((lab.status("web").await, lab.starts()), ("exited", starts));
    let record = lab.inspect("web").await.snapshot.record;
    assert!(record.error.contains("No space left"), "{}", record.error);
}
