//! What a start takes over from the runs before it, and what it waits for.

use std::time::Duration;

use gantry_domain::{Error, ErrorKind, GoTime};
use serde_json::json;

use crate::lab::Lab;

/// The host goes down in order and comes up again: every task has ended, and it is on record.
async fn next_boot(lab: Lab) -> Lab {
    lab.engine.shutdown_containers().await;
    let fakes = lab.fakes.clone();
    drop(lab);
    Lab::on(fakes).await
}

#[tokio::test(start_paused = true)]
async fn after_the_hosts_end_what_needs_another_container_starts_after_it() {
    for needs in ["NetworkMode", "PidMode"] {
        let lab = Lab::new().await;
        lab.running("donor", json!({"RestartPolicy": {"Name": "always"}})).await;
        for number in 0..4 {
            let mode = json!({needs: "container:donor", "RestartPolicy": {"Name": "unless-stopped"}});
            lab.running(&format!("guest{number}"), mode).await;
        }
        lab.running("linking", json!({"Links": ["donor:db"], "RestartPolicy": {"Name": "always"}})).await;
        lab.fakes.calls.slow("runtime.create_task", Duration::from_secs(2));
        let lab = next_boot(lab).await;
        lab.settle().await;
        for name in ["donor", "guest0", "guest1", "guest2", "guest3", "linking"] {
            let about = lab.inspect(name).await;
            assert_eq!(about.snapshot.status.as_str(), "running", "{needs} {name}: {}", about.snapshot.record.error);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_donor_that_does_not_come_up_holds_the_others_start_up_for_five_seconds() {
    let lab = Lab::new().await;
    let always = json!({"RestartPolicy": {"Name": "always"}});
    lab.running("donor", always.clone()).await;
    lab.running("linking", json!({"Links": ["donor:db"], "RestartPolicy": {"Name": "always"}})).await;
    lab.running("other", always).await;
    lab.fakes.calls.hang("runtime.create_task");
    let lab = next_boot(lab).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(lab.inspect("linking").await.snapshot.record.error, "");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let error = lab.inspect("linking").await.snapshot.record.error.clone();
    assert!(error.contains("Cannot link to a non running container"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_start_at_boot_that_hangs_does_not_keep_the_container() {
    let lab = Lab::new().await;
    lab.running("web", json!({"RestartPolicy": {"Name": "always"}})).await;
    lab.fakes.calls.hang("runtime.create_task");
    let lab = next_boot(lab).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = tokio::time::Instant::now();
    lab.remove("web").await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_shows_the_end_of_the_one_before_it() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({})).await;
    assert_eq!(lab.inspect("web").await.snapshot.times().finished, GoTime::default());
    lab.fakes.exit(&id, None, 1);
    lab.settle().await;
    let ended = lab.inspect("web").await.snapshot.times();
    lab.engine.container_start("web").await.unwrap();
    let again = lab.inspect("web").await.snapshot.times();
    assert_eq!(again.finished, ended.finished);
    assert!(again.started > ended.started);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_leaves_the_times_of_the_run_before_it() {
    // Before the run has a place in its network, and after it.
    for call in ["network.reserve_ports", "runtime.create_task"] {
        let lab = Lab::new().await;
        let ports = json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}});
        let id = lab.create("web", ports).await.unwrap();
        lab.fakes.calls.fail_next(call, Error::system("no"));
        lab.engine.container_start("web").await.expect_err("ordered");
        let never = lab.inspect("web").await.snapshot;
        assert_eq!((never.times(), never.status.as_str()), (Default::default(), "created"), "{call}");
        lab.engine.container_start("web").await.unwrap();
        lab.fakes.exit(&id, None, 1);
        lab.settle().await;
        let before = lab.inspect("web").await.snapshot.times();
        for _ in 0..2 {
            lab.fakes.calls.fail_next(call, Error::system("no"));
            lab.engine.container_start("web").await.expect_err("ordered");
        }
        let after = lab.inspect("web").await.snapshot;
        assert_eq!(after.times(), before, "{call}");
        assert_eq!(after.record.run.as_ref().unwrap().exit.unwrap().code, 128, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_no_restart_by_the_policy_counts_from_nothing() {
    let lab = Lab::new().await;
    let policy = json!({"RestartPolicy": {"Name": "unless-stopped"}});
    let id = lab.running("web", policy).await;
    let count = async |lab: &Lab| lab.inspect("web").await.snapshot.record.restart_count;
    for _ in 0..2 {
        lab.fakes.exit(&id, None, 1);
        lab.settle().await;
    }
    assert_eq!(count(&lab).await, 2);
    lab.engine.container_restart("web", None, None).await.unwrap();
    assert_eq!(count(&lab).await, 0);
    lab.fakes.exit(&id, None, 1);
    lab.settle().await;
    assert_eq!(count(&lab).await, 1);
    let lab = next_boot(lab).await;
    lab.settle().await;
    assert_eq!((lab.status("web").await, count(&lab).await), ("running", 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_boot_has_started_is_no_longer_stopped_by_hand() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({"RestartPolicy": {"Name": "always"}})).await;
    lab.engine.container_stop("web", None, None).await.unwrap();
    let lab = next_boot(lab).await;
    lab.settle().await;
    assert_eq!(lab.status("web").await, "running");
    assert!(!lab.fakes.world().records.containers[&id].manually_stopped);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_is_one_of_the_tries_of_on_failure() {
    let lab = Lab::new().await;
    let id = lab.running("web", json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}})).await;
    lab.fakes.calls.forget();
    lab.fakes.calls.fail_always("runtime.create_task", Error::system("no"));
    lab.fakes.exit(&id, None, 1);
    lab.settle().await;
    assert_eq!(lab.fakes.calls.count("runtime.create_task"), 3);
    assert_eq!(lab.status("web").await, "exited");
}

#[tokio::test(start_paused = true)]
async fn a_bind_source_that_has_gone_is_made_again_by_a_start_and_by_a_copy() {
    let typed = json!({"Binds": ["/run/x:/x"]});
    let asked = json!({"Mounts": [
        {"Type": "bind", "Source": "/run/x", "Target": "/x", "BindOptions": {"CreateMountpoint": true}}
    ]});
    let plain = json!({"Mounts": [{"Type": "bind", "Source": "/run/x", "Target": "/x"}]});
    for (host_config, made) in [(typed, true), (asked, true), (plain, false)] {
        let lab = Lab::new().await;
        lab.create("web", host_config).await.unwrap();
        let gone = || lab.fakes.world().missing.contains("/run/x");
        lab.fakes.world().missing.insert("/run/x".into());
        lab.engine.container_archive_info("web", "/").await.unwrap();
        assert_ne!(gone(), made, "by a copy");
        lab.fakes.world().missing.insert("/run/x".into());
        lab.engine.container_start("web").await.unwrap();
        assert_ne!(gone(), made, "by a start");
    }
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_a_container_that_was_not_made_to_be_shared_is_not_joined() {
    for (mode, allowed) in [("", false), ("private", false), ("none", false), ("shareable", true), ("host", true)] {
        let lab = Lab::new().await;
        let donor = lab.running("donor", json!({"IpcMode": mode})).await;
        lab.create("guest", json!({"IpcMode": "container:donor"})).await.unwrap();
        let started = lab.engine.container_start("guest").await;
        assert_eq!(started.is_ok(), allowed, "{mode}");
        if allowed {
            let third = json!({"IpcMode": "container:guest"});
            lab.running("third", third).await;
            continue;
        }
        let error = started.unwrap_err();
        let text = format!(
            "failed to join IPC namespace: container {donor}: non-shareable IPC (hint: use IpcMode:shareable for the \
             donor container)"
        );
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidParameter, text.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_cannot_be_joined_is_told_in_dockers_words() {
    let cases = [
        (
            "NetworkMode",
            "cannot join network namespace of a non running container: container donor is created",
            ErrorKind::Conflict,
        ),
        ("IpcMode", "failed to join IPC namespace: container <id> is not running", ErrorKind::Conflict),
        // Made while the spec is: no error of the request.
        ("PidMode", "failed to join PID namespace: container <id> is not running", ErrorKind::System),
    ];
    for (mode, text, kind) in cases {
        let lab = Lab::new().await;
        let donor = lab.create("donor", json!({"IpcMode": "shareable"})).await.unwrap();
        lab.create("guest", json!({mode: "container:donor"})).await.unwrap();
        let error = lab.engine.container_start("guest").await.unwrap_err();
        assert_eq!((error.message(), error.kind()), (text.replace("<id>", donor.as_str()).as_str(), kind), "{mode}");
        lab.remove("donor").await.unwrap();
        let error = lab.engine.container_start("guest").await.unwrap_err();
        assert!(error.message().ends_with(&format!(": No such container: {donor}")), "{mode}: {error}");
        assert_ne!(error.kind(), ErrorKind::NotFound, "clients take it for the container's own");
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_that_the_image_does_not_have_is_no_error_of_the_request_to_start() {
    let lab = Lab::new().await;
    lab.create_with("web", json!({"Image": "busybox", "User": "nobody-known"}), json!({})).await.unwrap();
    let error = lab.engine.container_start("web").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    assert!(error.message().contains("unable to find user nobody-known"), "{error}");
}
