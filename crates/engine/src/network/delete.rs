//! `DELETE /networks/{id}`: nobody joins any more, a durable tombstone, links and rules away, plugins told, then the 2xx.

use std::time::Duration;

use gantry_domain::{
    Error, Result,
    network::{NetworkRecord, lent::Debt},
    ports::Write,
};

use crate::{
    Engine,
    parts::{Parts, detached},
};

/// What is waited for plugins that have to take back what they gave.
const GIVE_BACK: Duration = Duration::from_secs(8);

impl Engine {
    /// Removes a network that no running container is in. A client's hang-up does not cut it short.
    pub async fn network_delete(&self, typed: &str) -> Result<()> {
        let network = self.parts.claims.lock().network(typed)?.clone();
        let parts = self.parts.clone();
        detached(async move { remove(&parts, &network).await }).await
    }
}

pub(crate) async fn remove(parts: &Parts, network: &NetworkRecord) -> Result<()> {
    let id = &network.id;
    if network.predefined {
        return Err(Error::forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)));
    }
    if parts.claims.lock().is_joined(id) {
        // By one whose end its client has heard of, perhaps.
        parts.ended_runs_are_cleared().await;
    }
    if let Some(driver) = network.driver_plugin() {
        parts.find_driver(driver).await.map_err(|error| error.context("error while removing network"))?;
    }
    {
        let mut claims = parts.claims.lock();
        if !claims.networks.contains_key(id) {
            return Err(Error::not_found(format!("network {} not found", network.name)));
        }
        if network.config_only && claims.networks.values().any(|other| other.config_from == network.name) {
            return Err(Error::forbidden(format!(
                "error while removing network: configuration network \"{}\" is in use",
                network.name
            )));
        }
        claims.end_network(id, |container| name_of(parts, container.as_str()))?;
    }
    let debts = Debt::of_network(network).into_iter().collect();
    if let Err(error) = parts.owe(debts, vec![Write::NetworkTombstone { id: id.clone() }]).await {
        parts.claims.lock().keep_network(id);
        return Err(error);
    }
    // Decided: name and pools are free when nothing is left on the host, now or when the sweep is through with it.
    if let Err(error) = parts.ports.network.remove_network(id).await {
        tracing::warn!(network = %id, %error, "a removal is not through yet");
        parts.claims.lock().going_networks.insert(id.clone(), Some(network.clone()));
        return Err(error.context("error while removing network"));
    }
    // Decided: what a plugin does not take is a debt, and holds nothing up.
    parts.settle(&[id.to_string()], GIVE_BACK).await;
    parts.claims.lock().forget_network(id);
    super::publish(parts, network, "destroy", &[]);
    let (store, id) = (parts.ports.store.clone(), id.clone());
    // Not waited for: a tombstone that is found again has nothing left to do.
    tokio::spawn(async move {
        if let Err(error) = store.commit(vec![Write::NetworkGone { id }]).await {
            tracing::debug!(%error, "the tombstone stays");
        }
    });
    Ok(())
}

fn name_of(parts: &Parts, container: &str) -> String {
    let containers = parts.containers.read();
    containers.get(container).map(|handle| handle.snapshot().record.name.clone()).unwrap_or_default()
}
