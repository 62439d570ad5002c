//! What survives of a container: the record that the store keeps, and each run of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Config, EndpointSettings, HostConfig, MountPoint};
use crate::{ContainerId, Digest, ExecId, GoTime, NetworkId, network::PublishedPort, platform::Platform};

/// Version of this shape; a record with a newer one is listed and never changed.
pub const SCHEMA: u32 = 1;

/// One container. Written whole; `generation` grows with each write and the higher one wins over other copies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerRecord {
    pub schema: u32,
    pub generation: u64,
    pub id: ContainerId,
    /// Without the leading slash.
    pub name: String,
    pub created: Timestamp,
    pub config: Config,
    pub host_config: HostConfig,
    /// What was asked of each network, by the network's name as typed; results of a run are in `Run::endpoints`.
    pub networks: BTreeMap<String, EndpointSettings>,
    /// Links on the default bridge.
    pub links: Vec<LinkRecord>,
    pub image: ContainerImage,
    pub path: String,
    pub args: Vec<String>,
    pub mounts: Vec<MountPoint>,
    pub log_path: String,
    /// SELinux labels of its processes and of its files; empty where it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub process_label: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mount_label: String,
    pub driver: String,
    pub desired: Desired,
    /// The latest run, running or over.
    pub run: Option<Run>,
    /// How many runs there have been; numbers the companion's sessions and the log's segments.
    pub runs: u64,
    /// A copy has written to its layer: before its first run it need not be as the image any more.
    pub copied_into: bool,
    /// `unless-stopped` holds across restarts of the engine.
    pub manually_stopped: bool,
    pub restart_count: u32,
    /// Why the last start failed, as inspect's `State.Error`.
    pub error: String,
    /// Health history is recomputable and kept elsewhere; this is the last status that was announced.
    pub health: String,
    /// Removal failed half-way; the container shows as `dead`.
    pub dead: bool,
}

impl Default for ContainerRecord {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            generation: 0,
            id: ContainerId::parse(&"0".repeat(64)).expect("64 zeros are a full id"),
            name: String::new(),
            created: Timestamp::UNIX_EPOCH,
            config: Config::default(),
            host_config: HostConfig::default(),
            networks: BTreeMap::new(),
            links: Vec::new(),
            image: ContainerImage::default(),
            path: String::new(),
            args: Vec::new(),
            mounts: Vec::new(),
            log_path: String::new(),
            process_label: String::new(),
            mount_label: String::new(),
            driver: String::new(),
            desired: Desired::default(),
            run: None,
            runs: 0,
            copied_into: false,
            manually_stopped: false,
            restart_count: 0,
            error: String::new(),
            health: String::new(),
            dead: false,
        }
    }
}

/// `--link db:database`: the target by its id, so that it may be renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    pub target: ContainerId,
    /// Its name when the link was made.
    pub name: String,
    pub alias: String,
}

/// What the engine is to bring about; the state itself is read back from containerd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    #[default]
    Stopped,
    Running,
}

/// The image a container was made from; enough of it to live on when the image is gone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerImage {
    /// Digest of what the name pointed to (index or manifest): the image's id.
    pub id: Option<Digest>,
    /// The platform's manifest.
    pub manifest: Option<crate::image::Descriptor>,
    pub platform: Platform,
    /// The snapshot chain id that the root file system starts from.
    pub chain_id: String,
    /// The image's config blob, byte for byte.
    pub config: String,
}

/// One run of a container, from start to exit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    pub number: u64,
    /// Process ids, namespaces and exec ids hold for one boot only.
    pub boot_id: String,
    pub pid: u32,
    pub started: GoTime,
    pub endpoints: BTreeMap<String, Endpoint>,
    pub ports: Vec<PublishedPort>,
    pub paused: bool,
    /// A commit paused it, and wakes it up again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused_by_commit: bool,
    /// A kill or stop was asked during this run: the restart policy does not apply to its exit.
    pub stop_requested: bool,
    pub exit: Option<Exit>,
    /// Of the runs before this one.
    #[serde(skip_serializing_if = "Times::are_none")]
    pub before: Times,
}

impl Run {
    /// `StartedAt` and `FinishedAt`: a start that failed leaves them as they were, and a run that goes on shows the end
    /// of the one before it.
    pub fn times(&self) -> Times {
        if self.started.is_zero() {
            return self.before;
        }
        Times { started: self.started, finished: self.exit.map_or(self.before.finished, |exit| exit.at.into()) }
    }
}

/// When a container last began to run, and when it last ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    pub started: GoTime,
    pub finished: GoTime,
}

impl Times {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One container's place in one network during a run. Addresses are derived from these; nothing else stores them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    pub network_id: Option<NetworkId>,
    /// 64 hexadecimal digits.
    pub endpoint_id: String,
    /// Numbers the endpoints of a run; the host's end of the link bears it.
    pub slot: u8,
    pub interface: String,
    pub mac: String,
    /// Address with prefix length, `172.17.0.2/16`.
    pub ipv4: Option<ipnet::Ipv4Net>,
    pub ipv4_gateway: Option<std::net::Ipv4Addr>,
    pub ipv6: Option<ipnet::Ipv6Net>,
    pub ipv6_gateway: Option<std::net::Ipv6Addr>,
    /// Of several endpoints the one with the highest gives the default routes.
    pub gw_priority: i64,
    /// Names that the network's other containers know this one by; none on predefined networks.
    pub dns_names: Vec<String>,
    /// Link-local addresses that were asked for.
    pub link_local: Vec<std::net::IpAddr>,
    /// `net.*` settings of this interface.
    pub sysctls: BTreeMap<String, String>,
    /// The mark that something of plugins is to be given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lent: Option<Box<crate::network::lent::Lent>>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0-255; 128+n for a signal; 255 when nobody saw the exit.
    pub code: u32,
    pub at: Timestamp,
    #[serde(default)]
    pub oom_killed: bool,
}

/// An exec that may still be running; kept under the run directory, not in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecRecord {
    pub id: ExecId,
    pub container: ContainerId,
    pub boot_id: String,
    pub config: crate::exec::ExecConfig,
    pub pid: u32,
    pub exit: Option<Exit>,
    /// A health check's: nobody but the gantryd that began it waits for it.
    #[serde(default)]
    pub probe: bool,
}
