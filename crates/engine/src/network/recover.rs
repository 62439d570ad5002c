//! Networks at the start: what was decided is finished, what was cut off is undone, what is on record is made again.

use std::time::Duration;

use gantry_domain::{
    NetworkId, Result,
    network::NetworkRecord,
    ports::{Loaded, Write},
};

use crate::parts::{Parts, within};

/// A bridge on a busy machine takes its time.
const REMOVAL: Duration = Duration::from_secs(60);

/// Removals that were decided, and links that nobody has a record of.
pub(crate) async fn finish_removals(parts: &Parts, loaded: &Loaded) {
    parts.ports.network.expect_networks(&loaded.networks);
    for id in &loaded.network_tombstones {
        if let Err(error) = take_away(parts, id).await {
            tracing::warn!(network = %id, %error, "a removal is left for the sweep");
            parts.claims.lock().going_networks.insert(id.clone(), None);
        }
    }
    // A log that was lost or damaged says nothing on what there was.
    if !loaded.damage.is_empty() || loaded.networks.is_empty() {
        return;
    }
    for id in parts.ports.network.networks().await.unwrap_or_default() {
        if parts.claims.lock().has_network(&id) {
            continue;
        }
        match parts.ports.network.remove_network(&id).await {
            Ok(()) => tracing::warn!(network = %id, "a network that was cut off in the making is removed"),
            Err(error) => {
                tracing::warn!(network = %id, %error, "half a network is left for the sweep");
                parts.claims.lock().going_networks.insert(id, None);
            }
        }
    }
}

/// Goes on with what failed on its way; names and pools are free when it is through.
pub(crate) async fn finish_going(parts: &Parts) {
    let going: Vec<_> = parts.claims.lock().going_networks.clone().into_iter().collect();
    for (id, removed) in going {
        let gone = async {
            if removed.is_none() {
                // Of an undo: its record may be durable, and its tombstone not.
                parts.ports.store.commit(vec![Write::NetworkTombstone { id: id.clone() }]).await?;
            }
            take_away(parts, &id).await
        };
        match within(REMOVAL, "removing a network", gone).await {
            Ok(()) => {
                parts.claims.lock().forget_network(&id);
                if let Some(network) = removed {
                    super::publish(parts, &network, "destroy", &[]);
                }
            }
            Err(error) => tracing::debug!(network = %id, %error, "a removal is left for the next pass"),
        }
    }
}

async fn take_away(parts: &Parts, id: &NetworkId) -> Result<()> {
    parts.ports.network.remove_network(id).await?;
    parts.ports.store.commit(vec![Write::NetworkGone { id: id.clone() }]).await
}

/// Brings links and rules of the networks on record up. One that cannot be made is said, and keeps no other one down.
pub(crate) async fn ensure(parts: &Parts) {
    let own = |network: &&NetworkRecord| !network.predefined && !network.config_only;
    let networks: Vec<NetworkRecord> = parts.claims.lock().networks.values().filter(own).cloned().collect();
    for network in networks {
        if let Err(error) = parts.ports.network.ensure_network(&network).await {
            parts.warn(format!("WARNING: network {} could not be brought up: {error}", network.name));
        }
    }
}
