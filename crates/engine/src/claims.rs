//! Claims that cross objects: names, volumes, networks, addresses, images in use. One short lock, never across an await.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
};

use gantry_domain::{ContainerId, Digest, Error, NetworkId, Result, network::NetworkRecord, volume::VolumeRecord};

/// The index; derived from the records at the start, never stored.
#[derive(Default)]
pub(crate) struct Claims {
    names: HashMap<String, ContainerId>,
    pub volumes: BTreeMap<String, VolumeRecord>,
    volume_users: HashMap<String, BTreeSet<ContainerId>>,
    pub networks: BTreeMap<NetworkId, NetworkRecord>,
    image_users: HashMap<Digest, HashSet<ContainerId>>,
    addresses: HashMap<NetworkId, HashMap<Ipv4Addr, ContainerId>>,
    last_address: HashMap<NetworkId, Ipv4Addr>,
}

impl Claims {
    /// Takes a name, or says in Docker's words who has it.
    pub fn take_name(&mut self, name: &str, id: &ContainerId) -> Result<()> {
        match self.names.get(name) {
            Some(owner) if owner != id => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or \
                 rename) that container to be able to reuse that name."
            ))),
            _ => {
                self.names.insert(name.to_owned(), id.clone());
                Ok(())
            }
        }
    }

    /// Gives a name back, if it is still this container's.
    pub fn free_name(&mut self, name: &str, id: &ContainerId) {
        if self.names.get(name) == Some(id) {
            self.names.remove(name);
        }
    }

    pub fn has_name(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether a container of this id has a name: it has from the first step of its making on.
    pub fn is_being_made(&self, id: &ContainerId) -> bool {
        self.names.values().any(|owner| owner == id)
    }

    pub fn use_volume(&mut self, name: &str, id: &ContainerId) {
        self.volume_users.entry(name.to_owned()).or_default().insert(id.clone());
    }

    pub fn volume_users(&self, name: &str) -> Vec<ContainerId> {
        self.volume_users.get(name).map(|users| users.iter().cloned().collect()).unwrap_or_default()
    }

    pub fn use_image(&mut self, image: &Digest, id: &ContainerId) {
        self.image_users.entry(image.clone()).or_default().insert(id.clone());
    }

    pub fn image_users(&self, image: &Digest) -> Vec<ContainerId> {
        self.image_users.get(image).map(|users| users.iter().cloned().collect()).unwrap_or_default()
    }

    /// Gives back everything a container has claimed.
    pub fn release(&mut self, id: &ContainerId) {
        self.names.retain(|_, owner| owner != id);
        self.volume_users.retain(|_, users| {
            users.remove(id);
            !users.is_empty()
        });
        self.image_users.retain(|_, users| {
            users.remove(id);
            !users.is_empty()
        });
        self.free_addresses(id);
    }

    /// Takes an address that is known: a restart, or one that the user asked for.
    pub fn take_address(&mut self, network: &NetworkId, address: Ipv4Addr, id: &ContainerId) -> Result<()> {
        let used = self.addresses.entry(network.clone()).or_default();
        match used.get(&address) {
            Some(owner) if owner != id => Err(Error::forbidden("Address already in use")),
            _ => {
                used.insert(address, id.clone());
                Ok(())
            }
        }
    }

    /// Takes the next free address of a network's pool.
    pub fn next_address(&mut self, network: &NetworkId, id: &ContainerId, range: &AddressRange) -> Result<Ipv4Addr> {
        let used = self.addresses.entry(network.clone()).or_default();
        let taken = |address: Ipv4Addr| used.contains_key(&address) || range.reserved.contains(&address);
        let last = self.last_address.get(network).copied();
        let address = gantry_domain::network::ipam::next_address(range.subnet, range.range, &taken, last)?;
        used.insert(address, id.clone());
        self.last_address.insert(network.clone(), address);
        Ok(address)
    }

    pub fn free_addresses(&mut self, id: &ContainerId) {
        for used in self.addresses.values_mut() {
            used.retain(|_, owner| owner != id);
        }
    }

    /// Exact id, then exact name, then id prefix, in Docker's words.
    pub fn network(&self, typed: &str) -> Result<&NetworkRecord> {
        if let Some(found) = self.networks.values().find(|network| network.id.as_str() == typed) {
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

/// Where a network's addresses come from.
pub(crate) struct AddressRange {
    pub subnet: ipnet::Ipv4Net,
    pub range: ipnet::Ipv4Net,
    pub reserved: HashSet<Ipv4Addr>,
}

impl AddressRange {
    /// The first IPv4 pool of a network; `None` where it has none.
    pub fn of(network: &NetworkRecord) -> Option<Self> {
        let pools = network.ipam.config.as_deref().unwrap_or_default();
        pools.iter().find_map(|pool| {
            let subnet: ipnet::Ipv4Net = pool.subnet.parse().ok()?;
            let range = pool.ip_range.parse().unwrap_or(subnet);
            let mut reserved: HashSet<Ipv4Addr> =
                pool.aux_address.values().filter_map(|text| text.parse().ok()).collect();
            reserved.extend(pool.gateway.parse::<Ipv4Addr>().ok());
            Some(Self { subnet, range, reserved })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_refused_in_dockers_words() {
        let (mut claims, first, second) = (Claims::default(), ContainerId::random(), ContainerId::random());
        claims.take_name("web", &first).expect("free");
        let error = claims.take_name("web", &second).expect_err("taken");
        assert!(error.is_conflict());
        assert_eq!(
            error.message(),
            format!(
                "Conflict. The container name \"/web\" is already in use by container \"{first}\". You have to remove (or \
                 rename) that container to be able to reuse that name."
            )
        );
    }

    #[test]
    fn release_frees_everything_of_one_container_only() {
        let (mut claims, first, second) = (Claims::default(), ContainerId::random(), ContainerId::random());
        claims.take_name("a", &first).expect("free");
        claims.use_volume("v", &first);
        claims.use_volume("v", &second);
        claims.release(&first);
        assert!(!claims.has_name("a"));
        assert_eq!(claims.volume_users("v"), vec![second]);
    }
}
