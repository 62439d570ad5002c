//! What is checked, shown and limited, where that takes more than one container or more than one port.

use std::time::Duration;

use futures::StreamExt as _;
use gantry_domain::{Digest, Error, ErrorKind, container::validate::ApiVersion, exec::ExecConfig, filter::Filters};
use gantry_engine::container::{ContainerList, StatsMode, WaitCondition};
use serde_json::{Value, json};

use crate::lab::Lab;

fn limits(memory: i64) -> gantry_domain::container::HostConfig {
    serde_json::from_value(json!({"Memory": memory, "MemorySwap": -1})).unwrap()
}

async fn listed(lab: &Lab, key: &str, value: &str) -> Vec<String> {
    let filters = Filters::parse(&json!({key: [value]}).to_string()).unwrap();
    let request = ContainerList { all: true, filters, ..ContainerList::default() };
    let mut names: Vec<String> =
        lab.engine.container_list(request).await.unwrap().iter().map(|one| one.snapshot.record.name.clone()).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn an_update_that_cannot_be_recorded_is_taken_back_from_the_kernel() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({"Memory": 64 << 20, "MemorySwap": -1})).await;
    lab.engine.container_update("web", limits(128 << 20)).await.unwrap();
    let before = lab.fakes.world().limits[&id].clone();
    lab.fakes.calls.fail_next("store.commit container", Error::system("no space left on device"));
    lab.engine.container_update("web", limits(256 << 20)).await.expect_err("not recorded");
    assert_eq!(lab.fakes.world().limits[&id], before);
    assert_eq!(lab.inspect("web").await.snapshot.record.host_config.memory, 128 << 20);
    // Part of it may be in force where the kernel refuses the rest.
    lab.fakes.calls.fail_next("runtime.update_resources", Error::system("invalid argument"));
    lab.engine.container_update("web", limits(256 << 20)).await.expect_err("refused");
    assert_eq!(lab.fakes.world().limits[&id], before);
    lab.engine.container_update("web", limits(256 << 20)).await.unwrap();
    assert_ne!(lab.fakes.world().limits[&id], before);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_hangs_does_not_keep_the_container_and_changes_nothing() {
    let lab = Lab::new().await;
    lab.running("web", json!({"Memory": 64 << 20, "MemorySwap": -1})).await;
    lab.fakes.calls.hang("runtime.update_resources");
    let engine = lab.engine.clone();
    let update = tokio::spawn(async move { engine.container_update("web", limits(128 << 20)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = tokio::time::Instant::now();
    lab.engine.container_kill("web", None).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(15), "{:?}", begun.elapsed());
    update.await.unwrap().expect_err("it hung");
    lab.fakes.calls.heal();
    assert_eq!(lab.inspect("web").await.snapshot.record.host_config.memory, 64 << 20);
}

#[tokio::test(start_paused = true)]
async fn what_an_ended_run_holds_is_free_for_who_has_heard_of_its_end() {
    for slow in ["runtime.delete_task", "network.delete_sandbox", "network.release_ports"] {
        let lab = Lab::new().await;
        lab.network("net").await.unwrap();
        let config = json!({"NetworkMode": "net", "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}});
        let id = lab.running("first", config.clone()).await;
        lab.create("second", config).await.unwrap();
        lab.fakes.calls.slow(slow, Duration::from_secs(1));
        let waiting = lab.wait("first", WaitCondition::NotRunning).await;
        lab.fakes.exit(&id, None, 0);
        waiting.await;
        lab.engine.container_start("second").await.unwrap_or_else(|error| panic!("{slow}: {error}"));
        let waiting = lab.wait("second", WaitCondition::NotRunning).await;
        lab.fakes.exit(&lab.inspect("second").await.snapshot.record.id, None, 0);
        waiting.await;
        lab.engine.network_delete("net").await.unwrap_or_else(|error| panic!("{slow}: {error}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_is_answered_when_the_port_is_free() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}})).await;
    lab.fakes.calls.slow("network.release_ports", Duration::from_secs(1));
    lab.engine.container_kill("web", None).await.unwrap();
    assert!(!lab.fakes.held().contains(&format!("ports {id}")), "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_in_a_network_keeps_it() {
    let lab = Lab::new().await;
    lab.network("net").await.unwrap();
    lab.running("web", json!({"NetworkMode": "net"})).await;
    let error = lab.engine.network_delete("net").await.unwrap_err();
    assert!(error.message().contains("has active endpoints (name:\"web\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_working_directory_is_made_with_the_container_and_asked_for_once_where_the_image_has_it() {
    let lab = Lab::new().await;
    let config = || json!({"Image": "busybox", "WorkingDir": "/src"});
    lab.fakes.calls.forget();
    for name in ["first", "second"] {
        lab.create_with(name, config(), json!({})).await.unwrap();
    }
    assert_eq!(lab.fakes.calls.count("rootfs.make_dir"), 1, "the fake's image has every folder");
    lab.create("third", json!({})).await.unwrap();
    assert_eq!(lab.fakes.calls.count("rootfs.make_dir"), 1, "none is asked for");
    lab.fakes.calls.fail_next("rootfs.make_dir", Error::invalid("Cannot mkdir: /x is not a directory"));
    let refused = lab.create_with("fourth", json!({"Image": "busybox", "WorkingDir": "/x"}), json!({})).await;
    let error = refused.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::System, "Cannot mkdir: /x is not a directory"));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_request_is_said_before_its_image_is_missed() {
    let lab = Lab::new().await;
    let config = json!({"Image": "not-there"});
    let error = lab.create_with("web", config.clone(), json!({"Memory": 1})).await.unwrap_err();
    assert_eq!(error.message(), "Minimum memory limit allowed is 6MB");
    assert!(lab.create_with("web", config, json!({})).await.unwrap_err().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn a_link_is_a_name_of_its_target() {
    let lab = Lab::new().await;
    lab.running("db", json!({})).await;
    lab.running("web", json!({"Links": ["db:database"]})).await;
    let all = lab.engine.container_list(ContainerList { all: true, ..ContainerList::default() }).await.unwrap();
    let links: Vec<_> = all.iter().map(|one| (one.snapshot.record.name.as_str(), one.link_names.clone())).collect();
    assert_eq!(links, [("web", vec![]), ("db", vec!["/web/database".to_owned()])]);
    assert_eq!(listed(&lab, "name", "^/web/database$").await, ["db"]);
    assert_eq!(listed(&lab, "name", "data").await, ["db"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_of_an_image_has_it_for_an_ancestor() {
    let lab = Lab::new().await;
    let layer = |seed: u8| Digest::from_sha256(&[seed; 32]);
    for (name, layers) in [("base", vec![1]), ("child", vec![1, 2]), ("other", vec![3])] {
        let mut world = lab.fakes.world();
        let target = world.add_image(&format!("docker.io/library/{name}:latest"));
        let image = world.platforms.get_mut(&target.digest).unwrap();
        image.config.rootfs.diff_ids = layers.into_iter().map(layer).collect();
        image.config_bytes = serde_json::to_vec(&image.config).unwrap().into();
    }
    for name in ["base", "child", "other"] {
        lab.create_with(&format!("of-{name}"), json!({"Image": name}), json!({})).await.unwrap();
    }
    assert_eq!(listed(&lab, "ancestor", "base").await, ["of-base", "of-child"]);
    assert_eq!(listed(&lab, "ancestor", "child").await, ["of-child"]);
    assert_eq!(listed(&lab, "ancestor", "not-there").await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_container_in_anothers_network_shows_the_interfaces_of_that_one() {
    let lab = Lab::new().await;
    lab.running("donor", json!({})).await;
    lab.running("guest", json!({"NetworkMode": "container:donor"})).await;
    lab.running("second", json!({"NetworkMode": "container:guest"})).await;
    for name in ["donor", "guest", "second"] {
        let mut stats = lab.engine.container_stats(name, StatsMode::OneShot).await.unwrap();
        let stats = stats.next().await.unwrap();
        assert_eq!(stats.current.networks.keys().collect::<Vec<_>>(), ["eth0"], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_in_its_back_off_is_counted_as_stopped() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({"RestartPolicy": {"Name": "always"}})).await;
    lab.fakes.exit(&id, None, 1);
    while lab.status("web").await != "restarting" {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let info = lab.engine.system_info().await.unwrap();
    assert_eq!((info.containers_running, info.containers_paused, info.containers_stopped), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_init_is_put_in_only_where_the_container_has_a_process_one() {
    let lab = Lab::new().await;
    lab.running("donor", json!({})).await;
    for (mode, with) in [("", true), ("host", false), ("container:donor", false)] {
        let id = lab.running(&format!("c{}", mode.len()), json!({"Init": true, "PidMode": mode})).await;
        let spec: Value = serde_json::from_slice(&lab.fakes.world().containers[&id].spec).unwrap();
        assert_eq!(spec["process"]["args"][0] == "/sbin/docker-init", with, "{mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exec_with_what_no_program_can_be_given_is_refused() {
    let lab = Lab::new().await;
    lab.running("web", json!({})).await;
    for config in [json!({"Cmd": ["a\0b"]}), json!({"Cmd": ["true"], "Env": ["A=1\0B=2"]})] {
        let config: ExecConfig = serde_json::from_value(config).unwrap();
        let error = lab.engine.container_exec("web", config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    }
}

#[tokio::test(start_paused = true)]
async fn prunes_of_different_kinds_run_side_by_side() {
    let lab = Lab::new().await;
    lab.create("web", json!({})).await.unwrap();
    lab.fakes.calls.slow("runtime.delete_container", Duration::from_secs(1));
    let engine = lab.engine.clone();
    let first = tokio::spawn(async move { engine.container_prune(&Filters::default()).await.is_ok() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(lab.engine.container_prune(&Filters::default()).await.unwrap_err().is_conflict());
    assert!(lab.engine.network_prune(&Filters::default()).await.unwrap_err().is_conflict(), "one kind in dockerd");
    lab.engine.volume_prune(&Filters::default(), ApiVersion(1, 51)).await.expect("another kind");
    lab.engine.image_prune(&Filters::default()).await.expect("another kind");
    assert!(first.await.unwrap());
}
