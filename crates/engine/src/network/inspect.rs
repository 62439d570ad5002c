//! `GET /networks` and `GET /networks/{id}`.

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
        let (ids, names) = (filters.patterns("id"), filters.patterns("name"));
        let claims = self.parts.claims.lock();
        let is_dangling = |network: &NetworkRecord| !network.predefined && !claims.is_joined(&network.id);
        let chosen = claims.networks.values().filter(|network| {
            let kind = if network.predefined { "builtin" } else { "custom" };
            filters.exact_match("driver", &network.driver)
                && ids.match_text(network.id.as_str())
                && names.match_text(&network.name)
                && filters.labels_match("label", &network.labels)
                && filters.exact_match("scope", network.scope())
                && filters.exact_match("type", kind)
                && dangling.is_none_or(|wanted| wanted == is_dangling(network))
        });
        Ok(chosen.cloned().collect())
    }

    /// With another scope than its own there is none: networks of a swarm do not exist without one.
    pub async fn network_inspect(&self, typed: &str, scope: &str) -> Result<NetworkDetails> {
        let (record, usage) = {
            let claims = self.parts.claims.lock();
            let record = claims.network(typed)?;
            if !scope.is_empty() && scope != record.scope() {
                return Err(Error::not_found(format!("network {typed} not found")));
            }
            (record.clone(), claims.usage(record))
        };
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
        Ok(NetworkDetails { record, containers, usage })
    }
}
