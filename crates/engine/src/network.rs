//! Networks: the predefined ones, list, inspect, prune.

mod inspect;
pub mod predefined;

use std::collections::BTreeMap;

use gantry_domain::{ContainerId, container::record::Endpoint, network::NetworkRecord};

/// `GET /networks/{id}`.
#[derive(Debug, Clone)]
pub struct NetworkDetails {
    pub record: NetworkRecord,
    /// Running containers only.
    pub containers: BTreeMap<ContainerId, NetworkContainer>,
}

#[derive(Debug, Clone)]
pub struct NetworkContainer {
    pub name: String,
    pub endpoint: Endpoint,
}
