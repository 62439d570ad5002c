//! Volumes between several who make and remove them at once, and removals that fail in the middle.

use gantry_domain::{Error, filter::Filters};
use gantry_engine::volume::VolumeCreate;
use serde_json::json;

use crate::lab::Lab;

fn named(name: &str) -> VolumeCreate {
    VolumeCreate { name: name.to_owned(), ..VolumeCreate::default() }
}

impl Lab {
    async fn volume_names(&self) -> Vec<String> {
        let all = self.engine.volume_list(&Filters::default()).await.unwrap();
        all.volumes.into_iter().map(|volume| volume.record.name).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_that_fails_takes_nothing_from_one_that_went_well() {
    let lab = Lab::new().await;
    let (first, second) = (lab.engine.clone(), lab.engine.clone());
    let first = tokio::spawn(async move { first.volume_create(named("data")).await });
    let second = tokio::spawn(async move { second.volume_create(named("data")).await });
    lab.fakes.calls.fail_next("store.commit", Error::system("a write that fails"));
    let results = [first.await.unwrap(), second.await.unwrap()];
    assert!(results.iter().any(Result::is_ok), "one of them failed: {results:?}");
    assert!(lab.fakes.held().contains("volume data"), "{:?}", lab.fakes.held());
    assert_eq!(lab.volume_names().await, ["data"]);
}

#[tokio::test(start_paused = true)]
async fn a_create_beside_a_removal_ends_with_a_volume_that_is_there() {
    let lab = Lab::new().await;
    lab.engine.volume_create(named("data")).await.unwrap();
    let (remover, maker) = (lab.engine.clone(), lab.engine.clone());
    let removal = tokio::spawn(async move { remover.volume_delete("data", false).await });
    tokio::task::yield_now().await;
    let made = tokio::spawn(async move { maker.volume_create(named("data")).await });
    removal.await.unwrap().unwrap();
    made.await.unwrap().unwrap();
    let there = lab.fakes.held().contains("volume data");
    assert_eq!(lab.volume_names().await.contains(&"data".to_owned()), there, "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_after_its_decision_is_finished_by_the_sweep() {
    let lab = Lab::new().await;
    lab.engine.volume_create(named("data")).await.unwrap();
    lab.fakes.calls.fail_next("volumes.remove", Error::system("busy"));
    assert!(lab.engine.volume_delete("data", false).await.is_err());
    assert!(lab.volume_names().await.is_empty(), "it is decided");
    tokio::time::sleep(std::time::Duration::from_secs(400)).await;
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
}

#[tokio::test(start_paused = true)]
async fn a_name_whose_removal_failed_can_be_made_anew_and_is_empty() {
    let lab = Lab::new().await;
    lab.engine.volume_create(named("data")).await.unwrap();
    lab.fakes.calls.fail_next("volumes.remove", Error::system("busy"));
    assert!(lab.engine.volume_delete("data", false).await.is_err());
    lab.engine.volume_create(named("data")).await.unwrap();
    assert_eq!(lab.fakes.calls.count("volumes.remove"), 2, "the old one is taken away first");
    tokio::time::sleep(std::time::Duration::from_secs(400)).await;
    assert_eq!(lab.volume_names().await, ["data"]);
    assert!(lab.fakes.held().contains("volume data"));
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_removal_failed_is_taken_away_by_the_sweep() {
    let lab = Lab::new().await;
    lab.running("web", json!({"Mounts": [{"Type": "volume", "Target": "/x"}]})).await;
    lab.fakes.calls.fail_next("runtime.delete_container", Error::system("busy"));
    assert!(lab.remove("web").await.is_err());
    assert_eq!(lab.status("web").await, "dead");
    tokio::time::sleep(std::time::Duration::from_secs(400)).await;
    assert!(lab.fakes.held().is_empty(), "{:?}", lab.fakes.held());
}
