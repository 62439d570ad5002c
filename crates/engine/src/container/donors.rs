//! The containers that another one needs for its start: those whose namespaces it joins, and those that it links to.

use std::{collections::HashMap, sync::Arc, time::Duration};

use gantry_domain::{
    ContainerId,
    container::{ContainerRecord, Status},
};
use tokio_util::sync::CancellationToken;

use super::{mounts::shared_with, owner::Handle};
use crate::parts::Parts;

/// How long a start waits for them, as in dockerd.
const LIMIT: Duration = Duration::from_secs(5);

/// Starts that are to come, each cancelled when it is over.
pub(crate) type Starts = HashMap<ContainerId, CancellationToken>;

/// Waits, for a while, until none of a container's donors is about to start: by one of `starts`, or by its policy.
pub(crate) async fn await_donors(parts: &Parts, record: &ContainerRecord, starts: &Starts) {
    let ready = donors(parts, record).into_iter().map(|donor| {
        let start = starts.get(&donor.id).cloned();
        async move {
            match start {
                Some(start) => start.cancelled().await,
                None => restarted(&donor).await,
            }
        }
    });
    // One that does not come up fails the start, or keeps it waiting for its own policy.
    let _ = tokio::time::timeout(LIMIT, futures::future::join_all(ready)).await;
}

async fn restarted(donor: &Handle) {
    let is_over = |donor: &Handle| donor.snapshot().status != Status::Restarting;
    let _ = donor.progress().wait_for(|_| is_over(donor)).await;
}

fn donors(parts: &Parts, record: &ContainerRecord) -> Vec<Arc<Handle>> {
    let host = &record.host_config;
    let modes = [&host.network_mode, &host.pid_mode, &host.ipc_mode];
    let shared = modes.into_iter().filter_map(|mode| shared_with(mode));
    let linked = record.links.iter().map(|link| link.target.as_str());
    shared.chain(linked).filter_map(|other| parts.container(other).ok()).collect()
}
