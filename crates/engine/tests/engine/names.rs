//! What the resolvers know, whatever call fails and wherever gantryd dies.

use std::{cell::RefCell, collections::BTreeSet};

use gantry_domain::ContainerId;
use serde_json::json;

use crate::{failures::each_call_fails, lab::Lab};

/// Each network and first name that the container's resolver knows; `None` where it has no resolver.
fn known(lab: &Lab, id: &ContainerId) -> Option<BTreeSet<String>> {
    let world = lab.fakes.world();
    let networks = world.resolvers.get(id)?.networks.iter();
    Some(networks.map(|place| format!("{}: {}", place.network, place.names[0])).collect())
}

fn names<const N: usize>(names: [&str; N]) -> Option<BTreeSet<String>> {
    Some(names.map(str::to_owned).into())
}

async fn in_a_network(lab: &Lab) -> ContainerId {
    lab.network("one").await.unwrap();
    let id = lab.running("web", json!({"NetworkMode": "one"})).await;
    lab.settle().await;
    id
}

async fn on_the_bridge(lab: &Lab) -> ContainerId {
    lab.network("one").await.unwrap();
    let id = lab.running("web", json!({})).await;
    lab.settle().await;
    id
}

#[tokio::test(start_paused = true)]
async fn a_start_with_names_that_fails_is_undone_and_can_be_repeated() {
    let prepare = async |lab: &Lab| {
        lab.network("one").await.unwrap();
        lab.create("web", json!({"NetworkMode": "one"})).await.unwrap()
    };
    let seen = RefCell::new(BTreeSet::new());
    each_call_fails(
        prepare,
        async |lab, _| lab.engine.container_start("web").await,
        async |lab, id, call, result, before| {
            seen.borrow_mut().insert(call);
            if result.is_ok() {
                return;
            }
            let folders = |line: &String| !line.starts_with("folder ");
            let held: BTreeSet<_> = lab.fakes.held().into_iter().filter(folders).collect();
            assert_eq!(held, before.into_iter().filter(folders).collect(), "after {call} failed");
            lab.engine.container_start("web").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
            assert_eq!(known(lab, id), names(["one: web"]), "after {call}");
        },
    )
    .await;
    assert!(seen.into_inner().contains("network.resolve"));
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_fails_leaves_the_old_name_in_the_record_and_in_the_resolver() {
    each_call_fails(
        in_a_network,
        async |lab, _| lab.engine.container_rename("web", "shop").await,
        async |lab, id, call, result, _| {
            if call == "runtime.update_container" {
                // The copy for a damaged store: the rename is done, and durable.
                assert!(result.is_ok() && known(lab, id) == names(["one: shop"]));
                return;
            }
            assert!(result.is_err(), "{call} failed unheard");
            assert_eq!(known(lab, id), names(["one: web"]), "after {call}");
            assert_eq!(lab.inspect("web").await.networks["one"].dns_names.as_ref().unwrap()[0], "web", "after {call}");
            lab.engine.container_rename("web", "shop").await.unwrap_or_else(|error| panic!("after {call}: {error}"));
            assert_eq!(known(lab, id), names(["one: shop"]), "after {call}");
            lab.create("web", json!({})).await.unwrap_or_else(|error| panic!("the old name after {call}: {error}"));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_is_unknown_to_the_resolver() {
    each_call_fails(
        on_the_bridge,
        async |lab, _| lab.connect("one", "web").await,
        async |lab, id, call, result, _| {
            if result.is_err() {
                assert!(known(lab, id).is_none_or(|known| known.is_empty()), "after {call}: {:?}", known(lab, id));
                lab.connect("one", "web").await.unwrap();
            }
            assert_eq!(known(lab, id), names(["one: web"]), "after {call}");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_disconnection_that_fails_is_still_answered_for() {
    each_call_fails(
        in_a_network,
        async |lab, _| lab.disconnect("one", "web").await,
        async |lab, id, call, result, _| {
            if result.is_err() {
                assert_eq!(known(lab, id), names(["one: web"]), "after {call}");
                lab.disconnect("one", "web").await.unwrap();
            }
            assert_eq!(known(lab, id), names([]), "after {call}");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_next_gantryd_tells_the_resolver_what_the_record_says() {
    let lab = Lab::new().await;
    let id = in_a_network(&lab).await;
    // It died with netd; nobody answers.
    lab.fakes.world().resolvers.clear();
    let lab = Lab::on(lab.fakes.clone()).await;
    lab.settle().await;
    assert_eq!(known(&lab, &id), names(["one: web"]));
    // gantryd died between the record of a disconnection and the word to the resolver.
    let stale = lab.fakes.world().resolvers[&id].clone();
    lab.disconnect("one", "web").await.unwrap();
    lab.fakes.world().resolvers.insert(id.clone(), stale);
    let lab = Lab::on(lab.fakes.clone()).await;
    lab.settle().await;
    assert_eq!(known(&lab, &id), names([]));
}

#[tokio::test(start_paused = true)]
async fn a_container_of_the_default_bridge_has_no_resolver() {
    let lab = Lab::new().await;
    let id = on_the_bridge(&lab).await;
    lab.engine.container_rename("web", "shop").await.unwrap();
    let lab = Lab::on(lab.fakes.clone()).await;
    lab.settle().await;
    assert_eq!(known(&lab, &id), None);
}
