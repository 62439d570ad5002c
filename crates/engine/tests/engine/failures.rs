//! Every port call of each verb fails in turn: the caller hears of it, what was made is undone, a retry works.

use std::collections::BTreeSet;

use gantry_domain::{Error, Result};
use gantry_engine::volume::VolumeCreate;
use serde_json::json;

use crate::lab::Lab;

/// More calls than any verb makes: the end of a loop that would not end.
const MANY: usize = 200;

/// Ports, a volume, an anonymous volume and a log that goes elsewhere: a create and a start with every step there is.
fn everything() -> serde_json::Value {
    json!({
        "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
        "Binds": ["data:/data", "/host:/host"],
        "Mounts": [{"Type": "volume", "Target": "/anonymous"}],
        "LogConfig": {"Type": "syslog", "Config": {}},
    })
}

/// What a start may leave behind in a created container: its own folder goes with the container.
fn without_folders(held: BTreeSet<String>) -> BTreeSet<String> {
    held.into_iter().filter(|line| !line.starts_with("folder ")).collect()
}

/// The named volume stays when a create fails: it has a life of its own, and its record.
fn without_the_named_volume(held: BTreeSet<String>) -> BTreeSet<String> {
    held.into_iter().filter(|line| !line.ends_with(" data")).collect()
}

/// Runs `verb` in a new lab with its n-th call failing, for each n, and gives each outcome to `judge` with the name of
/// the call; ends with the first n that is beyond the verb's calls.
pub async fn each_call_fails<Prepared, T>(
    prepare: impl AsyncFn(&Lab) -> Prepared,
    verb: impl AsyncFn(&Lab, &Prepared) -> Result<T>,
    judge: impl AsyncFn(&Lab, &Prepared, &'static str, Result<T>, BTreeSet<String>),
) -> usize {
    for n in 0..MANY {
        let lab = Lab::new().await;
        // The sweeps at the start are over: their calls are not the verb's.
        lab.settle().await;
        let prepared = prepare(&lab).await;
        let before = lab.fakes.held();
        lab.fakes.calls.forget();
        lab.fakes.calls.fail_after(n);
        let result = verb(&lab, &prepared).await;
        let Some(call) = lab.fakes.calls.failed().first().copied() else {
            lab.fakes.calls.heal();
            assert!(result.is_ok(), "no call failed, and the verb did");
            return n;
        };
        lab.fakes.calls.heal();
        judge(&lab, &prepared, call, result, before).await;
    }
    panic!("a verb of more than {MANY} calls");
}

#[tokio::test(start_paused = true)]
async fn a_create_that_fails_leaves_nothing_and_can_be_repeated() {
    let create = async |lab: &Lab, (): &()| lab.create("web", everything()).await;
    let calls = each_call_fails(
        async |_| (),
        create,
        async |lab, (), call, result, before| {
            assert!(result.is_err(), "{call} failed and the client was not told");
            let held = without_the_named_volume(lab.fakes.held());
            assert_eq!(held, before, "after {call} failed");
            lab.create("web", everything()).await.unwrap_or_else(|error| panic!("after {call}: {error}"));
            lab.remove("web").await.unwrap();
            assert_eq!(without_the_named_volume(lab.fakes.held()), before, "rm after {call}");
        },
    )
    .await;
    assert!(calls > 10, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_undone_and_can_be_repeated() {
    let prepare = async |lab: &Lab| lab.create("web", everything()).await.unwrap();
    let start = async |lab: &Lab, _: &_| lab.engine.container_start("web").await;
    each_call_fails(prepare, start, async |lab, id, call, result, before| {
        if result.is_ok() {
            // What runs behind the answer may fail without it.
            assert!(["store.commit container", "runtime.wait"].contains(&call), "{call} failed unheard");
            return;
        }
        assert_eq!(without_folders(lab.fakes.held()), without_folders(before.clone()), "after {call} failed");
        let record = lab.inspect("web").await.snapshot.record;
        assert!(!record.error.is_empty(), "State.Error after {call}");
        lab.engine.container_start("web").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
        assert_eq!(lab.status("web").await, "running");
        assert!(lab.fakes.held().contains(&format!("task {id}")));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_exec_that_fails_leaves_no_process_and_no_note() {
    let prepare = async |lab: &Lab| {
        let id = lab.running("web", json!({})).await;
        lab.settle().await;
        id
    };
    let exec = async |lab: &Lab, _: &_| lab.exec("web").await;
    each_call_fails(prepare, exec, async |lab, _, call, result, before| {
        if result.is_ok() {
            assert!(call == "runtime.wait", "{call} failed unheard");
            return;
        }
        assert_eq!(lab.fakes.held(), before, "after {call} failed");
        lab.exec("web").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_container_whatever_single_call_fails() {
    let prepare = async |lab: &Lab| {
        let id = lab.running("web", everything()).await;
        lab.settle().await;
        id
    };
    let stop = async |lab: &Lab, _: &_| lab.engine.container_stop("web", None, Some(1)).await;
    each_call_fails(prepare, stop, async |lab, id, call, result, _| {
        if result.is_err() {
            lab.engine.container_stop("web", None, Some(1)).await.unwrap();
        }
        lab.settle().await;
        assert_eq!(lab.status("web").await, "exited", "after {call} failed");
        sweep(lab).await;
        let left: Vec<_> = lab.fakes.held().into_iter().filter(|line| stands_for_a_run(line)).collect();
        let left: Vec<_> = left.into_iter().filter(|line| line.contains(id.as_str())).collect();
        lab.engine.container_start("web").await.unwrap_or_else(|error| panic!("after {call}: {error} ({left:?})"));
        lab.remove("web").await.unwrap();
        assert!(
            !lab.fakes.held().iter().any(|line| line.contains(id.as_str())),
            "after {call}: {:?}",
            lab.fakes.held()
        );
    })
    .await;
}

fn stands_for_a_run(line: &str) -> bool {
    ["task ", "session ", "sandbox ", "resolver ", "ports ", "volume-mount "].iter().any(|kind| line.starts_with(kind))
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_is_finished_by_the_next_or_by_the_sweep() {
    let prepare = async |lab: &Lab| lab.running("web", everything()).await;
    let remove = async |lab: &Lab, _: &_| lab.remove("web").await;
    each_call_fails(prepare, remove, async |lab, id, call, result, _| {
        if result.is_err() && lab.engine.container_inspect("web", false).await.is_ok() {
            lab.remove("web").await.unwrap_or_else(|error| panic!("rm again after {call}: {error}"));
        }
        lab.settle().await;
        sweep(lab).await;
        // A tombstone that was not ended is worked off by the next gantryd: there is nothing left to do.
        let tombstone = format!("tombstone {id}");
        let held = lab.fakes.held().into_iter().filter(|line| *line != tombstone);
        let left: Vec<_> = held.filter(|line| line.contains(id.as_str())).collect();
        assert!(left.is_empty(), "after {call} failed: {left:?}");
        lab.create("web", json!({})).await.unwrap_or_else(|error| panic!("the name after {call}: {error}"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_cannot_be_made_leaves_nothing() {
    let create = async |lab: &Lab, (): &()| {
        let request = VolumeCreate { name: "data".into(), ..VolumeCreate::default() };
        lab.engine.volume_create(request).await
    };
    let calls = each_call_fails(
        async |_| (),
        create,
        async |lab, (), call, result, before| {
            assert!(result.is_err(), "{call} failed and the client was not told");
            assert_eq!(lab.fakes.held(), before, "after {call} failed");
            create(lab, &()).await.unwrap_or_else(|error| panic!("after {call}: {error}"));
        },
    )
    .await;
    assert_eq!(calls, 2, "the folder and the record");
}

#[tokio::test(start_paused = true)]
async fn what_an_undo_could_not_take_away_goes_with_the_second_sweep() {
    let lab = Lab::new().await;
    lab.settle().await;
    let broken = || Error::system("the disk is broken");
    lab.fakes.calls.fail_always("store.commit container", broken());
    lab.fakes.calls.fail_always("runtime.delete_container", broken());
    lab.create("web", json!({})).await.expect_err("it cannot be written");
    lab.fakes.calls.heal();
    assert!(lab.fakes.held().iter().any(|line| line.starts_with("snapshot ")), "the undo failed too");
    let suspects = lab.engine.sweep_once(&Default::default()).await.unwrap();
    assert_eq!(suspects.len(), 1);
    assert!(lab.fakes.held().iter().any(|line| line.starts_with("snapshot ")), "one pass removes nothing");
    lab.engine.sweep_once(&suspects).await.unwrap();
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
    lab.create("web", json!({})).await.expect("its name is free");
}

async fn sweep(lab: &Lab) {
    let suspects = lab.engine.sweep_once(&Default::default()).await.unwrap();
    lab.engine.sweep_once(&suspects).await.unwrap();
}

/// Lines of networks alone: a container's folder may have been written meanwhile.
fn of_networks(held: BTreeSet<String>) -> BTreeSet<String> {
    held.into_iter().filter(|line| line.contains("network") || line.starts_with("interface ")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_network_whose_making_fails_leaves_its_name_and_nothing_else_free() {
    let calls = each_call_fails(
        async |_| (),
        async |lab, ()| lab.network("one").await,
        async |lab, (), call, result, before| {
            assert!(result.is_err(), "{call} failed unheard");
            assert_eq!(of_networks(lab.fakes.held()), of_networks(before), "{call}");
            lab.network("one").await.unwrap();
        },
    )
    .await;
    assert!(calls >= 3, "host routes, record and bridge are calls: {calls}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_of_a_network_that_fails_is_finished_by_the_next_gantryd() {
    each_call_fails(
        async |lab| lab.network("one").await.unwrap(),
        async |lab, _| lab.engine.network_delete("one").await,
        async |lab, id, call, result, before| {
            lab.settle().await;
            let held = of_networks(lab.fakes.held());
            if result.is_err() && held == of_networks(before) {
                lab.engine.network_delete("one").await.unwrap();
            }
            // A new gantryd, after which the name is free and nothing of it stands.
            let next = Lab::on(lab.fakes.clone()).await;
            next.settle().await;
            let left: Vec<_> = next.fakes.held().into_iter().filter(|line| line.contains(id.as_str())).collect();
            assert!(left.is_empty(), "{call}: {left:?}");
            next.network("one").await.unwrap();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_of_a_network_that_fails_is_finished_by_the_sweep() {
    each_call_fails(
        async |lab| lab.network("one").await.unwrap(),
        async |lab, _| lab.engine.network_delete("one").await,
        async |lab, id, call, result, before| {
            lab.settle().await;
            if result.is_err() && of_networks(lab.fakes.held()) == of_networks(before) {
                lab.engine.network_delete("one").await.unwrap();
            }
            sweep(lab).await;
            let mut left = of_networks(lab.fakes.held());
            // A tombstone that is found again has nothing left to do.
            left.retain(|line| line.contains(id.as_str()) && !line.starts_with("network-tombstone"));
            assert!(left.is_empty(), "{call}: {left:?}");
            lab.network("one").await.unwrap();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_container_is_taken_out_of_a_network_that_is_gone() {
    let lab = Lab::new().await;
    lab.network("one").await.unwrap();
    lab.running("web", json!({})).await;
    lab.connect("one", "web").await.unwrap();
    lab.engine.container_stop("web", None, Some(0)).await.unwrap();
    lab.settle().await;
    lab.engine.network_delete("one").await.unwrap();
    assert!(lab.engine.container_start("web").await.is_err());
    lab.disconnect("one", "web").await.unwrap();
    assert!(!lab.inspect("web").await.networks.contains_key("one"));
    lab.engine.container_start("web").await.unwrap();
    let error = lab.disconnect("one", "web").await.unwrap_err();
    assert!(error.is_not_found(), "it runs: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_leaves_the_container_as_it_was() {
    let calls = each_call_fails(
        async |lab| {
            lab.network("one").await.unwrap();
            lab.running("web", json!({})).await
        },
        async |lab, _| lab.connect("one", "web").await,
        async |lab, _, call, result, before| {
            if result.is_ok() {
                // The hosts file is written as well as can be.
                assert!(call.starts_with("host.") || call.starts_with("files."), "{call} failed unheard");
                return;
            }
            assert_eq!(of_networks(lab.fakes.held()), of_networks(before), "{call}");
            assert!(!lab.inspect("web").await.networks.contains_key("one"), "{call}");
            lab.connect("one", "web").await.unwrap();
            assert_eq!(lab.inspect("web").await.networks["one"].ip_address, "172.18.0.3", "after {call}");
        },
    )
    .await;
    assert!(calls >= 2, "record and link are calls: {calls}");
}

#[tokio::test(start_paused = true)]
async fn a_disconnection_that_fails_leaves_the_container_in_the_network() {
    each_call_fails(
        async |lab| {
            lab.network("one").await.unwrap();
            lab.running("web", json!({})).await;
            lab.connect("one", "web").await.unwrap();
        },
        async |lab, ()| lab.disconnect("one", "web").await,
        async |lab, (), call, result, before| {
            if result.is_ok() {
                assert!(call.starts_with("host.") || call.starts_with("files."), "{call} failed unheard");
                return;
            }
            assert_eq!(of_networks(lab.fakes.held()), of_networks(before), "{call}");
            assert!(lab.engine.network_delete("one").await.is_err(), "somebody is in it");
            lab.disconnect("one", "web").await.unwrap();
            lab.engine.network_delete("one").await.unwrap();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_was_cut_off_in_the_making_is_gone_after_the_start() {
    let lab = Lab::new().await;
    // Its links were made, its record was not.
    let ghost = gantry_domain::NetworkId::random();
    lab.fakes.world().networks.insert(ghost.clone());
    let next = Lab::on(lab.fakes.clone()).await;
    assert!(!next.fakes.world().networks.contains(&ghost));
    assert!(next.fakes.held().is_empty());
}
