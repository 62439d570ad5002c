//! Containers: the requests and answers of their verbs. Each verb has its file below `container/`.

mod addresses;
mod archive;
mod attach;
mod binds;
mod connect;
mod create;
mod delete;
mod devices;
mod disconnect;
mod donors;
mod exit;
mod failed_start;
mod files;
mod health;
mod inspect;
mod kill;
mod lend;
mod lent;
mod links;
mod list;
mod logs;
mod mounts;
mod names;
pub(crate) mod owner;
mod pause;
mod propagation;
mod prune;
mod rejoin;
mod rename;
mod resize;
mod resolver;
mod restart;
mod sandbox;
mod selinux;
mod start;
mod stats;
mod stop;
mod top;
mod unbuilt;
mod update;
mod user_namespace;
mod users;
mod wait;
mod working_dir;

use gantry_domain::{
    ContainerId, Result,
    container::{Config, HostConfig, NetworkingConfig, Snapshot, validate::ApiVersion},
    filter::Filters,
    image::Descriptor,
    log::LogBatch,
    platform::Platform,
    ports::{BoxStream, ByteSink, OutputChunk},
};

pub(crate) use addresses::{random_mac, retake};
pub use archive::ArchivePut;
pub use connect::{NetworkConnect, NetworkDisconnect};
pub(crate) use devices::device_drivers;
pub(crate) use donors::{Starts, await_donors};
pub(crate) use exit::UNSEEN;
pub(crate) use files::exec_process;
pub use gantry_domain::container::state::Outcome;
pub(crate) use health::forget as forget_health;
pub(crate) use links::target as link_target;
pub(crate) use mounts::images as mounted_images;
pub(crate) use owner::container_event;
pub use stats::{ContainerStats, StatsMode, StatsSample};
pub(crate) use stop::{DEFAULT_TIMEOUT, stop_for_shutdown};
pub(crate) use users::{UserFiles, of_exec as exec_user};

/// `POST /containers/create`.
#[derive(Debug, Clone)]
pub struct ContainerCreate {
    pub name: Option<String>,
    pub platform: Option<Platform>,
    pub config: Config,
    pub host_config: HostConfig,
    pub networking: NetworkingConfig,
    pub api: ApiVersion,
}

/// 201 of create.
#[derive(Debug, Clone)]
pub struct ContainerCreated {
    pub id: ContainerId,
    pub warnings: Vec<String>,
}

/// `GET /containers/json`.
#[derive(Debug, Clone, Default)]
pub struct ContainerList {
    pub all: bool,
    /// 0 or negative is none.
    pub limit: i64,
    pub size: bool,
    pub filters: Filters,
    /// Undocumented query parameters of old clients.
    pub since: Option<String>,
    pub before: Option<String>,
}

/// One container as list and inspect show it; the view is made of this in `api`.
#[derive(Debug, Clone)]
pub struct ContainerDetails {
    pub snapshot: Snapshot,
    /// `/web/database` where another links to it; in the list only.
    pub link_names: Vec<String>,
    /// The image as typed, or its id where the name by now points elsewhere.
    pub image_shown: String,
    /// Descriptor of the platform's manifest (`ImageManifestDescriptor`).
    pub image_manifest: Option<Descriptor>,
    /// Bytes; only where asked for.
    pub size_rw: Option<i64>,
    pub size_root: Option<i64>,
    /// `HostsPath`, `HostnamePath`, `ResolvConfPath`.
    pub hosts_path: String,
    pub hostname_path: String,
    pub resolv_conf_path: String,
    /// Id of the sandbox and path of its namespace while it runs.
    pub sandbox_id: String,
    pub sandbox_key: String,
    /// Networks by the name shown: what was asked, with the addresses of the run filled in.
    pub networks: std::collections::BTreeMap<String, gantry_domain::container::EndpointSettings>,
    pub apparmor_profile: String,
}

/// `POST /containers/{id}/attach`.
#[derive(Debug, Clone, Default)]
pub struct ContainerAttach {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Replay the log first.
    pub logs: bool,
    /// Then stay.
    pub stream: bool,
}

/// The streams of an attached client. Output ends when the container's run has ended (or, on a created container that
/// is removed, with it).
pub struct Attached {
    pub id: ContainerId,
    pub terminal: bool,
    pub output: BoxStream<Result<OutputChunk>>,
    pub stdin: Option<ByteSink>,
}

/// 200 of logs.
pub struct ContainerLogs {
    pub terminal: bool,
    pub batches: BoxStream<Result<LogBatch>>,
}

/// `condition` of wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    #[default]
    NotRunning,
    NextExit,
    Removed,
}

/// What wait answers when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitResult {
    pub status_code: i64,
    pub error: Option<String>,
}

/// A wait that is registered; the API sends its headers before it awaits this.
pub type ContainerWait = std::pin::Pin<Box<dyn Future<Output = WaitResult> + Send>>;

/// `DELETE /containers/{id}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContainerDelete {
    /// Anonymous volumes too.
    pub volumes: bool,
    pub force: bool,
    pub link: bool,
}

/// 200 of top.
#[derive(Debug, Clone)]
pub struct ContainerTop {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

/// 200 of a prune: what went, and bytes.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    pub deleted: Vec<String>,
    pub reclaimed: u64,
}
