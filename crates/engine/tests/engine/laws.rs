//! The laws of a container's life: restarts, waits, names, events.

use std::time::Duration;

use gantry_domain::{ContainerId, Error};
use gantry_engine::container::{ContainerList, WaitCondition};
use gantry_fakes::Fakes;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::lab::Lab;

const SIGKILL: u32 = 9;

#[tokio::test(start_paused = true)]
async fn a_container_that_always_fails_is_restarted_with_a_growing_wait() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({"RestartPolicy": {"Name": "always"}})).await;
    let mut waits = Vec::new();
    for run in 2..=5 {
        lab.fakes.exit(&id, None, 1);
        let ended = Instant::now();
        while lab.starts() < run {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        waits.push(ended.elapsed().as_millis() / 100);
    }
    assert_eq!(waits, [1, 2, 4, 8], "tenths of a second");
    assert_eq!(lab.inspect("web").await.snapshot.record.restart_count, 4);
}

#[tokio::test(start_paused = true)]
async fn on_failure_gives_up_after_its_count() {
    let lab = Lab::new().await;
    let policy = json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}});
    let id = lab.running("web", policy).await;
    for _ in 0..3 {
        lab.fakes.exit(&id, None, 1);
        lab.settle().await;
    }
    assert_eq!(lab.starts(), 3);
    assert_eq!(lab.status("web").await, "exited");
}

#[tokio::test(start_paused = true)]
async fn a_container_in_its_back_off_is_removed_by_force_though_its_record_cannot_be_written() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({"RestartPolicy": {"Name": "always"}})).await;
    lab.fakes.exit(&id, None, 1);
    while lab.status("web").await != "restarting" {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    lab.fakes.calls.fail_always("store.commit container", Error::system("no space left on device"));
    lab.remove("web").await.unwrap();
    lab.fakes.calls.heal();
    lab.settle().await;
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
    assert_eq!(lab.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_container_is_not_restarted_by_its_policy() {
    let lab = Lab::new().await;
    lab.running("web", json!({"RestartPolicy": {"Name": "always"}})).await;
    lab.engine.container_stop("web", None, None).await.unwrap();
    lab.settle().await;
    assert_eq!((lab.status("web").await, lab.starts()), ("exited", 1));
}

#[tokio::test(start_paused = true)]
async fn auto_remove_takes_the_container_and_its_anonymous_volumes() {
    let lab = Lab::new().await;
    let config = json!({"AutoRemove": true, "Mounts": [{"Type": "volume", "Target": "/x"}]});
    let id = lab.running("web", config).await;
    let removed = lab.wait("web", WaitCondition::Removed).await;
    lab.fakes.exit(&id, None, 7);
    assert_eq!(removed.await.status_code, 7);
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_not_obeyed_ends_in_sigkill_when_its_time_is_over() {
    let lab = Lab::new().await;
    lab.fakes.world().stubborn = true;
    let id = lab.running("web", json!({})).await;
    let begun = Instant::now();
    let waiting = lab.wait("web", WaitCondition::NotRunning).await;
    lab.engine.container_stop("web", None, Some(7)).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 7);
    assert_eq!(waiting.await.status_code, i64::from(128 + SIGKILL));
    assert!(!lab.fakes.held().contains(&format!("task {id}")));
}

#[tokio::test(start_paused = true)]
async fn waiters_hear_of_the_exit_after_the_die_event() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({})).await;
    let waiting = lab.wait("web", WaitCondition::NextExit).await;
    lab.fakes.exit(&id, None, 3);
    assert_eq!(waiting.await.status_code, 3);
    assert_eq!(lab.actions().await, ["create", "start", "die"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_kill_then_die_then_stop() {
    let lab = Lab::new().await;
    lab.running("web", json!({})).await;
    lab.engine.container_stop("web", None, None).await.unwrap();
    lab.remove("web").await.unwrap();
    assert_eq!(lab.actions().await, ["create", "start", "kill", "die", "stop", "destroy"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_request_ends_in_one_restart_event() {
    let lab = Lab::new().await;
    lab.running("web", json!({"AutoRemove": true})).await;
    lab.engine.container_restart("web", None, None).await.unwrap();
    let actions = lab.actions().await;
    assert_eq!(actions.last().map(String::as_str), Some("restart"), "{actions:?}");
    assert_eq!(actions.iter().filter(|action| *action == "restart").count(), 1);
    assert_eq!(lab.status("web").await, "running", "auto-remove is for the last exit");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_one_containers_and_free_at_once_after_a_rename() {
    let lab = Lab::new().await;
    lab.create("web", json!({})).await.unwrap();
    assert!(lab.create("web", json!({})).await.expect_err("taken").is_conflict());
    lab.engine.container_rename("web", "old").await.unwrap();
    lab.create("web", json!({})).await.expect("free at once");
    assert!(lab.engine.container_rename("old", "web").await.expect_err("taken again").is_conflict());
}

#[tokio::test(start_paused = true)]
async fn of_many_creates_of_one_name_one_wins() {
    let lab = Lab::new().await;
    let many = futures::future::join_all((0..20).map(|_| lab.create("web", json!({})))).await;
    assert_eq!(many.iter().filter(|one| one.is_ok()).count(), 1);
    assert!(many.iter().flat_map(|one| one.as_ref().err()).all(gantry_domain::Error::is_conflict));
    assert_eq!(lab.fakes.world().snapshots.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_fails_the_second_start_alone() {
    let lab = Lab::new().await;
    let ports = json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}});
    lab.running("first", ports.clone()).await;
    lab.create("second", ports).await.unwrap();
    let error = lab.engine.container_start("second").await.expect_err("the port is taken");
    assert!(error.message().contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{error}");
    lab.remove("first").await.unwrap();
    lab.engine.container_start("second").await.expect("it is free now");
}

#[tokio::test(start_paused = true)]
async fn a_verb_that_panics_does_not_end_the_containers_task() {
    let lab = Lab::new().await;
    lab.create("web", json!({})).await.unwrap();
    lab.fakes.calls.panic_next("runtime.create_task");
    lab.engine.container_start("web").await.expect_err("the verb fell over");
    lab.engine.container_start("web").await.expect("the container did not");
    assert_eq!(lab.status("web").await, "running");
    lab.remove("web").await.unwrap();
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn a_companion_that_dies_gets_a_successor() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({})).await;
    lab.fakes.world().companion_dies(&id);
    lab.settle().await;
    assert!(lab.fakes.held().contains(&format!("session {id}")));
    assert_eq!(lab.status("web").await, "running");
}

#[tokio::test(start_paused = true)]
async fn an_exit_that_cannot_be_written_keeps_its_task_until_it_can() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({})).await;
    lab.settle().await;
    lab.fakes.calls.fail_always("store.commit container", gantry_domain::Error::system("no space left on device"));
    lab.fakes.exit(&id, None, 0);
    lab.settle().await;
    assert_eq!(lab.status("web").await, "exited", "seen at once");
    assert!(lab.fakes.held().contains(&format!("task {id}")), "so that a later gantryd finds it");
    lab.fakes.calls.heal();
    lab.settle().await;
    assert!(!lab.fakes.held().contains(&format!("task {id}")));
}

fn profile(lab: &Lab, id: &ContainerId) -> Value {
    let spec: Value = serde_json::from_slice(&lab.fakes.world().containers[id].spec).unwrap();
    spec["process"]["apparmorProfile"].clone()
}

#[tokio::test(start_paused = true)]
async fn where_the_host_has_apparmor_its_default_profile_is_loaded_before_each_start() {
    let fakes = Fakes::new();
    fakes.world().apparmor = Some(false);
    let lab = Lab::on(fakes).await;
    let id = lab.running("web", json!({})).await;
    assert_eq!(profile(&lab, &id), "docker-default");
    assert_eq!(lab.inspect("web").await.apparmor_profile, "docker-default");
    let free = lab.running("free", json!({"Privileged": true})).await;
    assert_eq!(profile(&lab, &free), "unconfined");
    // Something on the host unloads it.
    lab.fakes.world().apparmor = Some(false);
    lab.running("again", json!({})).await;
    assert_eq!(lab.fakes.world().apparmor, Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_cannot_be_loaded_is_told_and_stops_no_container() {
    let fakes = Fakes::new();
    fakes.world().apparmor = Some(false);
    fakes.calls.fail_always("host.load_apparmor_default", gantry_domain::Error::system("no parser"));
    let lab = Lab::on(fakes).await;
    let id = lab.running("web", json!({})).await;
    assert_eq!(profile(&lab, &id), Value::Null);
    assert_eq!(lab.inspect("web").await.apparmor_profile, "");
    let told = lab.engine.system_info().await.unwrap().warnings;
    assert!(told.iter().any(|text| text.contains("docker-default could not be loaded")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn one_object_that_cannot_be_read_does_not_hide_the_others() {
    let lab = Lab::new().await;
    lab.running("one", json!({})).await;
    lab.running("two", json!({})).await;
    lab.fakes.calls.fail_next("runtime.root_usage", gantry_domain::Error::not_found("no such snapshot"));
    let list = ContainerList { size: true, ..ContainerList::default() };
    let shown = lab.engine.container_list(list.clone()).await.unwrap();
    assert_eq!(shown.iter().filter(|details| details.size_rw.is_some()).count(), 1);
    assert_eq!(shown.len(), 2);
    lab.fakes.calls.fail_next("runtime.root_usage", gantry_domain::Error::unavailable("containerd is away"));
    assert!(lab.engine.container_list(list).await.is_err(), "an outage is said");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_create_gives_the_name_back() {
    let lab = Lab::new().await;
    lab.fakes.calls.panic_next("runtime.create_container");
    assert!(lab.create("web", json!({})).await.is_err());
    lab.create("web", json!({})).await.expect("the name is free");
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_network_is_shared_may_be_made_after_the_one_that_shares_it() {
    let lab = Lab::new().await;
    lab.create("early", json!({"NetworkMode": "container:late"})).await.unwrap();
    assert!(lab.engine.container_start("early").await.is_err(), "there is none yet");
    let late = lab.running("late", json!({})).await;
    lab.engine.container_start("early").await.unwrap();
    assert_eq!(lab.inspect("early").await.snapshot.record.host_config.network_mode, format!("container:{late}"));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_a_container_in_its_start_waits_for_it() {
    for verb in ["kill", "stop", "exec"] {
        let lab = Lab::new().await;
        lab.create("web", json!({})).await.unwrap();
        lab.fakes.calls.slow("runtime.start_task", Duration::from_secs(1));
        let engine = lab.engine.clone();
        let started = tokio::spawn(async move { engine.container_start("web").await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(lab.status("web").await, "created", "its program may run already");
        match verb {
            "kill" => lab.engine.container_kill("web", Some("USR1")).await.unwrap(),
            "stop" => drop(lab.engine.container_stop("web", None, None).await.unwrap()),
            _ => drop(lab.exec("web").await.unwrap()),
        }
        started.await.unwrap().unwrap();
        let expected = if verb == "stop" { "exited" } else { "running" };
        assert_eq!(lab.status("web").await, expected, "{verb}");
    }
}

#[tokio::test(start_paused = true)]
async fn labels_are_given_once_shared_on_request_and_kept_over_a_restart() {
    let lab = Lab::labelled_on(Fakes::new()).await;
    let bind = json!({"Binds": ["/data:/data:Z", "/all:/all:z", "/plain:/plain"], "IpcMode": "shareable"});
    lab.running("one", bind).await;
    lab.running("other", json!({"IpcMode": "container:one"})).await;
    lab.create("open", json!({"Privileged": true})).await.unwrap();
    let record = |lab: &Lab, name: &'static str| {
        let engine = lab.engine.clone();
        async move { engine.container_inspect(name, false).await.unwrap().snapshot.record }
    };
    let (one, other, open) = (record(&lab, "one").await, record(&lab, "other").await, record(&lab, "open").await);
    assert!(one.process_label.starts_with("system_u:system_r:container_t:s0:c"));
    assert_eq!((&one.process_label, &one.mount_label), (&other.process_label, &other.mount_label));
    assert_eq!((open.process_label.as_str(), open.mount_label.ends_with("s0:c1022,c1023")), ("", true));
    let labels = lab.fakes.world().relabelled.clone();
    assert_eq!(labels["/data"], one.mount_label);
    assert_eq!(labels["/all"], "system_u:object_r:container_file_t:s0");
    assert!(!labels.contains_key("/plain"));
    let error = lab.create("bad", json!({"SecurityOpt": ["label=colour:red"]})).await.unwrap_err();
    assert!(error.message().starts_with("bad label option \"colour\""), "{error}");
    lab.create("bad", json!({})).await.expect("the name is free again");
    let fakes = lab.fakes.clone();
    drop(lab);
    let lab = Lab::labelled_on(fakes).await;
    assert_eq!(record(&lab, "one").await.process_label, one.process_label);
}
