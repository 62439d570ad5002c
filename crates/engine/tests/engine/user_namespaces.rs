//! Containers with user namespaces: their network is wired between Create and Start, and undone like any other.

use gantry_domain::ports::TaskStatus;
use gantry_fakes::Fakes;
use serde_json::{Value, json};

use crate::lab::Lab;

async fn lab() -> Lab {
    Lab::remapped_on(Fakes::new()).await
}

fn spec(lab: &Lab, id: &gantry_domain::ContainerId) -> Value {
    serde_json::from_slice(&lab.fakes.world().containers[id].spec).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_network_comes_when_the_task_is_made_and_does_not_run_yet() {
    let lab = lab().await;
    // The fake wires only the process of a task that was created.
    let id = lab.running("web", json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}})).await;
    let calls = &lab.fakes.calls;
    assert_eq!((calls.count("network.create_sandbox"), calls.count("network.wire_sandbox")), (0, 1));
    assert_eq!(lab.fakes.world().processes[&(id.clone(), None)].status, TaskStatus::Running);
    let spec = spec(&lab, &id);
    let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.contains(&json!({"type": "user"})) && namespaces.contains(&json!({"type": "network"})));
    assert_eq!(spec["linux"]["gidMappings"], json!([{"containerID": 0, "hostID": 200_000, "size": 65_536}]));
}

#[tokio::test(start_paused = true)]
async fn a_container_in_the_hosts_namespace_is_as_on_any_engine() {
    let lab = lab().await;
    let id = lab.running("web", json!({"UsernsMode": "host"})).await;
    let calls = &lab.fakes.calls;
    assert_eq!((calls.count("network.create_sandbox"), calls.count("network.wire_sandbox")), (1, 0));
    let spec = spec(&lab, &id);
    assert!(spec["linux"].get("uidMappings").is_none());
    assert!(spec["linux"]["namespaces"].as_array().unwrap().iter().all(|one| one["type"] != "user"));
}

#[tokio::test(start_paused = true)]
async fn who_shares_a_namespace_shares_the_user_namespace_or_is_refused() {
    let lab = lab().await;
    let web = lab.running("web", json!({"IpcMode": "shareable"})).await;
    lab.running("open", json!({"UsernsMode": "host", "IpcMode": "shareable"})).await;
    let pid = lab.fakes.world().processes[&(web, None)].pid;
    for mode in ["NetworkMode", "IpcMode", "PidMode"] {
        let id = lab.running(mode, json!({mode: "container:web"})).await;
        let namespaces = spec(&lab, &id)["linux"]["namespaces"].clone();
        let shared = json!({"type": "user", "path": format!("/proc/{pid}/ns/user")});
        assert!(namespaces.as_array().unwrap().contains(&shared), "{mode}");
        lab.create(&format!("{mode}2"), json!({mode: "container:open"})).await.unwrap();
        let error = lab.engine.container_start(&format!("{mode}2")).await.unwrap_err();
        assert!(error.message().contains("which runs in the host's user namespace"), "{mode}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_that_cannot_be_wired_undoes_the_task_and_the_start_can_be_repeated() {
    for n in 0..100 {
        let lab = lab().await;
        lab.settle().await;
        lab.create("web", json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}})).await.unwrap();
        let before = lab.fakes.held();
        lab.fakes.calls.forget();
        lab.fakes.calls.fail_after(n);
        let started = lab.engine.container_start("web").await;
        let Some(call) = lab.fakes.calls.failed().first().copied() else {
            lab.fakes.calls.heal();
            return assert!(n > 8, "{n} calls");
        };
        lab.fakes.calls.heal();
        if started.is_err() {
            let held: Vec<_> = lab.fakes.held().into_iter().filter(|line| !line.starts_with("folder ")).collect();
            let before: Vec<_> = before.into_iter().filter(|line| !line.starts_with("folder ")).collect();
            assert_eq!(held, before, "after {call} failed");
            lab.engine.container_start("web").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
        }
    }
    panic!("a start of more than a hundred calls");
}

#[tokio::test(start_paused = true)]
async fn the_next_gantryd_takes_it_up_and_undoes_what_was_not_wired() {
    let before = lab().await;
    before.running("web", json!({})).await;
    before.create("half", json!({})).await.unwrap();
    before.fakes.calls.hang("network.wire_sandbox");
    let engine = before.engine.clone();
    let start = tokio::spawn(async move { engine.container_start("half").await });
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    start.abort();
    let fakes = before.fakes.clone();
    drop(before);
    fakes.calls.heal();
    fakes.calls.forget();
    let lab = Lab::remapped_on(fakes).await;
    assert_eq!(lab.status("web").await, "running");
    assert_eq!((lab.status("half").await, lab.fakes.calls.count("network.adopt_sandbox")), ("created", 1));
    lab.engine.container_start("half").await.unwrap();
}
