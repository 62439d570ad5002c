//! What must hold when containerd or a shim dies.

use std::time::{Duration, Instant};

use gantry_containerd::{
    process::Containerd,
    runtime::{ContainerdRuntime, RuntimeConfig},
};
use gantry_domain::{
    ErrorKind,
    engine_id::EngineId,
    ports::{Runtime as _, TaskStatus},
};
use jiff::Timestamp;
use tokio::time::timeout;

use crate::harness::{Bench, SOON, able, kill, null_io};

/// Gone, or only waiting to be reaped by whoever inherited it from the shim.
fn has_ended(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_outlives_containerd_and_tells_the_true_exit() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sh", "-c", "sleep 2; exit 42"]).await;
    let runtime = bench.runtime.clone();
    let (waited, first) = (id.clone(), bench.containerd_pid());
    let waiting = tokio::spawn(async move { runtime.wait(&waited, None).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    bench.kill_containerd();
    // Calls made meanwhile wait for the next containerd.
    assert_eq!(bench.runtime.task(&id).await.unwrap().unwrap().status, TaskStatus::Running);
    assert_ne!(bench.containerd_pid(), first);
    let exit = timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(exit.code, 42);
    assert!(Timestamp::now().duration_since(exit.at).as_secs_f64() < 1.0, "{exit:?}");
    bench.remove(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_while_containerd_is_dead_keeps_its_time() {
    if !able() {
        return;
    }
    let mut bench = Bench::new().await;
    let id = bench.running(&["sh", "-c", "sleep 0.5; exit 4"]).await;
    let began = Timestamp::now();
    bench.containerd = None;
    bench.kill_containerd();
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.containerd = Some(Containerd::own(bench.layout.clone()).await.unwrap());
    let exit = bench.exit(&id).await;
    assert_eq!(exit.code, 4);
    assert!(exit.at.duration_since(began).as_secs_f64() < 1.5, "{exit:?} {began}");
    bench.remove(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_that_runs_is_adopted_and_not_started_twice() {
    if !able() {
        return;
    }
    let mut bench = Bench::new().await;
    let pid = bench.containerd_pid();
    bench.containerd = None;
    bench.containerd = Some(Containerd::own(bench.layout.clone()).await.unwrap());
    assert_eq!(bench.containerd_pid(), pid);
    let session = rustix::process::getsid(rustix::process::Pid::from_raw(pid)).unwrap();
    assert_eq!(session.as_raw_nonzero().get(), pid, "a session of its own");
    // The adopted one is watched as well.
    bench.kill_containerd();
    bench.runtime.tasks().await.unwrap();
    assert_ne!(bench.containerd_pid(), pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_found_containerd_is_used_and_not_restarted() {
    if !able() {
        return;
    }
    let mut bench = Bench::new().await;
    bench.containerd = None;
    let found = Containerd::found(bench.layout.socket()).await.unwrap();
    assert!(!found.is_own());
    found.client().version().version(()).await.unwrap();
    bench.kill_containerd();
    let error = Containerd::found(bench.layout.socket()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_containerd_a_call_is_unavailable_in_bounded_time() {
    if !able() {
        return;
    }
    let mut bench = Bench::new().await;
    bench.containerd = None;
    bench.kill_containerd();
    let began = Instant::now();
    let error = bench.runtime.tasks().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_shim_was_killed_can_be_given_up() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sleep", "1000"]).await;
    let init = bench.runtime.task(&id).await.unwrap().unwrap().pid;
    bench.shims().into_iter().for_each(kill);
    let began = Instant::now();
    bench.runtime.abandon_task(&id).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(has_ended(init), "init is gone");
    assert_eq!(bench.runtime.task(&id).await.unwrap(), None);
    assert_eq!((bench.shims(), bench.mounts(), bench.cgroups()), (vec![], vec![], vec![]));
    bench.runtime.delete_container(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_shim_hangs_can_be_given_up() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let id = bench.running(&["sleep", "1000"]).await;
    let init = bench.runtime.task(&id).await.unwrap().unwrap().pid;
    for shim in bench.shims() {
        let pid = rustix::process::Pid::from_raw(shim).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
    let began = Instant::now();
    bench.runtime.abandon_task(&id).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert!(has_ended(init), "init is gone");
    assert_eq!((bench.shims(), bench.mounts(), bench.cgroups()), (vec![], vec![], vec![]));
    // The id can be used for a new task at once.
    bench.runtime.create_task(&null_io(&id)).await.unwrap();
    bench.runtime.start_task(&id).await.unwrap();
    bench.runtime.kill(&id, None, 9, false).await.unwrap();
    bench.exit(&id).await;
    bench.remove(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_that_does_not_find_our_shim_uses_its_own() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let runtime = ContainerdRuntime::new(
        bench.containerd.as_ref().unwrap(),
        EngineId("11111111-2222-3333-4444-555555555555".into()),
        bench.dir.path().join("run"),
        RuntimeConfig::default(),
    );
    let runtime = runtime.with_shim("/no/such/shim");
    for _ in 0..2 {
        let id = bench.container(&["sh", "-c", "exit 3"]).await;
        runtime.create_task(&null_io(&id)).await.unwrap();
        runtime.start_task(&id).await.unwrap();
        assert_eq!(timeout(SOON, runtime.wait(&id, None)).await.unwrap().unwrap().code, 3);
        bench.remove(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_cycles_leave_nothing_behind() {
    if !able() {
        return;
    }
    let bench = Bench::new().await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let bundles = bench.layout.state().join("io.containerd.runtime.v2.task/gantry");
    let count = |path: &std::path::Path| std::fs::read_dir(path).map_or(0, Iterator::count);
    let mut before = 0;
    for cycle in 0..20 {
        let id = bench.running(&["true"]).await;
        bench.exit(&id).await;
        bench.remove(&id).await;
        if cycle == 0 {
            before = descriptors();
        }
    }
    assert_eq!((bench.shims(), bench.mounts(), bench.cgroups()), (vec![], vec![], vec![]));
    assert_eq!(bench.runtime.container_snapshots().await.unwrap(), []);
    assert_eq!(bench.runtime.containers().await.unwrap().len(), 0);
    assert_eq!((count(&bundles), count(&bench.dir.path().join("run/exec"))), (0, 0));
    assert_eq!(count(&bench.dir.path().join("run/runtime/gantry")), 0);
    // Other tests of this process open files as well; a leak of one a cycle would show.
    assert!(descriptors() < before + 20, "{before} → {}", descriptors());
}
