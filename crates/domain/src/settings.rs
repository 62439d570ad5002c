//! The engine's configuration as one immutable value; an operation reads it once.
//!
//! Built by `daemon` from flags and daemon.json, swapped whole on SIGHUP.

mod shims;

pub use shims::{OtherShimOptions, RuncShimOptions, ShimOptions, ShimSettings, is_shim_name};

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    container::{
        HostConfig,
        host_config::{LogConfig, Ulimit},
    },
    id_maps::{IdMaps, UserNamespace},
};

/// The snapshotter that holds root file systems, and what clients are told as the storage driver.
pub const SNAPSHOTTER: &str = "overlayfs";

/// The runtime that is runc under containerd's own shim instead of ours; Docker has it by this name too.
pub const STOCK_SHIM: &str = "io.containerd.runc.v2";

/// What the engine's verbs read of the configuration. Names are daemon.json's where there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub debug: bool,
    pub experimental: bool,
    pub labels: Vec<String>,
    /// Daemon-wide `log-driver` and `log-opts`.
    pub log_config: LogConfig,
    /// Where the specs of device vendors are; with none there are no devices by CDI.
    pub cdi_spec_dirs: Vec<String>,
    pub default_runtime: String,
    /// Name → path and arguments, or a shim.
    pub runtimes: BTreeMap<String, RuntimeSettings>,
    pub default_ulimits: BTreeMap<String, Ulimit>,
    pub default_shm_size: i64,
    pub default_ipc_mode: String,
    pub default_cgroupns_mode: String,
    pub cgroup_parent: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    pub no_new_privileges: bool,
    pub init: bool,
    pub init_path: String,
    /// Path of a profile, `unconfined`, or empty for the built-in one.
    pub seccomp_profile: String,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub host_gateway_ips: Vec<IpAddr>,
    /// Address that published ports bind when none is given (`--ip`).
    pub default_ip: Option<IpAddr>,
    pub ipv6: bool,
    /// Inter-container communication on the default bridge.
    pub icc: bool,
    /// `--default-network-opt`: by driver, options of networks that do not name them.
    pub default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    pub ip_forward: bool,
    /// Forwarding that we switched on is for everybody: `--ip-forward-no-drop`.
    pub ip_forward_no_drop: bool,
    pub ip_masq: bool,
    pub iptables: bool,
    pub userland_proxy: bool,
    /// MTU of the default bridge; 0 lets the kernel choose.
    pub mtu: u32,
    /// Seconds given to containers when the host shuts down.
    pub shutdown_timeout: Duration,
    pub registry_mirrors: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub live_restore: bool,
    /// The remapped engine's own folders where there is a user namespace.
    pub data_root: String,
    pub exec_root: String,
    /// Containers get a user namespace with these ids, unless they ask for the host's.
    pub user_namespace: Option<UserNamespace>,
    /// Containers are labelled.
    pub selinux: Option<crate::selinux::Policy>,
    pub max_concurrent_downloads: u32,
    pub max_concurrent_uploads: u32,
    /// How often a transfer is begun again that does not get on.
    pub max_download_attempts: u32,
    /// Warnings of the configuration itself, shown in `/info`.
    pub warnings: Vec<String>,
}

impl Settings {
    /// The maps of a container that gets a user namespace.
    pub fn remapping(&self, host: &HostConfig) -> Option<&IdMaps> {
        let remapped = self.user_namespace.as_ref().filter(|_| host.userns_mode != "host");
        remapped.map(|namespace| &namespace.maps)
    }

    /// The maps of everything that lies under the data root; every id is itself where there are none.
    pub fn id_maps(&self) -> IdMaps {
        self.user_namespace.as_ref().map(|namespace| namespace.maps.clone()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeSettings {
    pub path: String,
    #[serde(rename = "runtimeArgs", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Instead of a path.
    #[serde(skip)]
    pub shim: Option<ShimSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            debug: false,
            experimental: false,
            labels: Vec::new(),
            log_config: LogConfig { driver: "json-file".into(), config: None },
            cdi_spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            default_runtime: "runc".into(),
            runtimes: ["runc", STOCK_SHIM]
                .map(|name| (name.into(), RuntimeSettings { path: "runc".into(), ..RuntimeSettings::default() }))
                .into(),
            default_ulimits: BTreeMap::new(),
            default_shm_size: 64 << 20,
            default_ipc_mode: "private".into(),
            default_cgroupns_mode: String::new(),
            cgroup_parent: String::new(),
            cgroup_driver: "cgroupfs".into(),
            no_new_privileges: false,
            init: false,
            init_path: String::new(),
            seccomp_profile: String::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            host_gateway_ips: Vec::new(),
            default_ip: None,
            ipv6: false,
            icc: true,
            default_network_opts: BTreeMap::new(),
            ip_forward: true,
            ip_forward_no_drop: false,
            ip_masq: true,
            iptables: true,
            userland_proxy: true,
            mtu: 0,
            shutdown_timeout: Duration::from_secs(15),
            registry_mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            http_proxy: String::new(),
            https_proxy: String::new(),
            no_proxy: String::new(),
            live_restore: true,
            data_root: "/var/lib/gantry".into(),
            exec_root: "/run/gantry".into(),
            user_namespace: None,
            selinux: None,
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            warnings: Vec::new(),
        }
    }
}
