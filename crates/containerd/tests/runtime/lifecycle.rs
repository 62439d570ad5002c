//! A container's way from creation to removal.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use gantry_domain::{
    ContainerId, ErrorKind,
    ports::{Runtime as _, RuntimeEvent, TaskSetup, TaskStatus},
};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::timeout;

use crate::harness::{Bench, Output, SOON, able, null_io};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_and_its_exit_and_output_arrive() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let runtime = &bench.runtime;
    let id = bench.container(&["sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    let (mut out, mut err) = (Output::new(bench.dir.path(), "out"), Output::new(bench.dir.path(), "err"));
    let setup = TaskSetup { stdout: out.path.clone(), stderr: err.path.clone(), ..null_io(&id) };
    let before = Timestamp::now();
    let pid = runtime.create_task(&setup).await.unwrap();
    out.begin();
    err.begin();
    let task = runtime.task(&id).await.unwrap().unwrap();
    assert_eq!((task.status, task.pid, task.exit), (TaskStatus::Created, pid, None));
    runtime.start_task(&id).await.unwrap();
    let exit = bench.exit(&id).await;
    assert_eq!(exit.code, 7);
    assert!(before < exit.at && exit.at <= Timestamp::now(), "{exit:?}");
    assert_eq!((out.text().await.as_str(), err.text().await.as_str()), ("out\n", "err\n"));
    let task = runtime.task(&id).await.unwrap().unwrap();
    assert_eq!((task.status, task.exit), (TaskStatus::Stopped, Some(exit)));
    assert_eq!(runtime.tasks().await.unwrap(), [task]);
    assert_eq!(runtime.delete_task(&id, None).await.unwrap(), Some(exit));
    assert_eq!(runtime.delete_task(&id, None).await.unwrap(), None, "absent is an outcome");
    assert!(runtime.wait(&id, None).await.unwrap_err().is_not_found());
    assert_eq!(runtime.task(&id).await.unwrap(), None);
    runtime.delete_container(&id).await.unwrap();
    runtime.delete_container(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_travels_with_the_container() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let runtime = &bench.runtime;
    let id = bench.container(&["true"]).await;
    let found = runtime.containers().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].id, found[0].record.as_deref()), (&id, Some(&b"{\"record\":1}"[..])));
    runtime.update_container(&id, None, Some(Bytes::from_static(b"two"))).await.unwrap();
    assert_eq!(runtime.containers().await.unwrap()[0].record.as_deref(), Some(&b"two"[..]));
    assert_eq!(runtime.container_snapshots().await.unwrap(), std::slice::from_ref(&id));
    let mounts = runtime.root_mounts(&id).await.unwrap();
    assert_eq!(mounts[0].kind, "overlay");
    assert!(runtime.root_usage(&id).await.unwrap() < 1 << 20);
    let nobody = runtime.update_container(&ContainerId::random(), None, Some(Bytes::new())).await.unwrap_err();
    assert!(nobody.is_not_found(), "{nobody:?}");
    runtime.delete_container(&id).await.unwrap();
    assert_eq!(runtime.containers().await.unwrap().len(), 0);
    assert_eq!(runtime.container_snapshots().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_fails_leaves_nothing() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let mut setup = bench.setup(|_| {});
    setup.chain_id = "sha256:missing".into();
    let error = bench.runtime.create_container(&setup).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(bench.runtime.containers().await.unwrap().len(), 0);
    // And a second creation under the same id leaves the first alone.
    let setup = bench.setup(|_| {});
    bench.runtime.create_container(&setup).await.unwrap();
    assert!(bench.runtime.create_container(&setup).await.unwrap_err().is_conflict());
    assert_eq!(bench.runtime.container_snapshots().await.unwrap(), [setup.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_exits_with_its_signal() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sleep", "1000"]).await;
    bench.runtime.kill(&id, None, 9, false).await.unwrap();
    assert_eq!(bench.exit(&id).await.code, 137);
    let gone = bench.runtime.kill(&id, None, 9, false).await.unwrap_err();
    assert!(gone.is_not_found(), "{gone:?}");
    bench.remove(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_container_is_shown_paused_and_its_limits_can_change() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let runtime = &bench.runtime;
    let id = bench.running(&["sleep", "1000"]).await;
    runtime.pause(&id).await.unwrap();
    assert_eq!(runtime.task(&id).await.unwrap().unwrap().status, TaskStatus::Paused);
    runtime.resume(&id).await.unwrap();
    assert_eq!(runtime.task(&id).await.unwrap().unwrap().status, TaskStatus::Running);
    let limits = Bytes::from(json!({ "pids": { "limit": 77 } }).to_string());
    runtime.update_resources(&id, limits).await.unwrap();
    let file = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .iter()
        .find_map(|root| std::fs::read_to_string(format!("{root}/gantry-test/{id}/pids.max")).ok());
    assert_eq!(file.unwrap().trim(), "77");
    let pids = runtime.pids(&id).await.unwrap();
    assert_eq!((pids.len(), pids[0].exec.clone()), (1, None));
    runtime.kill(&id, None, 9, true).await.unwrap();
    bench.exit(&id).await;
    bench.remove(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_its_size_from_the_first_line_and_after_a_resize() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let setup = bench.setup(|spec| {
        spec["process"]["args"] =
            json!(["sh", "-c", "stty size; while [ \"$(stty size)\" = '30 100' ]; do :; done; stty size"]);
        spec["process"]["terminal"] = json!(true);
        spec["process"]["consoleSize"] = json!({ "height": 30, "width": 100 });
    });
    bench.runtime.create_container(&setup).await.unwrap();
    let id = setup.id;
    let mut out = Output::new(bench.dir.path(), "tty");
    let task = TaskSetup { terminal: true, stdout: out.path.clone(), console_size: Some([30, 100]), ..null_io(&id) };
    bench.runtime.create_task(&task).await.unwrap();
    out.begin();
    bench.runtime.start_task(&id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    bench.runtime.resize(&id, None, 40, 120).await.unwrap();
    assert_eq!(bench.exit(&id).await.code, 0);
    assert_eq!(out.text().await, "30 100\r\n40 120\r\n");
    bench.remove(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_told_in_dockers_words() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.container(&["nosuch"]).await;
    let error = bench.runtime.create_task(&null_io(&id)).await.unwrap_err();
    assert_eq!(
        error.message(),
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create \
         failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown"
    );
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    assert_eq!(bench.runtime.task(&id).await.unwrap(), None);
    let id = bench.container(&["/etc"]).await;
    let error = bench.runtime.create_task(&null_io(&id)).await.unwrap_err();
    assert!(error.message().contains("permission denied"), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    assert_eq!(bench.shims(), Vec::<i32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn exits_are_told_as_events_after_the_first_connection() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let mut events = bench.runtime.events();
    assert_eq!(timeout(SOON, events.next()).await.unwrap(), Some(RuntimeEvent::Reconnected));
    let id = bench.running(&["sh", "-c", "exit 3"]).await;
    let exit = bench.exit(&id).await;
    let told = timeout(SOON, events.next()).await.unwrap().unwrap();
    assert_eq!(told, RuntimeEvent::Exited { id: id.clone(), exec: None, code: 3, at: exit.at });
    bench.kill_containerd();
    assert_eq!(timeout(SOON, events.next()).await.unwrap(), Some(RuntimeEvent::Reconnected));
    bench.remove(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_name_containerd_and_runc() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let versions = bench.runtime.versions().await.unwrap();
    assert!(versions.containerd.contains('.') && versions.runc.contains('.'), "{versions:?}");
    assert!(versions.runc_path.ends_with("/runc"), "{versions:?}");
}
