//! `POST /commit`: what a container changed becomes the top layer of a new image.

use bytes::Bytes;
use futures::FutureExt as _;
use gantry_domain::{
    Digest, Error, Result,
    container::{Config, ContainerRecord, Status, merge},
    image::{ImageConfig, ImageRunConfig, changes},
    reference::Reference,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ImageCommit, catalog, tag};
use crate::{
    Engine,
    container::owner::{Handle, container_event},
    parts::detached,
};

impl Engine {
    /// Returns the new image's id. A container that runs is paused meanwhile, unless that is not wanted. A client's
    /// hang-up does not cut it short.
    pub async fn image_commit(&self, request: ImageCommit) -> Result<Digest> {
        let name = if request.repo.is_empty() { None } else { Some(tag::new_reference(&request.repo, &request.tag)?) };
        let handle = self.parts.container(&request.container)?;
        let record = handle.snapshot().record;
        let refused = match handle.snapshot().status {
            Status::Dead => Some("Dead"),
            Status::Removing => Some("being removed"),
            _ => None,
        };
        if let Some(state) = refused {
            return Err(Error::conflict(format!("You cannot commit container {} which is {state}", record.id)));
        }
        let run = run_config(&record, &request)?;
        let engine = self.clone();
        detached(async move {
            let paused = request.pause && handle.run(|owner| owner.pause_for_commit().boxed()).await?;
            let work = {
                let (engine, handle, record) = (engine.clone(), handle.clone(), record.clone());
                // On its own: whatever becomes of it, the container is woken up again.
                detached(async move { engine.commit(&handle, &record, &run, &request, name).await })
            };
            let committed = work.await;
            let woken = match paused {
                true => handle.run(|owner| owner.unpause_after_commit().boxed()).await,
                false => Ok(()),
            };
            let id = committed?;
            // A container that is gone meanwhile needs no waking; the image is there all the same.
            if let Err(error) = woken {
                tracing::warn!(container = %handle.id, %error, "the container could not be unpaused after a commit");
            }
            Ok(id)
        })
        .await
    }

    async fn commit(
        &self,
        handle: &Handle,
        record: &ContainerRecord,
        run: &ImageRunConfig,
        request: &ImageCommit,
        name: Option<Reference>,
    ) -> Result<Digest> {
        let ports = &self.parts.ports;
        let mounts = ports.runtime.root_mounts(&handle.id).await?;
        let layer = ports.rootfs.layer(&mounts).await?;
        let config = config(record, run, request, layer.is_none());
        let (target, lease) = ports.images.commit(record.image.manifest.clone(), layer, config).await?;
        let stored = match &name {
            Some(name) => name.canonical(),
            None => catalog::dangling_name(&target.digest),
        };
        let named = tag::point(&self.parts, &stored, &target).await;
        let released = ports.images.release_lease(lease).await;
        named.and(released)?;
        let id = target.digest.as_str();
        tag::publish_labelled(&self.parts, "create", id, id, &target).await;
        let shown = name.map(|name| name.familiar()).unwrap_or_default();
        if !shown.is_empty() {
            tag::publish_labelled(&self.parts, "tag", id, &shown, &target).await;
        }
        let more = [("comment", request.comment.clone()), ("imageID", id.to_owned()), ("imageRef", shown)];
        self.parts.events.publish(container_event(record, "commit".to_owned(), &more, Timestamp::now()));
        Ok(target.digest)
    }
}

/// The request's own config or the container's, changed by the instructions, filled from the container's.
fn run_config(record: &ContainerRecord, request: &ImageCommit) -> Result<ImageRunConfig> {
    let own = request.config.as_ref().unwrap_or(&record.config);
    let mut changed = ImageRunConfig::from(own);
    changes::apply_all(&mut changed, &request.changes)?;
    let mut config = Config::from(changed);
    merge::merge(&mut config, &ImageRunConfig::from(&record.config))?;
    Ok(ImageRunConfig::from(&config))
}

/// The image's config; its layers are filled in by who knows them.
fn config(record: &ContainerRecord, run: &ImageRunConfig, request: &ImageCommit, empty: bool) -> Bytes {
    let parent: Value = serde_json::from_str(&record.image.config).unwrap_or_default();
    let known: ImageConfig = serde_json::from_value(parent.clone()).unwrap_or_default();
    let platform = &record.image.platform;
    let now = Timestamp::now().to_string();
    let author = if request.author.is_empty() { &known.author } else { &request.author };
    let created_by = record.config.cmd.as_deref().unwrap_or_default().join(" ");
    let mut history = parent.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
    history.push(set(json!({
        "created": now,
        "created_by": created_by,
        "author": request.author,
        "comment": request.comment,
        "empty_layer": empty,
    })));
    let config = set(json!({
        "created": now,
        "author": author,
        "architecture": platform.architecture,
        "os": platform.os,
        "os.version": platform.os_version,
        "variant": platform.variant,
        "config": changes::as_json(run),
        "history": history,
    }));
    Bytes::from(config.to_string())
}

/// Only what says something, as Go's `omitempty` leaves it.
fn set(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !(*value == json!("") || *value == json!(false) || value.is_null()))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record() -> ContainerRecord {
        ContainerRecord {
            config: Config {
                cmd: Some(vec!["sleep".into(), "9".into()]),
                env: Some(vec!["A=1".into()]),
                hostname: "not of the image".into(),
                ..Config::default()
            },
            ..ContainerRecord::default()
        }
    }

    #[test]
    fn the_containers_config_is_changed_and_an_entrypoint_drops_its_command() {
        let request = ImageCommit { changes: vec!["ENTRYPOINT [\"/e\"]\nENV B=$A-2".into()], ..ImageCommit::default() };
        let run = run_config(&record(), &request).unwrap();
        assert_eq!(run.entrypoint, Some(vec!["/e".into()]));
        assert_eq!(run.cmd, None);
        assert_eq!(run.env, Some(vec!["A=1".into(), "B=1-2".into()]));
    }

    #[test]
    fn history_grows_by_one_and_keeps_what_it_has_byte_for_byte() {
        let mut record = record();
        record.image.config = r#"{"author":"them","history":[{"created_by":"x","odd":{"z":1}}]}"#.into();
        let request = ImageCommit { comment: "c".into(), ..ImageCommit::default() };
        let value: Value =
            serde_json::from_slice(&config(&record, &ImageRunConfig::default(), &request, true)).unwrap();
        assert_eq!(value["history"][0], json!({"created_by": "x", "odd": {"z": 1}}));
        assert_eq!(value["history"][1]["created_by"], "sleep 9");
        assert_eq!(value["history"][1]["empty_layer"], true);
        assert_eq!(value["author"], "them");
        assert!(value.get("variant").is_none());
    }
}
