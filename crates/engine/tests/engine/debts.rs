//! Debts to plugins, and addresses, where a second thing fails or two are at it: nothing is lost, nothing is paid twice.

use std::{collections::BTreeSet, time::Duration};

use gantry_domain::{Error, Result, network::Ipam};
use gantry_engine::{container::NetworkConnect, network::NetworkCreate};
use gantry_fakes::Fakes;
use serde_json::json;

use crate::lab::Lab;

/// More calls than any verb makes.
const MANY: usize = 60;

async fn network(lab: &Lab) -> Result<gantry_domain::NetworkId> {
    let ipam = Some(Ipam { driver: "far".into(), ..Ipam::default() });
    let request = NetworkCreate { name: "away".into(), driver: "far".into(), ipam, ..NetworkCreate::default() };
    lab.engine.network_create(request).await
}

fn lines(lab: &Lab, beginning: &str) -> BTreeSet<String> {
    lab.fakes.held().into_iter().filter(|line| line.starts_with(beginning)).collect()
}

fn error() -> Error {
    Error::system("ordered")
}

/// What the plugin has lent is what records use, and nothing is owed.
async fn assert_even(lab: &Lab, what: &str) {
    assert_eq!(lines(lab, "debt "), BTreeSet::new(), "{what}");
    let connected = lab.inspect("web").await.networks.get("away").is_some_and(|it| !it.ip_address.is_empty());
    assert_eq!(lines(lab, "lent endpoint ").len(), usize::from(connected), "{what}");
    assert_eq!(lines(lab, "lent address 10.5.0.2").len(), usize::from(connected), "{what}");
}

/// One that runs on our bridge, and is in the plugin's network too.
async fn connected() -> Lab {
    let lab = Lab::new().await;
    network(&lab).await.unwrap();
    lab.running("web", json!({})).await;
    lab.connect("away", "web").await.unwrap();
    lab.settle().await;
    lab
}

#[tokio::test(start_paused = true)]
async fn a_disconnection_whose_undo_fails_too_loses_no_debt() {
    for n in 0..MANY {
        let lab = connected().await;
        lab.fakes.calls.forget();
        lab.fakes.calls.fail_next("network.update_sandbox", error());
        lab.fakes.calls.fail_after(n);
        let result = lab.disconnect("away", "web").await;
        let failed = lab.fakes.calls.failed();
        lab.fakes.calls.heal();
        if failed == ["network.update_sandbox"] {
            assert!(n > 5, "{n} calls");
            return;
        }
        assert!(result.is_err(), "{failed:?}");
        let what = format!("after {failed:?}");
        lab.settle().await;
        assert_even(&lab, &what).await;
        // So it is for the next gantryd.
        let next = Lab::on(lab.fakes.clone()).await;
        next.settle().await;
        assert_even(&next, &what).await;
        if next.inspect("web").await.networks.contains_key("away") {
            next.disconnect("away", "web").await.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        next.settle().await;
        next.engine.network_delete("away").await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(lines(&next, "lent "), BTreeSet::new(), "{what}");
    }
    panic!("a verb of more than {MANY} calls");
}

/// `docker network connect --ip`.
async fn connect_at(lab: &Lab, container: &str, address: &str) -> Result<()> {
    let endpoint = serde_json::from_value(json!({"IPAMConfig": {"IPv4Address": address}})).unwrap();
    lab.engine.network_connect("net", NetworkConnect { container: container.into(), endpoint }).await
}

#[tokio::test(start_paused = true)]
async fn an_address_is_free_when_the_sandbox_has_let_go_of_it() {
    let lab = Lab::new().await;
    let ipam = serde_json::from_value(json!({"Config": [{"Subnet": "10.9.0.0/24"}]})).unwrap();
    let request = NetworkCreate { name: "net".into(), ipam: Some(ipam), ..NetworkCreate::default() };
    lab.engine.network_create(request).await.unwrap();
    lab.running("web", json!({})).await;
    lab.running("other", json!({})).await;
    // Neither the connection nor its undo goes through.
    lab.fakes.calls.fail_next("network.update_sandbox", error());
    lab.fakes.calls.fail_next("network.update_sandbox", error());
    connect_at(&lab, "web", "10.9.0.7").await.unwrap_err();
    assert!(!lab.inspect("web").await.networks.contains_key("net"));
    let taken = connect_at(&lab, "other", "10.9.0.7").await.unwrap_err();
    assert!(taken.message().contains("Address already in use"), "{taken}");
    let error = lab.engine.network_delete("net").await.unwrap_err();
    assert!(error.message().contains("has active endpoints"), "{error}");
    lab.settle().await;
    connect_at(&lab, "other", "10.9.0.7").await.unwrap();
    lab.connect("net", "web").await.unwrap();
}

/// The same where the address is another's to give: our bridge, a plugin's addresses.
#[tokio::test(start_paused = true)]
async fn a_plugins_address_goes_back_when_the_sandbox_has_let_go_of_it() {
    for by_the_sweep in [true, false] {
        let lab = Lab::new().await;
        let ipam = Some(Ipam { driver: "far".into(), ..Ipam::default() });
        let request = NetworkCreate { name: "away".into(), ipam, ..NetworkCreate::default() };
        lab.engine.network_create(request).await.unwrap();
        lab.running("web", json!({})).await;
        let before = lines(&lab, "lent address ");
        lab.fakes.calls.fail_always("network.update_sandbox", error());
        lab.connect("away", "web").await.unwrap_err();
        lab.settle().await;
        assert_eq!(lines(&lab, "lent address ").len(), before.len() + 1, "its sandbox has it");
        lab.fakes.calls.heal();
        if by_the_sweep {
            lab.settle().await;
        } else {
            lab.remove("web").await.unwrap();
        }
        lab.settle().await;
        assert_eq!(lines(&lab, "lent address "), before);
        assert_eq!(lines(&lab, "debt "), BTreeSet::new());
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_connection_is_finished_by_the_next_verb_and_ends_with_the_run() {
    let lab = Lab::new().await;
    lab.network("net").await.unwrap();
    lab.running("web", json!({})).await;
    lab.fakes.calls.fail_always("network.update_sandbox", error());
    lab.connect("net", "web").await.unwrap_err();
    lab.fakes.calls.heal();
    lab.connect("net", "web").await.unwrap();
    assert!(!lab.inspect("web").await.networks["net"].ip_address.is_empty());
    lab.fakes.calls.fail_always("network.update_sandbox", error());
    lab.disconnect("net", "web").await.unwrap_err();
    lab.remove("web").await.unwrap();
    lab.engine.network_delete("net").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pools_that_do_not_fit_go_back_once_whatever_fails() {
    let lab = Lab::new().await;
    lab.fakes.world().host_routes = vec!["10.5.0.0/16".parse().unwrap(), "10.6.0.0/16".parse().unwrap()];
    // The plugin does not take them: the network is made all the same, and they stay owed.
    lab.fakes.calls.fail_always("plugins.release_pool", Error::unavailable("no answer"));
    network(&lab).await.unwrap();
    let pools = |lab: &Lab| lines(lab, "lent pool ").into_iter().collect::<Vec<_>>();
    assert_eq!(pools(&lab), ["lent pool 10.5.0.0/24", "lent pool 10.6.0.0/24", "lent pool 10.7.0.0/24"]);
    lab.settle().await;
    assert_eq!(lines(&lab, "debt ").len(), 2);
    lab.fakes.calls.heal();
    lab.fakes.calls.forget();
    // Also where the next gantryd has to do it.
    let fakes = lab.fakes.clone();
    drop(lab);
    let next = Lab::on(fakes).await;
    next.settle().await;
    assert_eq!((pools(&next), lines(&next, "debt ").len()), (vec!["lent pool 10.7.0.0/24".to_owned()], 0));
    assert_eq!(next.fakes.calls.count("plugins.release_pool"), 2);
    next.engine.network_delete("away").await.unwrap();
    assert_eq!(lines(&next, "lent "), BTreeSet::new());
}

/// The plugin gives a pool that did not fit to the next who asks, before this network is made: it is that one's.
#[tokio::test(start_paused = true)]
async fn a_pool_that_went_back_is_not_taken_from_its_next_owner() {
    let lab = Lab::new().await;
    lab.fakes.world().host_routes = vec!["10.5.0.0/16".parse().unwrap()];
    lab.fakes.calls.hang("plugins.create_network");
    let engine = lab.engine.clone();
    let ipam = Some(Ipam { driver: "far".into(), ..Ipam::default() });
    let request = NetworkCreate { name: "slow".into(), driver: "far".into(), ipam, ..NetworkCreate::default() };
    let making = tokio::spawn(async move { engine.network_create(request).await });
    lab.settle().await;
    assert!(!lines(&lab, "lent ").contains("lent pool 10.5.0.0/24"), "{:?}", lines(&lab, "lent "));
    // Somebody who is not us.
    lab.fakes.world().lent.insert("pool 10.5.0.0/24".into());
    let fakes = lab.fakes.clone();
    making.abort();
    drop(lab);
    fakes.calls.heal();
    let next = Lab::on(fakes).await;
    next.settle().await;
    assert_eq!(lines(&next, "lent "), BTreeSet::from(["lent pool 10.5.0.0/24".to_owned()]));
}

/// Of a run that is over something is held still: what the first try took goes back before the second asks.
#[tokio::test(start_paused = true)]
async fn a_second_try_of_a_start_takes_anew_and_leaves_nothing_of_the_first() {
    let lab = Lab::new().await;
    let ipam = Some(Ipam { driver: "far".into(), ..Ipam::default() });
    let request = NetworkCreate { name: "away".into(), ipam, ..NetworkCreate::default() };
    lab.engine.network_create(request).await.unwrap();
    lab.running("old", json!({})).await;
    let config = json!({"NetworkMode": "away", "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}});
    lab.create("web", config).await.unwrap();
    lab.settle().await;
    lab.fakes.calls.forget();
    lab.fakes.calls.slow("network.release_ports", Duration::from_secs(2));
    let engine = lab.engine.clone();
    let stop = tokio::spawn(async move { engine.container_kill("old", Some("KILL")).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    lab.fakes.calls.fail_next("network.reserve_ports", Error::system("port is already allocated"));
    lab.engine.container_start("web").await.unwrap();
    stop.await.unwrap().unwrap();
    let calls = &lab.fakes.calls;
    let count = |call| calls.count(call);
    assert_eq!((count("network.reserve_ports"), count("plugins.request_address")), (2, 2));
    lab.settle().await;
    // What went back went once.
    assert_eq!((count("plugins.release_address"), lines(&lab, "debt ").len()), (1, 0));
    assert_eq!(lines(&lab, "lent address 10.5.0.").len(), 2, "its own and the gateway's");
    assert_eq!(lab.inspect("web").await.networks["away"].ip_address, "10.5.0.2");
    lab.remove("web").await.unwrap();
    lab.engine.network_delete("away").await.unwrap();
    assert_eq!(lines(&lab, "lent "), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_container_with_a_user_namespace_is_in_a_plugins_network() {
    let lab = Lab::remapped_on(Fakes::new()).await;
    network(&lab).await.unwrap();
    let id = lab.running("web", json!({"NetworkMode": "away"})).await;
    let calls = &lab.fakes.calls;
    assert_eq!((calls.count("network.create_sandbox"), calls.count("network.wire_sandbox")), (0, 1));
    let order: Vec<_> =
        calls.made().into_iter().filter(|call| ["network.wire_sandbox", "plugins.join"].contains(call)).collect();
    assert_eq!(order, ["network.wire_sandbox", "plugins.join"], "the namespace is there when the plugin is told of it");
    assert!(lab.fakes.held().contains(&format!("interface {id} eth0 away")), "{:?}", lab.fakes.held());
    for kind in ["lent endpoint ", "lent join ", "lent published "] {
        assert_eq!(lines(&lab, kind).len(), 1, "{kind}");
    }
    lab.engine.container_stop("web", None, Some(1)).await.unwrap();
    lab.settle().await;
    assert_eq!((lines(&lab, "lent endpoint ").len(), lines(&lab, "debt ").len()), (0, 0));
    // One that cannot join does not run, and nothing of it stays.
    lab.fakes.calls.fail_next("plugins.join", error());
    lab.engine.container_start("web").await.unwrap_err();
    lab.settle().await;
    assert_eq!((lines(&lab, "lent endpoint ").len(), lines(&lab, "debt ").len()), (0, 0));
    lab.engine.container_start("web").await.unwrap();
    lab.connect("bridge", "web").await.unwrap();
    lab.disconnect("away", "web").await.unwrap();
    lab.remove("web").await.unwrap();
    lab.engine.network_delete("away").await.unwrap();
    assert_eq!(lines(&lab, "lent "), BTreeSet::new());
}

/// The end of the run, the passes and a removal are all at the same debt, and the plugin takes its time.
#[tokio::test(start_paused = true)]
async fn a_debt_is_paid_once_however_many_are_at_it() {
    let lab = Lab::new().await;
    network(&lab).await.unwrap();
    lab.running("web", json!({"NetworkMode": "away"})).await;
    lab.settle().await;
    lab.fakes.calls.forget();
    for call in ["plugins.withdraw_endpoint", "plugins.leave", "plugins.delete_endpoint", "plugins.release_address"] {
        lab.fakes.calls.slow(call, Duration::from_millis(500));
    }
    lab.engine.container_kill("web", Some("KILL")).await.unwrap();
    lab.remove("web").await.unwrap();
    lab.settle().await;
    for call in ["plugins.withdraw_endpoint", "plugins.leave", "plugins.delete_endpoint", "plugins.release_address"] {
        assert_eq!(lab.fakes.calls.count(call), 1, "{call}");
    }
    assert_eq!(lines(&lab, "debt "), BTreeSet::new());
    lab.engine.network_delete("away").await.unwrap();
    assert_eq!(lines(&lab, "lent "), BTreeSet::new());
}
