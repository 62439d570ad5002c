//! `GET /info`.

use std::collections::BTreeMap;

use gantry_domain::settings::RuntimeSettings;
use gantry_engine::system::SystemInfo;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::About;

const HUB: &str = "https://index.docker.io/v1/";

/// Docker's `system.Info`, in Go's order.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct InfoResponse {
    #[serde(rename = "ID")]
    pub id: String,
    pub containers: i64,
    pub containers_running: i64,
    pub containers_paused: i64,
    pub containers_stopped: i64,
    pub images: i64,
    pub driver: String,
    pub driver_status: Vec<[String; 2]>,
    pub plugins: Plugins,
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub cpu_cfs_period: bool,
    pub cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    pub pids_limit: bool,
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    pub debug: bool,
    pub n_fd: u32,
    pub oom_kill_disable: bool,
    pub n_goroutines: i64,
    pub system_time: String,
    pub logging_driver: String,
    pub cgroup_driver: String,
    pub cgroup_version: String,
    pub n_events_listener: i64,
    pub kernel_version: String,
    pub operating_system: String,
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    #[serde(rename = "OSType")]
    pub os_type: String,
    pub architecture: String,
    pub index_server_address: String,
    pub registry_config: RegistryConfig,
    #[serde(rename = "NCPU")]
    pub ncpu: u32,
    pub mem_total: u64,
    pub generic_resources: Option<Vec<String>>,
    pub docker_root_dir: String,
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub name: String,
    pub labels: Vec<String>,
    pub experimental_build: bool,
    pub server_version: String,
    pub runtimes: BTreeMap<String, Runtime>,
    pub default_runtime: String,
    pub swarm: Swarm,
    pub live_restore_enabled: bool,
    pub isolation: String,
    pub init_binary: String,
    pub containerd_commit: Commit,
    pub runc_commit: Commit,
    pub init_commit: Commit,
    pub security_options: Vec<String>,
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discovered_devices: Vec<DeviceInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containerd: Option<ContainerdInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallInfo>,
    pub warnings: Option<Vec<String>>,
}

/// Where containerd answers, and what in it is ours.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerdInfo {
    pub address: String,
    pub namespaces: ContainerdNamespaces,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerdNamespaces {
    pub containers: String,
    /// Empty: there are no plugins in containers.
    pub plugins: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FirewallInfo {
    pub driver: &'static str,
}

/// A device of the host that a container may ask for.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct DeviceInfo {
    /// The driver, `cdi`.
    pub source: &'static str,
    #[serde(rename = "ID")]
    pub id: String,
}

/// Drivers by kind.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Plugins {
    pub volume: Vec<String>,
    pub network: Vec<String>,
    pub authorization: Option<Vec<String>>,
    pub log: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RegistryConfig {
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    pub index_configs: BTreeMap<String, IndexConfig>,
    /// `null` for none, as in dockerd.
    pub mirrors: Option<Vec<String>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct IndexConfig {
    pub name: String,
    pub mirrors: Vec<String>,
    pub secure: bool,
    pub official: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Runtime {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    #[serde(rename = "runtimeArgs", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// What the runtime says of itself, by the name of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<BTreeMap<&'static str, String>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Swarm {
    #[serde(rename = "NodeID")]
    pub node_id: String,
    pub node_addr: String,
    pub local_node_state: String,
    pub control_available: bool,
    pub error: String,
    pub remote_managers: Option<Vec<String>>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Commit {
    #[serde(rename = "ID")]
    pub id: String,
}

pub fn info(found: &SystemInfo, about: &About) -> InfoResponse {
    let (facts, settings, cgroup) = (&found.facts, &found.settings, &found.facts.cgroup);
    InfoResponse {
        id: found.id.clone(),
        containers: found.containers_running + found.containers_paused + found.containers_stopped,
        containers_running: found.containers_running,
        containers_paused: found.containers_paused,
        containers_stopped: found.containers_stopped,
        images: found.images,
        driver: gantry_domain::settings::SNAPSHOTTER.to_owned(),
        driver_status: driver_status(found),
        plugins: plugins(found),
        memory_limit: cgroup.memory_limit,
        swap_limit: cgroup.swap_limit,
        cpu_cfs_period: cgroup.cpu_cfs_period,
        cpu_cfs_quota: cgroup.cpu_cfs_quota,
        cpu_shares: cgroup.cpu_shares,
        cpu_set: cgroup.cpuset,
        pids_limit: cgroup.pids_limit,
        ipv4_forwarding: facts.ipv4_forwarding,
        debug: settings.debug,
        n_fd: facts.open_files,
        oom_kill_disable: cgroup.oom_kill_disable,
        n_goroutines: 0,
        system_time: found.now.to_string(),
        logging_driver: settings.log_config.driver.clone(),
        cgroup_driver: settings.cgroup_driver.clone(),
        cgroup_version: facts.cgroup_version.to_string(),
        n_events_listener: found.event_listeners,
        kernel_version: facts.kernel_version.clone(),
        operating_system: facts.operating_system.clone(),
        os_version: facts.os_version.clone(),
        os_type: "linux".to_owned(),
        architecture: facts.architecture.clone(),
        index_server_address: HUB.to_owned(),
        registry_config: registry_config(&settings.registry_mirrors, &settings.insecure_registries),
        ncpu: facts.cpus,
        mem_total: facts.memory,
        generic_resources: None,
        docker_root_dir: settings.data_root.clone(),
        http_proxy: without_password(&settings.http_proxy),
        https_proxy: without_password(&settings.https_proxy),
        no_proxy: settings.no_proxy.clone(),
        name: facts.hostname.clone(),
        labels: settings.labels.clone(),
        experimental_build: settings.experimental,
        server_version: about.version.clone(),
        runtimes: runtimes(found),
        default_runtime: settings.default_runtime.clone(),
        swarm: Swarm::inactive(),
        live_restore_enabled: settings.live_restore,
        isolation: String::new(),
        init_binary: "docker-init".to_owned(),
        containerd_commit: Commit { id: found.versions.containerd_revision.clone() },
        runc_commit: Commit { id: found.versions.runc_commit.clone() },
        init_commit: Commit { id: found.init_version.clone() },
        security_options: security_options(found),
        cdi_spec_dirs: settings.cdi_spec_dirs.clone(),
        discovered_devices: found.cdi_devices.iter().map(|id| DeviceInfo { source: "cdi", id: id.clone() }).collect(),
        containerd: containerd(found),
        firewall_backend: settings.iptables.then_some(FirewallInfo { driver: "nftables" }),
        warnings: (!found.warnings.is_empty()).then(|| found.warnings.clone()),
    }
}

fn driver_status(found: &SystemInfo) -> Vec<[String; 2]> {
    let pair = |key: &str, value: &str| [key.to_owned(), value.to_owned()];
    let mut status = vec![pair("driver-type", "io.containerd.snapshotter.v1")];
    if !found.facts.backing_filesystem.is_empty() {
        status.push(pair("Backing Filesystem", &found.facts.backing_filesystem));
        // The snapshotter does not start on a file system without.
        status.push(pair("Supports d_type", "true"));
    }
    status
}

/// The default runtime alone was asked what it can do, by whatever name it is called.
fn runtimes(found: &SystemInfo) -> BTreeMap<String, Runtime> {
    let all = &found.settings.runtimes;
    // One that is known by its type alone has no program of which that was asked.
    let default = all.get(&found.settings.default_runtime).map(|runtime| &runtime.path).filter(|path| !path.is_empty());
    let features = &found.versions.runc_features;
    let status = |path: &String| {
        let known = !features.is_empty() && default == Some(path);
        known.then(|| BTreeMap::from([("org.opencontainers.runtime-spec.features", features.clone())]))
    };
    let shown = |(name, runtime): (&String, &RuntimeSettings)| {
        let (path, args) = (runtime.path.clone(), runtime.args.clone());
        (name.clone(), Runtime { status: status(&path), path, args })
    };
    all.iter().map(shown).collect()
}

fn containerd(found: &SystemInfo) -> Option<ContainerdInfo> {
    let versions = &found.versions;
    (!versions.address.is_empty()).then(|| ContainerdInfo {
        address: versions.address.clone(),
        namespaces: ContainerdNamespaces { containers: versions.namespace.clone(), plugins: String::new() },
    })
}

fn plugins(found: &SystemInfo) -> Plugins {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Plugins {
        volume: found.volume_drivers.clone(),
        network: found.network_drivers.clone(),
        authorization: None,
        log: names(&["fluentd", "gelf", "journald", "json-file", "local", "syslog"]),
    }
}

fn registry_config(mirrors: &[String], insecure: &[String]) -> RegistryConfig {
    // dockerd shows each with a slash at its end.
    let mirrors: Vec<String> = mirrors.iter().map(|mirror| format!("{}/", mirror.trim_end_matches('/'))).collect();
    let hub = IndexConfig { name: "docker.io".to_owned(), mirrors: mirrors.clone(), secure: true, official: true };
    let mut index_configs = BTreeMap::from([("docker.io".to_owned(), hub)]);
    let (cidrs, hosts): (Vec<_>, Vec<_>) = insecure.iter().cloned().partition(|entry| entry.contains('/'));
    for name in hosts {
        let config = IndexConfig { name: name.clone(), mirrors: Vec::new(), secure: false, official: false };
        index_configs.insert(name, config);
    }
    let loopback = ["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    let mirrors = (!mirrors.is_empty()).then_some(mirrors);
    RegistryConfig { insecure_registry_cidrs: loopback.into_iter().chain(cidrs).collect(), index_configs, mirrors }
}

fn security_options(found: &SystemInfo) -> Vec<String> {
    let mut options = Vec::new();
    if found.facts.apparmor {
        options.push("name=apparmor".to_owned());
    }
    let profile = match found.settings.seccomp_profile.as_str() {
        "" => "builtin",
        profile => profile,
    };
    options.push(format!("name=seccomp,profile={profile}"));
    if found.settings.selinux.is_some() {
        options.push("name=selinux".to_owned());
    }
    if found.settings.user_namespace.is_some() {
        options.push("name=userns".to_owned());
    }
    if found.settings.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    if found.facts.cgroup_version == 2 {
        options.push("name=cgroupns".to_owned());
    }
    options
}

/// dockerd masks what stands between `//` and `@` of a proxy's address.
fn without_password(proxy: &str) -> String {
    match (proxy.find("://"), proxy.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}xxxxx:xxxxx{}", &proxy[..scheme + 3], &proxy[at..])
        }
        (None, Some(at)) => format!("xxxxx:xxxxx{}", &proxy[at..]),
        _ => proxy.to_owned(),
    }
}

impl Swarm {
    fn inactive() -> Self {
        Self {
            node_id: String::new(),
            node_addr: String::new(),
            local_node_state: "inactive".to_owned(),
            control_available: false,
            error: String::new(),
            remote_managers: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_password_is_not_told() {
        assert_eq!(without_password("http://me:secret@proxy:3128"), "http://xxxxx:xxxxx@proxy:3128");
        assert_eq!(without_password("http://proxy:3128"), "http://proxy:3128");
        assert_eq!(without_password(""), "");
    }

    #[test]
    fn insecure_registries_are_told_apart_from_networks() {
        let config = registry_config(&[], &["10.0.0.0/8".into(), "reg:5000".into()]);
        assert_eq!(config.insecure_registry_cidrs, ["::1/128", "127.0.0.0/8", "10.0.0.0/8"]);
        assert!(!config.index_configs["reg:5000"].secure);
        assert!(config.index_configs["docker.io"].official);
    }
}
