//! Containers: the list's items, inspect, and the answers of the verbs.

use std::collections::BTreeMap;

use gantry_domain::{
    container::{
        Config, ContainerRecord, EndpointSettings, HostConfig, MountPoint as Recorded, Snapshot,
        health::Health,
        host_config::{PortBinding, PortMap},
        record::Run,
        validate::ApiVersion,
    },
    image::Descriptor,
    network::PublishedPort,
};
use gantry_engine::container::{ContainerCreated, ContainerDetails, ContainerTop, Pruned, WaitResult};
use schemars::JsonSchema;
use serde::Serialize;

use super::{DriverData, is_zero};

/// One item of `GET /containers/json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    pub id: String,
    /// With the leading slash.
    pub names: Vec<String>,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    pub command: String,
    /// Unix seconds.
    pub created: i64,
    pub ports: Vec<Port>,
    #[serde(skip_serializing_if = "is_zero")]
    pub size_rw: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub size_root_fs: i64,
    pub labels: BTreeMap<String, String>,
    pub state: String,
    /// `Up 5 minutes (healthy)`.
    pub status: String,
    pub host_config: SummaryHostConfig,
    pub network_settings: SummaryNetworks,
    pub mounts: Vec<MountPoint>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct SummaryNetworks {
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A port of a list's item; address and public port are absent when it is not published.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    pub private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    #[serde(rename = "Type")]
    pub kind: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerInspect {
    pub id: String,
    pub created: String,
    pub path: String,
    pub args: Vec<String>,
    pub state: State,
    pub image: String,
    pub resolv_conf_path: String,
    pub hostname_path: String,
    pub hosts_path: String,
    pub log_path: String,
    pub name: String,
    pub restart_count: u32,
    pub driver: String,
    pub platform: String,
    pub mount_label: String,
    pub process_label: String,
    pub app_armor_profile: String,
    /// Running execs; `null` when there are none.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    pub host_config: HostConfig,
    pub graph_driver: DriverData,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    pub mounts: Vec<MountPoint>,
    pub config: Config,
    pub network_settings: NetworkSettings,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
}

/// `State` of inspect; paused and restarting containers count as running.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    pub status: String,
    pub running: bool,
    pub paused: bool,
    pub restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    pub dead: bool,
    pub pid: u32,
    pub exit_code: i64,
    pub error: String,
    pub started_at: String,
    pub finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// `NetworkSettings` of inspect; the addresses outside `Networks` are the default bridge's.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    pub bridge: String,
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    pub sandbox_key: String,
    pub ports: PortMap,
    pub hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: u8,
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<String>>,
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<String>>,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    pub mac_address: String,
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// 201 of create.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerCreateResponse {
    pub id: String,
    /// Never null: clients iterate it.
    pub warnings: Vec<String>,
}

/// 200 of wait.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerWaitResponse {
    pub status_code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct WaitError {
    pub message: String,
}

/// 200 of top.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerTopResponse {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

/// 200 of prune.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerPruneResponse {
    pub containers_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}

pub fn summary(details: ContainerDetails, now: jiff::Timestamp) -> ContainerSummary {
    let snapshot = &details.snapshot;
    let record = &snapshot.record;
    let health = snapshot.health.as_ref().map(|health| health.status.as_str());
    ContainerSummary {
        id: record.id.to_string(),
        names: std::iter::once(format!("/{}", record.name)).chain(details.link_names).collect(),
        image: details.image_shown,
        image_id: record.image.id.as_ref().map(ToString::to_string).unwrap_or_default(),
        image_manifest_descriptor: details.image_manifest,
        command: command(&record.path, &record.args),
        created: record.created.as_second(),
        ports: summary_ports(&port_map(snapshot)),
        size_rw: details.size_rw.unwrap_or(0),
        size_root_fs: details.size_root.unwrap_or(0),
        labels: record.config.labels.clone().unwrap_or_default(),
        state: snapshot.status.as_str().to_owned(),
        status: gantry_domain::text::status(record, snapshot.status, health, now),
        host_config: SummaryHostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone(),
        },
        network_settings: SummaryNetworks { networks: details.networks },
        mounts: mounts(&record.mounts),
    }
}

/// The same as a version knew it. Lists are long: what can be left out early costs nothing.
pub fn summary_for(version: ApiVersion, mut details: ContainerDetails, now: jiff::Timestamp) -> ContainerSummary {
    if version < ApiVersion(1, 48) {
        details.image_manifest = None;
    }
    let mut item = summary(details, now);
    if version < ApiVersion(1, 46) {
        item.host_config.annotations.clear();
    }
    item
}

pub fn inspect(details: &ContainerDetails) -> ContainerInspect {
    let snapshot = &details.snapshot;
    let record = &snapshot.record;
    let execs: Vec<_> = snapshot.execs.iter().map(ToString::to_string).collect();
    ContainerInspect {
        id: record.id.to_string(),
        created: record.created.to_string(),
        path: record.path.clone(),
        args: record.args.clone(),
        state: state(snapshot),
        image: record.image.id.as_ref().map(ToString::to_string).unwrap_or_default(),
        resolv_conf_path: details.resolv_conf_path.clone(),
        hostname_path: details.hostname_path.clone(),
        hosts_path: details.hosts_path.clone(),
        // dockerd shows the file of json-file alone: the others' format is nobody's interface.
        log_path: match record.host_config.log_config.driver.as_str() {
            "json-file" if record.run.is_some() => record.log_path.clone(),
            _ => String::new(),
        },
        name: format!("/{}", record.name),
        restart_count: record.restart_count,
        driver: record.driver.clone(),
        platform: "linux".to_owned(),
        mount_label: record.mount_label.clone(),
        process_label: record.process_label.clone(),
        app_armor_profile: details.apparmor_profile.clone(),
        exec_ids: (!execs.is_empty()).then_some(execs),
        host_config: record.host_config.clone(),
        graph_driver: DriverData { data: None, name: record.driver.clone() },
        size_rw: details.size_rw,
        size_root_fs: details.size_root,
        mounts: mounts(&record.mounts),
        config: config(record),
        network_settings: network_settings(details),
        image_manifest_descriptor: details.image_manifest.clone(),
    }
}

/// Older clients read the MAC address that was asked for of the main network here.
fn config(record: &ContainerRecord) -> Config {
    let mut config = record.config.clone();
    // dockerd has none where there are none, whatever was sent.
    config.volumes = config.volumes.filter(|volumes| !volumes.is_empty());
    let main = match record.host_config.network_mode.as_str() {
        "" | "default" => "bridge",
        mode => mode,
    };
    if let Some(asked) = record.networks.get(main).filter(|_| config.mac_address.is_empty()) {
        config.mac_address.clone_from(&asked.mac_address);
    }
    config
}

fn state(snapshot: &Snapshot) -> State {
    use gantry_domain::container::Status;
    let record = &snapshot.record;
    let exit = record.run.as_ref().and_then(|run| run.exit);
    let times = snapshot.times();
    State {
        status: snapshot.status.as_str().to_owned(),
        running: snapshot.status.is_running(),
        paused: snapshot.status == Status::Paused,
        restarting: snapshot.status == Status::Restarting,
        oom_killed: exit.is_some_and(|exit| exit.oom_killed),
        dead: snapshot.status == Status::Dead,
        pid: snapshot.pid,
        exit_code: exit.map_or(0, |exit| i64::from(exit.code)),
        error: record.error.clone(),
        started_at: times.started.to_string(),
        finished_at: times.finished.to_string(),
        health: snapshot.health.as_deref().cloned(),
    }
}

fn network_settings(details: &ContainerDetails) -> NetworkSettings {
    let bridge = details.networks.get("bridge").cloned().unwrap_or_default();
    NetworkSettings {
        sandbox_id: details.sandbox_id.clone(),
        sandbox_key: details.sandbox_key.clone(),
        ports: port_map(&details.snapshot),
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: bridge.mac_address,
        networks: details.networks.clone(),
        ..NetworkSettings::default()
    }
}

/// Path and arguments in one line; an argument with a blank is quoted.
fn command(path: &str, args: &[String]) -> String {
    args.iter().fold(path.to_owned(), |line, arg| {
        if arg.contains(' ') { format!("{line} '{arg}'") } else { format!("{line} {arg}") }
    })
}

/// `NetworkSettings.Ports`: exposed ports of a running container, with what they are published as.
fn port_map(snapshot: &Snapshot) -> PortMap {
    let record = &snapshot.record;
    let mut map = PortMap::new();
    let Some(run) = record.run.as_ref().filter(|run| snapshot.status.has_process() && has_own_network(run)) else {
        return map;
    };
    let bindings = record.host_config.port_bindings.iter().flat_map(|bindings| bindings.keys());
    for port in record.config.exposed_ports.keys().chain(bindings) {
        // A range was split into its ports when the container was made.
        if !port.contains('-') {
            map.insert(if port.contains('/') { port.clone() } else { format!("{port}/tcp") }, None);
        }
    }
    for published in &run.ports {
        // A port of a routed network is reached at the container's own address: it has none on the host.
        let host_port = if published.host_port == 0 { String::new() } else { published.host_port.to_string() };
        let binding = PortBinding { host_ip: published.host_ip.to_string(), host_port };
        map.entry(port_key(published)).or_default().get_or_insert_default().push(binding);
    }
    map
}

fn has_own_network(run: &Run) -> bool {
    run.endpoints.values().any(|endpoint| !endpoint.interface.is_empty() || endpoint.ipv4.is_some())
}

fn port_key(published: &PublishedPort) -> String {
    format!("{}/{}", published.container_port, published.protocol.as_str())
}

fn summary_ports(map: &PortMap) -> Vec<Port> {
    let mut ports = Vec::new();
    for (key, bindings) in map {
        let (number, kind) = key.split_once('/').unwrap_or((key, "tcp"));
        let private_port = number.parse().unwrap_or(0);
        let mut push = |ip: String, public_port| {
            ports.push(Port { ip, private_port, public_port, kind: kind.to_owned() });
        };
        match bindings.as_deref() {
            None | Some([]) => push(String::new(), None),
            Some(bindings) => {
                for binding in bindings {
                    push(binding.host_ip.clone(), binding.host_port.parse().ok());
                }
            }
        }
    }
    ports
}

fn mounts(recorded: &[Recorded]) -> Vec<MountPoint> {
    recorded
        .iter()
        .map(|mount| MountPoint {
            kind: mount.kind.clone(),
            name: mount.name.clone(),
            source: mount.source.clone(),
            destination: mount.destination.clone(),
            driver: mount.driver.clone(),
            mode: mount.mode.clone(),
            rw: mount.rw,
            propagation: mount.propagation.clone(),
        })
        .collect()
}

impl From<ContainerCreated> for ContainerCreateResponse {
    fn from(created: ContainerCreated) -> Self {
        Self { id: created.id.to_string(), warnings: created.warnings }
    }
}

impl From<WaitResult> for ContainerWaitResponse {
    fn from(result: WaitResult) -> Self {
        Self { status_code: result.status_code, error: result.error.map(|message| WaitError { message }) }
    }
}

impl From<ContainerTop> for ContainerTopResponse {
    fn from(top: ContainerTop) -> Self {
        Self { titles: top.titles, processes: top.processes }
    }
}

impl From<Pruned> for ContainerPruneResponse {
    fn from(pruned: Pruned) -> Self {
        let deleted = (!pruned.deleted.is_empty()).then_some(pruned.deleted);
        Self { containers_deleted: deleted, space_reclaimed: pruned.reclaimed }
    }
}

#[cfg(test)]
mod tests;
