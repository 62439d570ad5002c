//! The laws of health checks.

use std::time::Duration;

use bytes::Bytes;
use gantry_domain::{
    ContainerId, Error,
    container::health::{HEALTHY, Health, UNHEALTHY},
};
use serde_json::{Value, json};

use crate::lab::Lab;

fn config(check: Value) -> Value {
    json!({"Image": "busybox", "Cmd": ["sleep", "1"], "Healthcheck": check})
}

fn each_second() -> Value {
    config(json!({"Test": ["CMD", "probe"], "Interval": 1_000_000_000u64, "Retries": 2}))
}

async fn checked(lab: &Lab, check: Value) -> ContainerId {
    let id = lab.create_with("web", check, json!({})).await.unwrap();
    lab.engine.container_start("web").await.unwrap();
    id
}

async fn health(lab: &Lab) -> Health {
    lab.inspect("web").await.snapshot.health.as_deref().cloned().unwrap_or_default()
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_millis(count * 1000 + 200)).await;
}

fn ends(lab: &Lab, code: u32, output: &'static str) {
    lab.fakes.world().exec_ends = Some((code, Bytes::from_static(output.as_bytes())));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_succeeds_makes_healthy_and_one_that_fails_twice_unhealthy() {
    let lab = Lab::new().await;
    ends(&lab, 0, "fine");
    checked(&lab, each_second()).await;
    assert_eq!(health(&lab).await.status, "starting");
    seconds(1).await;
    let seen = health(&lab).await;
    assert_eq!((seen.status.as_str(), seen.log[0].output.as_str(), seen.log[0].exit_code), (HEALTHY, "fine", 0));
    ends(&lab, 1, "");
    seconds(1).await;
    assert_eq!(health(&lab).await.status, HEALTHY);
    seconds(1).await;
    assert_eq!((health(&lab).await.status.as_str(), health(&lab).await.failing_streak), (UNHEALTHY, 2));
    let told: Vec<String> =
        lab.actions().await.into_iter().filter(|action| action.starts_with("health_status")).collect();
    assert_eq!(told, ["health_status: healthy", "health_status: unhealthy"]);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_takes_too_long_is_killed_and_leaves_nothing() {
    let lab = Lab::new().await;
    let check =
        json!({"Test": ["CMD", "probe"], "Interval": 1_000_000_000u64, "Timeout": 1_000_000_000u64, "Retries": 1});
    checked(&lab, config(check)).await;
    seconds(2).await;
    let seen = health(&lab).await;
    assert_eq!(seen.status, UNHEALTHY);
    assert_eq!((seen.log[0].exit_code, seen.log[0].output.as_str()), (-1, "Health check exceeded timeout (1s)"));
    assert!(!lab.fakes.held().iter().any(|held| held.starts_with("exec")), "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_begin_says_why() {
    let lab = Lab::new().await;
    lab.fakes.calls.fail_always("runtime.exec", Error::invalid("OCI runtime exec failed: no such program"));
    checked(&lab, each_second()).await;
    seconds(1).await;
    let seen = health(&lab).await;
    assert_eq!((seen.log[0].exit_code, seen.log[0].output.as_str()), (-1, "OCI runtime exec failed: no such program"));
    assert!(!lab.fakes.held().iter().any(|held| held.starts_with("exec")), "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn nobody_checks_a_paused_or_stopped_container() {
    let lab = Lab::new().await;
    ends(&lab, 0, "");
    checked(&lab, each_second()).await;
    seconds(1).await;
    lab.engine.container_pause("web").await.unwrap();
    let checks = lab.fakes.calls.count("runtime.exec");
    seconds(5).await;
    assert_eq!(lab.fakes.calls.count("runtime.exec"), checks);
    assert_eq!(health(&lab).await.status, UNHEALTHY);
    lab.engine.container_unpause("web").await.unwrap();
    seconds(1).await;
    assert_eq!(health(&lab).await.status, HEALTHY);
    lab.engine.container_stop("web", None, None).await.unwrap();
    let checks = lab.fakes.calls.count("runtime.exec");
    seconds(5).await;
    assert_eq!(lab.fakes.calls.count("runtime.exec"), checks);
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_middle_of_a_check_ends_it() {
    let lab = Lab::new().await;
    checked(&lab, each_second()).await;
    seconds(1).await;
    assert!(lab.fakes.held().iter().any(|held| held.starts_with("exec")), "{:?}", lab.fakes.held());
    lab.engine.container_pause("web").await.unwrap();
    seconds(1).await;
    assert!(!lab.fakes.held().iter().any(|held| held.starts_with("exec")), "{:?}", lab.fakes.held());
    assert!(health(&lab).await.log.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_gantryd_knows_the_health_and_goes_on_and_ends_a_check_of_the_one_before() {
    let lab = Lab::new().await;
    ends(&lab, 0, "fine");
    checked(&lab, each_second()).await;
    seconds(2).await;
    // The next check is at its work when gantryd dies.
    lab.fakes.world().exec_ends = None;
    seconds(1).await;
    let fakes = lab.fakes.clone();
    assert!(fakes.held().iter().any(|held| held.starts_with("exec ")), "{:?}", fakes.held());
    drop(lab);
    ends(&Lab::on(fakes.clone()).await, 0, "fine");
    let lab = Lab::on(fakes).await;
    assert_eq!(health(&lab).await.status, HEALTHY);
    assert!(!health(&lab).await.log.is_empty());
    seconds(3).await;
    assert_eq!(health(&lab).await.log.len(), 5);
    assert!(!lab.fakes.held().iter().any(|held| held.starts_with("exec")), "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn without_a_check_there_is_no_health() {
    let lab = Lab::new().await;
    checked(&lab, config(json!({"Test": ["NONE"]}))).await;
    assert!(lab.inspect("web").await.snapshot.health.is_none());
    lab.remove("web").await.unwrap();
}
