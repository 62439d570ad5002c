//! Networks: the predefined ones, and the verbs on those of one's own. Connect and disconnect are a container's verbs
//! (`container/connect.rs`): its record says which networks it is in.

mod create;
mod delete;
mod inspect;
mod pools;
pub mod predefined;
mod prune;
pub(crate) mod recover;

use std::collections::BTreeMap;

use gantry_domain::{
    ContainerId,
    container::record::Endpoint,
    event::{Event, EventType},
    network::{Ipam, NetworkRecord, ipam::Usage},
};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::parts::Parts;
pub(crate) use delete::remove;

/// `POST /networks/create`.
#[derive(Debug, Clone, Default)]
pub struct NetworkCreate {
    pub name: String,
    /// Empty: `bridge`.
    pub driver: String,
    pub scope: String,
    pub enable_ipv4: Option<bool>,
    pub enable_ipv6: Option<bool>,
    pub ipam: Option<Ipam>,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    pub config_only: bool,
    /// Name of a network that is only a template.
    pub config_from: Option<String>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// `GET /networks/{id}`.
#[derive(Debug, Clone)]
pub struct NetworkDetails {
    pub record: NetworkRecord,
    /// Running containers only.
    pub containers: BTreeMap<ContainerId, NetworkContainer>,
    /// How much of each pool is given out.
    pub usage: Vec<(IpNet, Usage)>,
}

#[derive(Debug, Clone)]
pub struct NetworkContainer {
    pub name: String,
    pub endpoint: Endpoint,
}

/// An event of a network, with its name and type.
pub(crate) fn publish(parts: &Parts, network: &NetworkRecord, action: &str, more: &[(&str, String)]) {
    let own = [("name", network.name.clone()), ("type", network.driver.clone())];
    let attributes = own.iter().chain(more).map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    parts.events.publish(Event {
        kind: EventType::Network,
        action: action.to_owned(),
        actor_id: network.id.to_string(),
        attributes,
        at: Timestamp::now(),
    });
}
