//! Plugins of networks and addresses: whatever fails and wherever gantryd dies, what they lent is used or given back.

use std::{collections::BTreeSet, time::Duration};

use gantry_domain::{Error, Result, network::Ipam, ports::Gift};
use gantry_engine::{container::NetworkConnect, network::NetworkCreate};
use serde_json::json;

use crate::{failures::each_call_fails, lab::Lab};

/// A network of the plugin `far`, with its addresses.
async fn network(lab: &Lab, driver: &str) -> Result<gantry_domain::NetworkId> {
    let ipam = Some(Ipam { driver: "far".into(), ..Ipam::default() });
    let request = NetworkCreate { name: "away".into(), driver: driver.into(), ipam, ..NetworkCreate::default() };
    lab.engine.network_create(request).await
}

/// What the plugin has lent, and the debts.
fn lent(lab: &Lab) -> BTreeSet<String> {
    let all = lab.fakes.held().into_iter();
    all.filter(|line| line.starts_with("lent ") || line.starts_with("debt ")).collect()
}

/// Everything but a container's folder, and its resolver, which stays where it knows nothing any more.
fn held(lab: &Lab) -> BTreeSet<String> {
    without_folders(lab.fakes.held())
}

fn without_folders(held: BTreeSet<String>) -> BTreeSet<String> {
    held.into_iter().filter(|line| !line.starts_with("folder ") && !line.starts_with("resolver ")).collect()
}

async fn running(lab: &Lab) -> gantry_domain::ContainerId {
    network(lab, "far").await.unwrap();
    let id = lab.running("web", json!({"NetworkMode": "away"})).await;
    lab.settle().await;
    id
}

#[tokio::test(start_paused = true)]
async fn a_network_takes_pool_and_gateway_and_gives_both_back() {
    let lab = Lab::new().await;
    let id = network(&lab, "far").await.unwrap();
    let expected =
        [format!("lent network {id}"), "lent pool 10.5.0.0/24".into(), "lent address 10.5.0.1 of 10.5.0.0/24".into()];
    assert_eq!(lent(&lab), expected.into());
    let shown = lab.engine.network_inspect("away", "").await.unwrap().record;
    let pool = &shown.ipam.config.unwrap()[0];
    assert_eq!((pool.subnet.as_str(), pool.gateway.as_str()), ("10.5.0.0/24", "10.5.0.1"));
    lab.engine.network_delete("away").await.unwrap();
    assert_eq!(lent(&lab), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_run_takes_address_endpoint_and_join_and_its_end_gives_them_back() {
    let lab = Lab::new().await;
    let id = running(&lab).await;
    let shown = lab.inspect("web").await;
    let endpoint = &shown.networks["away"];
    assert_eq!((endpoint.ip_address.as_str(), endpoint.gateway.as_str()), ("10.5.0.2", "10.5.0.1"));
    assert_eq!(endpoint.mac_address, "02:42:00:00:00:07", "the plugin's own");
    let at = &endpoint.endpoint_id;
    for line in [format!("endpoint {at}"), format!("join {at}"), format!("published {at}")] {
        assert!(lent(&lab).contains(&format!("lent {line}")), "{line}: {:?}", lent(&lab));
    }
    assert!(lab.fakes.held().contains(&format!("interface {id} eth0 away")));
    lab.engine.container_stop("web", None, Some(1)).await.unwrap();
    lab.settle().await;
    assert!(!lent(&lab).iter().any(|line| line.contains(at) || line.contains("10.5.0.2")), "{:?}", lent(&lab));
    lab.engine.container_start("web").await.unwrap();
    lab.remove("web").await.unwrap();
    lab.engine.network_delete("away").await.unwrap();
    assert_eq!(lent(&lab), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn our_own_bridge_takes_addresses_of_a_plugin() {
    let lab = Lab::new().await;
    network(&lab, "bridge").await.unwrap();
    lab.running("web", json!({"NetworkMode": "away"})).await;
    let endpoint = lab.inspect("web").await.networks["away"].clone();
    assert_eq!((endpoint.ip_address.as_str(), endpoint.gateway.as_str()), ("10.5.0.2", "10.5.0.1"));
    assert_eq!(endpoint.mac_address, "02:42:0a:05:00:02");
    lab.remove("web").await.unwrap();
    lab.engine.network_delete("away").await.unwrap();
    assert_eq!(lent(&lab), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_network_whose_making_fails_owes_nothing() {
    let calls = each_call_fails(
        async |_| (),
        async |lab, ()| network(lab, "far").await,
        async |lab, (), call, result, before| {
            assert!(result.is_err(), "{call} failed unheard");
            lab.settle().await;
            let tombstones = |line: &String| !line.starts_with("network-tombstone");
            let held: BTreeSet<_> = lab.fakes.held().into_iter().filter(tombstones).collect();
            assert_eq!(held, before, "after {call}");
            network(lab, "far").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
        },
    )
    .await;
    assert!(calls > 8, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_removal_of_a_network_that_fails_leaves_no_debt() {
    let prepare = async |lab: &Lab| network(lab, "far").await.unwrap();
    let remove = async |lab: &Lab, _: &_| lab.engine.network_delete("away").await;
    each_call_fails(prepare, remove, async |lab, _, call, result, _| {
        lab.settle().await;
        if result.is_err() && lab.engine.network_inspect("away", "").await.is_ok() {
            lab.engine.network_delete("away").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
        }
        // What a refusal left is told again.
        lab.settle().await;
        assert_eq!(lent(lab), BTreeSet::new(), "after {call}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_gives_back_and_can_be_repeated() {
    let prepare = async |lab: &Lab| {
        network(lab, "far").await.unwrap();
        lab.create("web", json!({"NetworkMode": "away"})).await.unwrap()
    };
    let start = async |lab: &Lab, _: &_| lab.engine.container_start("web").await;
    let calls = each_call_fails(prepare, start, async |lab, _, call, result, before| {
        if result.is_ok() {
            let quiet = ["store.commit container", "runtime.wait", "plugins.endpoint_info"].contains(&call);
            assert!(quiet, "{call} failed unheard");
            return;
        }
        lab.settle().await;
        assert_eq!(held(lab), without_folders(before), "after {call}");
        lab.engine.container_start("web").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
        lab.remove("web").await.unwrap();
    })
    .await;
    assert!(calls > 15, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_gives_back_whatever_single_call_fails() {
    let stop = async |lab: &Lab, _: &_| {
        let stopped = lab.engine.container_stop("web", None, Some(1)).await;
        lab.settle().await;
        stopped
    };
    each_call_fails(
        async |lab| running(lab).await,
        stop,
        async |lab, _, call, result, _| {
            if result.is_err() {
                lab.engine.container_stop("web", None, Some(1)).await.unwrap();
            }
            lab.settle().await;
            lab.remove("web").await.unwrap();
            lab.settle().await;
            lab.engine.network_delete("away").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
            assert_eq!(lent(lab), BTreeSet::new(), "after {call}");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_owes_nothing_and_can_be_repeated() {
    let prepare = async |lab: &Lab| {
        network(lab, "far").await.unwrap();
        lab.running("web", json!({})).await;
        lab.settle().await;
    };
    let connect = async |lab: &Lab, (): &()| lab.connect("away", "web").await;
    let calls = each_call_fails(prepare, connect, async |lab, (), call, result, before| {
        if result.is_ok() {
            return;
        }
        lab.settle().await;
        assert_eq!(held(lab), without_folders(before), "after {call}");
        lab.connect("away", "web").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
    })
    .await;
    assert!(calls > 8, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_disconnection_that_fails_leaves_the_container_in_the_network() {
    let prepare = async |lab: &Lab| {
        network(lab, "far").await.unwrap();
        lab.running("web", json!({})).await;
        lab.connect("away", "web").await.unwrap();
        lab.settle().await;
    };
    let disconnect = async |lab: &Lab, (): &()| lab.disconnect("away", "web").await;
    each_call_fails(prepare, disconnect, async |lab, (), call, result, before| {
        lab.settle().await;
        if result.is_err() {
            assert_eq!(held(lab), without_folders(before), "after {call}");
            lab.disconnect("away", "web").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
        }
        lab.settle().await;
        lab.engine.network_delete("away").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
        assert_eq!(lent(lab), BTreeSet::new(), "after {call}");
    })
    .await;
}

/// gantryd dies with each call of a start: the next one gives back what belongs to no record.
#[tokio::test(start_paused = true)]
async fn what_a_killed_gantryd_had_taken_is_given_back_by_the_next() {
    let mut taken = BTreeSet::new();
    for call in ["plugins.create_endpoint", "plugins.join", "plugins.publish_endpoint", "runtime.create_task"] {
        let lab = Lab::new().await;
        network(&lab, "far").await.unwrap();
        let before = lent(&lab);
        lab.create("web", json!({"NetworkMode": "away"})).await.unwrap();
        lab.fakes.calls.hang(call);
        let engine = lab.engine.clone();
        let start = tokio::spawn(async move { engine.container_start("web").await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        taken.extend(lent(&lab));
        let fakes = lab.fakes.clone();
        start.abort();
        drop(lab);
        fakes.calls.heal();
        let next = Lab::on(fakes).await;
        next.settle().await;
        assert_eq!(lent(&next), before, "killed at {call}");
        next.engine.container_start("web").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
    }
    for kind in ["lent endpoint ", "lent join ", "lent address 10.5.0.2", "debt "] {
        assert!(taken.iter().any(|line| line.starts_with(kind)), "{kind}: {taken:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_is_away_holds_no_removal_up_and_is_told_when_it_is_back() {
    let lab = Lab::new().await;
    running(&lab).await;
    lab.fakes.world().plugin_away = true;
    lab.remove("web").await.unwrap();
    assert!(lent(&lab).iter().any(|line| line.starts_with("debt ")), "{:?}", lent(&lab));
    // Not even the next gantryd waits for it.
    let next = Lab::on(lab.fakes.clone()).await;
    next.settle().await;
    let error = next.engine.network_delete("away").await.unwrap_err();
    assert_eq!(
        error.message(),
        "error while removing network: failed deleting network: could not find plugin far in v1 plugin registry: plugin \
         not found"
    );
    next.fakes.world().plugin_away = false;
    next.settle().await;
    next.engine.network_delete("away").await.unwrap();
    assert_eq!(lent(&next), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_hangs_is_not_waited_for_by_a_removal_by_force() {
    for call in ["plugins.leave", "plugins.delete_endpoint", "plugins.release_address", "plugins.withdraw_endpoint"] {
        let lab = Lab::new().await;
        running(&lab).await;
        lab.fakes.calls.hang(call);
        let begun = tokio::time::Instant::now();
        lab.remove("web").await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(15), "{call}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_waits_for_a_plugin_is_cut_off_by_a_removal_by_force() {
    for call in ["plugins.request_address", "plugins.create_endpoint", "plugins.join"] {
        let lab = Lab::new().await;
        network(&lab, "far").await.unwrap();
        lab.create("web", json!({"NetworkMode": "away"})).await.unwrap();
        lab.fakes.calls.hang(call);
        let engine = lab.engine.clone();
        let start = tokio::spawn(async move { engine.container_start("web").await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = tokio::time::Instant::now();
        lab.remove("web").await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(15), "{call}: {:?}", begun.elapsed());
        assert!(start.await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_given_anew_is_not_taken_from_its_new_owner() {
    let lab = Lab::new().await;
    running(&lab).await;
    // The plugin takes the address back, and its answer is lost.
    lab.fakes.calls.fail_always("plugins.release_address", Error::unavailable("no answer"));
    lab.engine.container_stop("web", None, Some(1)).await.unwrap();
    lab.settle().await;
    lab.fakes.world().lent.remove("address 10.5.0.2 of 10.5.0.0/24");
    lab.running("next", json!({"NetworkMode": "away"})).await;
    assert_eq!(lab.inspect("next").await.networks["away"].ip_address, "10.5.0.2");
    lab.fakes.calls.heal();
    lab.settle().await;
    assert!(lent(&lab).contains("lent address 10.5.0.2 of 10.5.0.0/24"));
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_remembers_nothing_is_told_at_the_start_what_is_in_use() {
    let lab = Lab::new().await;
    running(&lab).await;
    let before = lent(&lab);
    lab.fakes.world().plugin_forgets = true;
    lab.fakes.world().lent.retain(|line| !line.starts_with("pool ") && !line.starts_with("address "));
    let next = Lab::on(lab.fakes.clone()).await;
    next.settle().await;
    assert_eq!(lent(&next), before);
}

/// gantryd dies between the plugin's answer and its own note of it.
#[tokio::test(start_paused = true)]
async fn what_was_given_and_never_noted_is_given_back_and_what_is_in_use_is_not() {
    let lab = Lab::new().await;
    running(&lab).await;
    let before = lent(&lab);
    let gift = |pool: &str, address: Option<&str>| Gift {
        ipam: "far".into(),
        pool: pool.into(),
        address: address.map(|text| text.parse().unwrap()),
    };
    {
        let mut world = lab.fakes.world();
        world.lent.extend(["address 10.5.0.9 of 10.5.0.0/24".to_owned(), "pool 10.6.0.0/24".to_owned()]);
        let unnoted = [("10.5.0.0/24", Some("10.5.0.9")), ("10.6.0.0/24", None)];
        let noted_only_in_records =
            [("10.5.0.0/24", Some("10.5.0.2")), ("10.5.0.0/24", Some("10.5.0.1")), ("10.5.0.0/24", None)];
        world.gifts.extend(unnoted.into_iter().chain(noted_only_in_records).map(|(pool, address)| gift(pool, address)));
    }
    let next = Lab::on(lab.fakes.clone()).await;
    next.settle().await;
    assert_eq!(lent(&next), before);
    assert!(next.fakes.world().gifts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_not_there_is_named() {
    let lab = Lab::new().await;
    let request = NetworkCreate { name: "x".into(), driver: "nosuch".into(), ..NetworkCreate::default() };
    let error = lab.engine.network_create(request).await.unwrap_err();
    assert_eq!(error.message(), "could not find plugin nosuch in v1 plugin registry: plugin not found");
    assert!(error.is_not_found());
}

/// gantryd dies in a connect, before the plugin has said what there is to join: the container goes on without it.
#[tokio::test(start_paused = true)]
async fn a_connection_that_was_cut_off_before_its_join_is_none() {
    let lab = Lab::new().await;
    network(&lab, "far").await.unwrap();
    lab.running("web", json!({})).await;
    lab.settle().await;
    let before = lent(&lab);
    lab.fakes.calls.hang("plugins.join");
    let engine = lab.engine.clone();
    let request = NetworkConnect { container: "web".into(), ..NetworkConnect::default() };
    let connect = tokio::spawn(async move { engine.network_connect("away", request).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_ne!(lent(&lab), before);
    let fakes = lab.fakes.clone();
    connect.abort();
    drop(lab);
    fakes.calls.heal();
    let next = Lab::on(fakes).await;
    next.settle().await;
    assert_eq!(lent(&next), before);
    assert_eq!(next.status("web").await, "running");
    assert!(!next.inspect("web").await.networks.contains_key("away"));
    next.connect("away", "web").await.unwrap();
}
