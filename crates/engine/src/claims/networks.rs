//! Claims on networks: names, bridges and pools; and who is in which.

use gantry_domain::{
    ContainerId, Error, NetworkId, Result,
    network::{NetworkRecord, ipam},
};
use ipnet::IpNet;

use super::Claims;

impl Claims {
    /// Takes name, bridge and pools of a network that is to be made, or says in Docker's words what is in the way.
    pub fn begin_network(&mut self, network: &NetworkRecord) -> Result<()> {
        let all = || self.networks.values().chain(self.passing.values());
        if all().any(|other| other.name == network.name) {
            return Err(Error::conflict(format!("network with name {} already exists", network.name)));
        }
        if !network.bridge.is_empty()
            && let Some(other) = all().find(|other| other.bridge == network.bridge)
        {
            return Err(Error::forbidden(format!(
                "cannot create network {} ({}): conflicts with network {} ({}): networks have same bridge name",
                network.id, network.bridge, other.id, other.bridge
            )));
        }
        self.check_parent(network)?;
        self.check_pools(network)?;
        self.passing.insert(network.id.clone(), network.clone());
        Ok(())
    }

    /// Takes the pools that a plugin has given to a network that is being made.
    pub fn set_pools(&mut self, network: &NetworkRecord) -> Result<()> {
        let before = self.passing.remove(&network.id);
        let checked = self.check_pools(network);
        let stays = if checked.is_ok() { Some(network.clone()) } else { before };
        self.passing.extend(stays.map(|network| (network.id.clone(), network)));
        checked
    }

    /// Where neither addresses nor links are ours, one pool may be in two networks.
    fn check_pools(&self, network: &NetworkRecord) -> Result<()> {
        let foreign = network.driver_plugin().is_some() && network.ipam_plugin().is_some();
        if !foreign && network.subnets().any(|subnet| ipam::overlaps(subnet, &self.subnets())) {
            return Err(Error::forbidden("invalid pool request: Pool overlaps with other one on this address space"));
        }
        Ok(())
    }

    /// A parent that passes everything through belongs to one network.
    fn check_parent(&self, network: &NetworkRecord) -> Result<()> {
        let Some(parent) = network.parent().filter(|_| network.driver == "macvlan") else { return Ok(()) };
        let all = self.networks.values().chain(self.passing.values());
        for other in all.filter(|other| other.driver == "macvlan" && other.parent() == Some(parent)) {
            let id = other.id.short();
            if network.parent_mode()? == "passthru" {
                return Err(Error::forbidden(format!(
                    "cannot use mode passthru, macvlan network {id} is already using parent interface {parent}"
                )));
            }
            if other.parent_mode()? == "passthru" {
                return Err(Error::forbidden(format!(
                    "macvlan network {id} is already using parent interface {parent} in mode passthru"
                )));
            }
        }
        Ok(())
    }

    /// Takes the name alone: a template's pools are nobody's.
    pub fn begin_template(&mut self, template: &NetworkRecord) -> Result<()> {
        if self.networks.values().chain(self.passing.values()).any(|other| other.name == template.name) {
            return Err(Error::conflict(format!("network with name {} already exists", template.name)));
        }
        self.passing.insert(template.id.clone(), template.clone());
        Ok(())
    }

    /// It is made and durable: everybody sees it.
    pub fn finish_network(&mut self, network: NetworkRecord) {
        self.passing.remove(&network.id);
        self.networks.insert(network.id.clone(), network);
    }

    /// Nobody joins it any more; its claims stay until `forget_network`. `Forbidden` while somebody is in it.
    pub fn end_network(&mut self, id: &NetworkId, name_of: impl Fn(&ContainerId) -> String) -> Result<()> {
        if let Some(users) = self.endpoints.get(id).filter(|users| !users.is_empty()) {
            let users: Vec<String> = users
                .iter()
                .map(|(container, endpoint)| format!("name:\"{}\" id:\"{:.12}\"", name_of(container), endpoint))
                .collect();
            let name = self.networks.get(id).map_or("", |network| network.name.as_str());
            return Err(Error::forbidden(format!(
                "error while removing network: network {name} has active endpoints ({})",
                users.join(", ")
            )));
        }
        if let Some(network) = self.networks.remove(id) {
            self.passing.insert(id.clone(), network);
        }
        Ok(())
    }

    /// A removal that was not decided after all.
    pub fn keep_network(&mut self, id: &NetworkId) {
        if let Some(network) = self.passing.remove(id) {
            self.networks.insert(id.clone(), network);
        }
    }

    /// Nothing of it is left, or it was never made.
    pub fn forget_network(&mut self, id: &NetworkId) {
        self.passing.remove(id);
        self.going_networks.remove(id);
        self.networks.remove(id);
        self.endpoints.remove(id);
        self.addresses.remove(id);
    }

    /// Whether it is known, seen or not.
    pub fn has_network(&self, id: &NetworkId) -> bool {
        self.networks.contains_key(id) || self.passing.contains_key(id)
    }

    /// The subnets of all networks.
    pub fn subnets(&self) -> Vec<IpNet> {
        let all = self.networks.values().chain(self.passing.values());
        all.filter(|network| !network.config_only).flat_map(NetworkRecord::subnets).collect()
    }

    /// Whether a running container is in it.
    pub fn is_joined(&self, id: &NetworkId) -> bool {
        self.endpoints.get(id).is_some_and(|users| !users.is_empty())
    }

    pub fn join_network(&mut self, id: &NetworkId, container: &ContainerId, endpoint: &str) {
        self.endpoints.entry(id.clone()).or_default().insert(container.clone(), endpoint.to_owned());
    }

    /// It is to leave a network, and its sandbox has not.
    pub fn leave_half(&mut self, id: &NetworkId, container: &ContainerId) {
        self.half_left.entry(container.clone()).or_default().insert(id.clone());
    }

    pub fn half_left(&self, container: &ContainerId) -> Vec<NetworkId> {
        self.half_left.get(container).into_iter().flatten().cloned().collect()
    }

    /// Containers that are in a network half.
    pub fn leaving(&self) -> Vec<ContainerId> {
        self.half_left.keys().cloned().collect()
    }

    /// Endpoint and addresses in one network.
    pub fn leave_network(&mut self, id: &NetworkId, container: &ContainerId) {
        if let Some(left) = self.half_left.get_mut(container) {
            left.remove(id);
            self.half_left.retain(|_, left| !left.is_empty());
        }
        if let Some(users) = self.endpoints.get_mut(id) {
            users.remove(container);
        }
        if let Some(addresses) = self.addresses.get_mut(id) {
            addresses.free(container);
        }
    }

    /// Endpoints and addresses of a run.
    pub fn leave_networks(&mut self, container: &ContainerId) {
        self.half_left.remove(container);
        for users in self.endpoints.values_mut() {
            users.remove(container);
        }
        for addresses in self.addresses.values_mut() {
            addresses.free(container);
        }
    }

    /// Exact id, then exact name, then id prefix, in Docker's words.
    pub fn network(&self, typed: &str) -> Result<&NetworkRecord> {
        if let Some(found) = self.networks.get(typed) {
            return Ok(found);
        }
        if let Some(found) = self.networks.values().find(|network| network.name == typed) {
            return Ok(found);
        }
        let mut matches =
            self.networks.values().filter(|network| !typed.is_empty() && network.id.as_str().starts_with(typed));
        match (matches.next(), matches.count()) {
            (Some(found), 0) => Ok(found),
            (Some(_), more) => Err(Error::invalid(format!(
                "network {typed} is ambiguous ({} matches found based on ID prefix)",
                more + 1
            ))),
            (None, _) => Err(Error::not_found(format!("network {typed} not found"))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use gantry_domain::network::{Ipam, IpamConfig};

    use super::*;

    fn network(name: &str, subnet: &str) -> NetworkRecord {
        let pool = IpamConfig { subnet: subnet.into(), ..IpamConfig::default() };
        NetworkRecord {
            ipam: Ipam { config: Some(vec![pool]), ..Ipam::default() },
            bridge: format!("br-{name}"),
            ..NetworkRecord::named(name)
        }
    }

    #[test]
    fn name_and_pool_of_a_network_are_taken_until_it_is_gone() {
        let mut claims = Claims::default();
        let one = network("one", "10.1.0.0/24");
        claims.begin_network(&one).unwrap();
        let error = claims.begin_network(&network("one", "10.2.0.0/24")).unwrap_err();
        assert_eq!((error.message(), error.is_conflict()), ("network with name one already exists", true));
        let error = claims.begin_network(&network("two", "10.1.0.128/25")).unwrap_err();
        assert!(error.message().ends_with("Pool overlaps with other one on this address space"));
        assert!(claims.network("one").is_err(), "nobody sees it before it is made");
        claims.finish_network(one.clone());
        assert!(claims.network("one").is_ok());
        claims.end_network(&one.id, |_| String::new()).unwrap();
        assert!(claims.network("one").is_err());
        assert!(claims.begin_network(&one).is_err());
        claims.forget_network(&one.id);
        claims.begin_network(&one).unwrap();
    }

    #[test]
    fn a_network_that_somebody_is_in_stays() {
        let mut claims = Claims::default();
        let one = network("one", "10.1.0.0/24");
        claims.finish_network(one.clone());
        let container = ContainerId::random();
        claims.join_network(&one.id, &container, &"5".repeat(64));
        let error = claims.end_network(&one.id, |_| "web".into()).unwrap_err();
        assert_eq!(
            error.message(),
            "error while removing network: network one has active endpoints (name:\"web\" id:\"555555555555\")"
        );
        claims.leave_networks(&container);
        claims.end_network(&one.id, |_| String::new()).unwrap();
    }
}
