//! Networks.

use std::collections::BTreeMap;

use gantry_domain::{
    GoTime,
    container::record::Endpoint,
    network::{Ipam, NetworkRecord},
};
use gantry_engine::network::NetworkDetails;
use schemars::JsonSchema;
use serde::Serialize;

/// A network in the list and in inspect; the list leaves `Containers` empty.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    pub name: String,
    pub id: String,
    pub created: GoTime,
    pub scope: String,
    pub driver: String,
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    pub config_from: ConfigFrom,
    pub config_only: bool,
    /// Running containers by id.
    pub containers: BTreeMap<String, NetworkContainer>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigFrom {
    pub network: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkContainer {
    pub name: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub mac_address: String,
    /// With the prefix length.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// 200 of prune: names.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkPruneResponse {
    pub networks_deleted: Option<Vec<String>>,
}

impl From<NetworkRecord> for Network {
    fn from(record: NetworkRecord) -> Self {
        Self {
            name: record.name,
            id: record.id.to_string(),
            created: record.created.into(),
            scope: "local".to_owned(),
            driver: record.driver,
            enable_ipv4: record.enable_ipv4,
            enable_ipv6: record.enable_ipv6,
            ipam: record.ipam,
            internal: record.internal,
            attachable: record.attachable,
            ingress: false,
            config_from: ConfigFrom::default(),
            config_only: false,
            containers: BTreeMap::new(),
            options: record.options,
            labels: record.labels,
        }
    }
}

impl From<NetworkDetails> for Network {
    fn from(details: NetworkDetails) -> Self {
        let containers = details.containers.into_iter();
        Self {
            containers: containers
                .map(|(id, container)| (id.to_string(), endpoint(container.name, &container.endpoint)))
                .collect(),
            ..details.record.into()
        }
    }
}

fn endpoint(name: String, endpoint: &Endpoint) -> NetworkContainer {
    NetworkContainer {
        name,
        endpoint_id: endpoint.endpoint_id.clone(),
        mac_address: endpoint.mac.clone(),
        ipv4_address: endpoint.ipv4.map(|net| net.to_string()).unwrap_or_default(),
        ipv6_address: endpoint.ipv6.map(|net| net.to_string()).unwrap_or_default(),
    }
}
