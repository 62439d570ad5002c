//! `GET /networks`, `GET /networks/{id}` and `POST /networks/prune`.

use gantry_domain::{Error, Result, filter::Filters, network::NetworkRecord};

use super::{NetworkContainer, NetworkDetails};
use crate::Engine;

impl Engine {
    pub async fn network_list(&self, filters: &Filters) -> Result<Vec<NetworkRecord>> {
        filters.check_keys(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let dangling = if filters.contains("dangling") { Some(filters.bool_or("dangling", false)?) } else { None };
        for kind in filters.values("type") {
            if kind != "builtin" && kind != "custom" {
                return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
            }
        }
        let networks: Vec<NetworkRecord> = self.parts.claims.lock().networks.values().cloned().collect();
        Ok(networks.into_iter().filter(|network| self.network_matches(network, filters, dangling)).collect())
    }

    fn network_matches(&self, network: &NetworkRecord, filters: &Filters, dangling: Option<bool>) -> bool {
        let kind = if network.predefined { "builtin" } else { "custom" };
        filters.exact_match("driver", &network.driver)
            && filters.pattern_match("id", network.id.as_str())
            && filters.pattern_match("name", &network.name)
            && filters.labels_match("label", &network.labels)
            && filters.exact_match("scope", "local")
            && filters.exact_match("type", kind)
            && dangling.is_none_or(|wanted| wanted == (!network.predefined && !self.network_in_use(network)))
    }

    fn network_in_use(&self, network: &NetworkRecord) -> bool {
        self.snapshots().iter().any(|snapshot| snapshot.record.networks.contains_key(&network.name))
    }

    pub async fn network_inspect(&self, typed: &str) -> Result<NetworkDetails> {
        let record = self.parts.claims.lock().network(typed)?.clone();
        let mut containers = std::collections::BTreeMap::new();
        for snapshot in self.snapshots().into_iter().filter(|snapshot| snapshot.status.has_process()) {
            let run = snapshot.record.run.as_ref();
            let endpoint =
                run.and_then(|run| run.endpoints.values().find(|e| e.network_id.as_ref() == Some(&record.id)));
            if let Some(endpoint) = endpoint {
                let shown = NetworkContainer { name: snapshot.record.name.clone(), endpoint: endpoint.clone() };
                containers.insert(snapshot.record.id.clone(), shown);
            }
        }
        Ok(NetworkDetails { record, containers })
    }

    /// Removes networks that no container is in; the predefined ones stay.
    pub async fn network_prune(&self, filters: &Filters) -> Result<Vec<String>> {
        filters.check_keys(&["label", "label!", "until"])?;
        let until = crate::image::until(filters)?;
        let _one =
            self.parts.pruning.try_lock().map_err(|_| Error::conflict("a prune operation is already running"))?;
        let networks: Vec<NetworkRecord> = self.parts.claims.lock().networks.values().cloned().collect();
        let mut pruned = Vec::new();
        for network in networks {
            let chosen = !network.predefined
                && until.is_none_or(|until| network.created < until)
                && crate::image::prune_labels_match(filters, &network.labels)
                && !self.network_in_use(&network);
            if chosen {
                super::predefined::remove(&self.parts, &network).await?;
                pruned.push(network.name);
            }
        }
        crate::system::prune_event(&self.parts, gantry_domain::event::EventType::Network, 0);
        Ok(pruned)
    }
}
