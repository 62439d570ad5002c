//! Claims that cross objects: names, volumes, networks, addresses, images in use. One short lock, never across an await.

mod addresses;
mod networks;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use gantry_domain::{ContainerId, Digest, Error, NetworkId, Result, network::NetworkRecord, volume::VolumeRecord};

use crate::kept::KeptRecords;
use addresses::Addresses;

/// The index; derived from the records at the start, never stored.
#[derive(Default)]
pub(crate) struct Claims {
    pub kept: KeptRecords,
    names: HashMap<String, ContainerId>,
    pub volumes: BTreeMap<String, VolumeRecord>,
    /// Volumes that have a tombstone and are not gone yet, with their driver. Nobody sees or takes them.
    pub going_volumes: BTreeMap<String, String>,
    volume_users: HashMap<String, BTreeSet<ContainerId>>,
    pub networks: BTreeMap<NetworkId, NetworkRecord>,
    /// Networks that are being made or taken away: name, bridge and pools are theirs, and nobody sees or joins them.
    passing: BTreeMap<NetworkId, NetworkRecord>,
    /// Networks that are to go and did not yet: the sweep goes on with them. With the record of one that was removed and
    /// has its tombstone; without, what is left of one that was never made.
    pub going_networks: BTreeMap<NetworkId, Option<NetworkRecord>>,
    /// Who is in a network now, with the id of the endpoint.
    endpoints: HashMap<NetworkId, BTreeMap<ContainerId, String>>,
    /// Networks that a container's sandbox may be in still though its record is not: it keeps its addresses there.
    half_left: BTreeMap<ContainerId, BTreeSet<NetworkId>>,
    image_users: HashMap<Digest, HashSet<ContainerId>>,
    addresses: HashMap<NetworkId, Addresses>,
    /// SELinux levels of containers; some share one on request.
    levels: HashMap<ContainerId, String>,
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

    /// Its tombstone is durable: it is nobody's any more.
    pub fn volume_goes(&mut self, name: &str) {
        if let Some(volume) = self.volumes.remove(name) {
            self.going_volumes.insert(volume.name, volume.driver);
        }
    }

    pub fn use_image(&mut self, image: &Digest, id: &ContainerId) {
        self.image_users.entry(image.clone()).or_default().insert(id.clone());
    }

    pub fn image_users(&self, image: &Digest) -> Vec<ContainerId> {
        self.image_users.get(image).map(|users| users.iter().cloned().collect()).unwrap_or_default()
    }

    /// Takes the level of a label, where it has one.
    pub fn use_level(&mut self, label: &str, id: &ContainerId) {
        if let Some(level) = gantry_domain::selinux::level(label) {
            self.levels.insert(id.clone(), level);
        }
    }

    pub fn has_level(&self, level: &str) -> bool {
        self.levels.values().any(|taken| taken == level)
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
        self.levels.remove(id);
        self.leave_networks(id);
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
