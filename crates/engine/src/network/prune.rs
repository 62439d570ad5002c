//! `POST /networks/prune`: networks that no running container is in; the predefined ones stay.

use gantry_domain::{Error, Result, event::EventType, filter::Filters, network::NetworkRecord};

use crate::Engine;

impl Engine {
    pub async fn network_prune(&self, filters: &Filters) -> Result<Vec<String>> {
        filters.check_keys(&["label", "label!", "until"])?;
        let until = crate::image::until(filters)?;
        let _one = self
            .parts
            .pruning
            .containers
            .try_lock()
            .map_err(|_| Error::conflict("a prune operation is already running"))?;
        self.parts.ended_runs_are_cleared().await;
        let networks: Vec<NetworkRecord> = self.parts.claims.lock().networks.values().cloned().collect();
        let mut pruned = Vec::new();
        for network in networks {
            let chosen = !network.predefined
                && !network.config_only
                && until.is_none_or(|until| network.created < until)
                && crate::image::prune_labels_match(filters, &network.labels)
                && !self.parts.claims.lock().is_joined(&network.id);
            if !chosen {
                continue;
            }
            match super::remove(&self.parts, &network).await {
                Ok(()) => pruned.push(network.name),
                // Somebody joined it meanwhile, or it went.
                Err(error) => tracing::info!(network = network.name, %error, "not pruned"),
            }
        }
        crate::system::prune_event(&self.parts, EventType::Network, 0);
        Ok(pruned)
    }
}
