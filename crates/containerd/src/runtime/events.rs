//! Exits and out-of-memory kills as containerd tells them: a hint, never the truth.
//!
//! containerd sends nothing on a new subscription until something happens, so there would be no telling when it has
//! begun. Each subscription therefore asks for a marker too, which is published until it comes back; from then on no
//! event is missed, and `Reconnected` makes the receiver ask for what was missed before.

use std::time::Duration;

use containerd_client::{
    events::{TaskExit, TaskOom},
    services::v1::{PublishRequest, SubscribeRequest},
    types::Envelope,
};
use gantry_domain::{
    ContainerId, ExecId, Result, id,
    ports::{BoxStream, RuntimeEvent},
};
use prost::Message;
use prost_types::Any;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::Streaming;

use super::task;
use crate::client::{Client, error};

const EXIT: &str = "/tasks/exit";
const OOM: &str = "/tasks/oom";
const MARKER_PERIOD: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub fn subscribe(client: Client, tasks: &TaskTracker) -> BoxStream<RuntimeEvent> {
    let (sender, receiver) = mpsc::channel(256);
    tasks.spawn(async move {
        tokio::select! {
            () = follow(&client, &sender) => {}
            () = sender.closed() => {}
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

async fn follow(client: &Client, to: &Sender<RuntimeEvent>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match open(client).await {
            Ok(stream) => {
                pause = FIRST_PAUSE;
                deliver(stream, to).await;
                tracing::info!("the stream of containerd's events ended, subscribing again");
            }
            Err(error) => tracing::warn!(%error, retry_in = ?pause, "cannot subscribe to containerd's events"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn open(client: &Client) -> Result<Streaming<Envelope>> {
    let marker = format!("/gantry/{}", &id::random_hex()[..16]);
    let namespace = client.namespace();
    let filters = [EXIT, OOM, &marker].map(|topic| format!("namespace==\"{namespace}\",topic==\"{topic}\"")).to_vec();
    let mut events = client.events();
    tokio::select! {
        stream = events.subscribe(SubscribeRequest { filters }) => Ok(stream.map_err(error)?.into_inner()),
        failed = announce(client, &marker) => Err(failed),
    }
}

/// Publishes the marker until the caller has seen it; returns only with an error.
async fn announce(client: &Client, marker: &str) -> gantry_domain::Error {
    loop {
        let event = Some(Any { type_url: "io.gantry/marker".to_owned(), value: Vec::new() });
        let request = PublishRequest { topic: marker.to_owned(), event };
        if let Err(status) = client.events().publish(request).await {
            return error(status);
        }
        tokio::time::sleep(MARKER_PERIOD).await;
    }
}

async fn deliver(mut stream: Streaming<Envelope>, to: &Sender<RuntimeEvent>) {
    if to.send(RuntimeEvent::Reconnected).await.is_err() {
        return;
    }
    while let Ok(Some(envelope)) = stream.message().await {
        let Some(event) = decoded(&envelope) else { continue };
        if to.send(event).await.is_err() {
            return;
        }
    }
}

fn decoded(envelope: &Envelope) -> Option<RuntimeEvent> {
    let bytes = envelope.event.as_ref()?.value.as_slice();
    match envelope.topic.as_str() {
        EXIT => {
            let event = TaskExit::decode(bytes).ok()?;
            let id = ContainerId::parse(&event.container_id).ok()?;
            // The id of init's process is the container's.
            let exec = (event.id != event.container_id).then(|| ExecId::parse(&event.id)).transpose().ok()?;
            let exit = task::exit(event.exit_status, event.exited_at);
            Some(RuntimeEvent::Exited { id, exec, code: exit.code, at: exit.at })
        }
        OOM => {
            let event = TaskOom::decode(bytes).ok()?;
            Some(RuntimeEvent::OutOfMemory { id: ContainerId::parse(&event.container_id).ok()? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_of(container: &str, process: &str) -> Option<RuntimeEvent> {
        let event =
            TaskExit { container_id: container.into(), id: process.into(), exit_status: 3, ..TaskExit::default() };
        let event = Some(Any { type_url: String::new(), value: event.encode_to_vec() });
        decoded(&Envelope { topic: EXIT.into(), event, ..Envelope::default() })
    }

    #[test]
    fn the_exit_of_init_has_no_exec() {
        let id = ContainerId::random();
        assert!(matches!(exit_of(id.as_str(), id.as_str()), Some(RuntimeEvent::Exited { exec: None, code: 3, .. })));
        let exec = ExecId::random();
        let event = exit_of(id.as_str(), exec.as_str());
        assert!(matches!(event, Some(RuntimeEvent::Exited { exec: Some(of), .. }) if of == exec));
    }

    #[test]
    fn events_of_things_that_are_not_ours_are_passed_over() {
        assert_eq!(exit_of("someone-elses", "someone-elses"), None);
    }
}
