//! Networks.

use std::collections::BTreeMap;

use gantry_domain::{
    GoTime,
    container::{record::Endpoint, validate::ApiVersion},
    network::{Ipam, NetworkRecord, ipam::Usage},
};
use gantry_engine::network::NetworkDetails;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// From version 1.52 on, of one network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<NetworkStatus>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkStatus {
    #[serde(rename = "IPAM")]
    pub ipam: IpamStatus,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct IpamStatus {
    /// By subnet.
    pub subnets: BTreeMap<String, SubnetStatus>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct SubnetStatus {
    #[serde(rename = "IPsInUse")]
    pub ips_in_use: u64,
    #[serde(rename = "DynamicIPsAvailable")]
    pub dynamic_ips_available: u64,
}

/// 201 of create.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkCreateResponse {
    pub id: String,
    pub warning: String,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
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
        let scope = record.scope().to_owned();
        Self {
            name: record.name,
            id: record.id.to_string(),
            created: record.created.into(),
            scope,
            driver: record.driver,
            enable_ipv4: record.enable_ipv4,
            enable_ipv6: record.enable_ipv6,
            ipam: record.ipam,
            internal: record.internal,
            attachable: record.attachable,
            ingress: false,
            config_from: ConfigFrom { network: record.config_from },
            config_only: record.config_only,
            containers: BTreeMap::new(),
            options: record.options,
            labels: record.labels,
            status: None,
        }
    }
}

/// From this version on one network shows how much of its pools is given out.
const STATUS: ApiVersion = ApiVersion(1, 52);

impl Network {
    pub fn of(details: NetworkDetails, version: ApiVersion) -> Self {
        let containers = details.containers.into_iter();
        let status = (version >= STATUS).then(|| status(&details.usage));
        Self {
            containers: containers
                .map(|(id, container)| (id.to_string(), endpoint(container.name, &container.endpoint)))
                .collect(),
            status,
            ..details.record.into()
        }
    }
}

fn status(usage: &[(ipnet::IpNet, Usage)]) -> NetworkStatus {
    let subnet = |(net, usage): &(ipnet::IpNet, Usage)| {
        (net.to_string(), SubnetStatus { ips_in_use: usage.in_use, dynamic_ips_available: usage.left })
    };
    NetworkStatus { ipam: IpamStatus { subnets: usage.iter().map(subnet).collect() } }
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
