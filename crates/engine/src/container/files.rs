//! What is made for a container beside its root file system: `hosts`, `hostname`, `resolv.conf`, the log's place, the
//! OCI spec.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use bytes::Bytes;
use gantry_domain::{
    Result,
    container::{ContainerRecord, host_config::DeviceMapping, log_attrs, log_shipment::REMOTE, user::User},
    exec::ExecConfig,
    network::{hosts, links::Link},
    ports::{DeviceNode, LogFile, LogSink, RuntimeContainer, StdioSetup},
    text::{parse_bool, ram_in_bytes},
};
use gantry_spec::{Device, ExecInput, HostFiles, Namespace, SpecInput};

use super::{inspect::files_owner, links::addresses_of, mounts::shared_with, owner::Owner, users};
use crate::parts::Parts;

/// Largest seccomp profile or host's hosts file that is read, bytes.
const MAX_FILE: u64 = 4 << 20;

/// Makes containerd's container object and the snapshot, with the spec as far as it can be known before a start.
pub(crate) async fn create_in_containerd(parts: &Parts, record: &mut ContainerRecord) -> Result<()> {
    record.log_path = log_path(parts, record);
    let setup = RuntimeContainer {
        id: record.id.clone(),
        chain_id: record.image.chain_id.clone(),
        snapshotter: record.driver.clone(),
        runtime: record.host_config.runtime.clone(),
        spec: Bytes::from_static(b"{}"),
        record: Bytes::from(serde_json::to_vec(record).expect("a record is plain data")),
        image: record.config.image.clone(),
    };
    parts.ports.runtime.create_container(&setup).await
}

/// `LogPath`; empty where nothing is kept.
fn log_path(parts: &Parts, record: &ContainerRecord) -> String {
    let folder = parts.ports.files.path(&record.id);
    let file = match record.host_config.log_config.driver.as_str() {
        "none" => return String::new(),
        "json-file" => folder.join(format!("{}-json.log", record.id)),
        _ => folder.join("local-logs/container.log"),
    };
    file.to_string_lossy().into_owned()
}

/// The OCI process of an exec.
pub(crate) async fn exec_process(
    parts: &Parts,
    record: &ContainerRecord,
    exec: &ExecConfig,
    user: &User,
    console_size: Option<[u32; 2]>,
) -> Result<Bytes> {
    let settings = parts.settings.load_full();
    let facts = parts.confining_facts(&record.host_config).await;
    let exec = ExecConfig { console_size, ..exec.clone() };
    let links = super::links::of(parts, record).unwrap_or_default();
    let variables: Vec<String> = links.iter().flat_map(Link::variables).collect();
    let env_extra = variables.as_slice();
    gantry_spec::exec_process(&ExecInput { record, exec: &exec, settings: &settings, facts: &facts, user, env_extra })
}

impl Owner {
    /// The spec of the run to come.
    pub(crate) async fn spec(&self) -> Result<Bytes> {
        let parts = &self.parts;
        let record = &self.record;
        let settings = parts.settings.load_full();
        let facts = parts.confining_facts(&record.host_config).await;
        let user = users::of_start(parts, record).await?;
        let folder = parts.ports.files.path(&files_owner(record));
        let files = HostFiles {
            resolv_conf: Some(folder.join("resolv.conf")),
            hostname: Some(folder.join("hostname")),
            hosts: Some(folder.join("hosts")),
            shm: super::mounts::memory_place(parts, record),
        };
        let seccomp_profile = self.seccomp_profile().await?.map(Bytes::from);
        super::propagation::check(parts, &record.mounts).await?;
        let init_path = self.init_path();
        let input = SpecInput {
            record,
            settings: &settings,
            facts: &facts,
            user: &user,
            network: &self.network_namespace()?,
            ipc: &self.namespace(&record.host_config.ipc_mode, "ipc")?,
            pid: &self.namespace(&record.host_config.pid_mode, "pid")?,
            user_namespace: &self.user_namespace()?,
            id_maps: &self.remapping().unwrap_or_default(),
            mounts: &super::mounts::bound(parts, record),
            files: &files,
            devices: &self.devices().await?,
            edits: &self.device_edits().await?,
            block_devices: &self.block_devices().await?,
            init_path: init_path.as_deref(),
            seccomp_profile: seccomp_profile.as_ref(),
            env_extra: &self.link_variables()?,
        };
        gantry_spec::runtime_spec(&input)
    }

    pub(crate) fn network_namespace(&self) -> Result<Namespace> {
        let mode = &self.record.host_config.network_mode;
        if mode == "host" || shared_with(mode).is_some() {
            return self.namespace(mode, "net");
        }
        if self.remapping().is_some() {
            return Ok(Namespace::New);
        }
        let exec_root = self.parts.settings.load().exec_root.clone();
        Ok(Namespace::Join(PathBuf::from(exec_root).join("netns").join(self.record.id.as_str())))
    }

    /// The namespace that a mode means: the host's, another container's, or one of its own.
    pub(crate) fn namespace(&self, mode: &str, kind: &str) -> Result<Namespace> {
        if mode == "host" {
            return Ok(Namespace::Host);
        }
        Ok(self
            .process_of(mode, kind)?
            .map_or(Namespace::New, |process| Namespace::Join(process.join("ns").join(kind))))
    }

    async fn seccomp_profile(&self) -> Result<Option<Vec<u8>>> {
        let settings = self.parts.settings.load_full();
        match settings.seccomp_profile.as_str() {
            "" | "builtin" | "unconfined" => Ok(None),
            path => self.parts.ports.host.read_file(path, MAX_FILE).await.map(Some),
        }
    }

    /// What `--device` names, and every device of the host for a privileged container.
    async fn devices(&self) -> Result<Vec<Device>> {
        let host = &self.parts.ports.host;
        let config = &self.record.host_config;
        if config.privileged {
            let all = host.devices("/dev").await?.into_iter();
            let device =
                |node: DeviceNode| Device { path_in_container: node.path.clone(), access: "rwm".to_owned(), node };
            return Ok(all.map(device).collect());
        }
        let mut devices = Vec::new();
        for mapping in config.devices.as_deref().unwrap_or_default() {
            for node in host.devices(&mapping.path_on_host).await? {
                devices.push(mapped(mapping, node));
            }
        }
        Ok(devices)
    }

    /// Numbers of the devices that the block I/O limits name.
    pub(crate) async fn block_devices(&self) -> Result<BTreeMap<String, (u32, u32)>> {
        let config = &self.record.host_config;
        let throttled = [
            &config.blkio_device_read_bps,
            &config.blkio_device_write_bps,
            &config.blkio_device_read_iops,
            &config.blkio_device_write_iops,
        ];
        let paths = throttled.into_iter().flatten().flatten().map(|device| &device.path);
        let paths = paths.chain(config.blkio_weight_device.iter().flatten().map(|device| &device.path));
        let mut numbers = BTreeMap::new();
        for path in paths {
            for node in self.parts.ports.host.devices(path).await? {
                numbers.insert(path.clone(), (node.major, node.minor));
            }
        }
        Ok(numbers)
    }

    fn init_path(&self) -> Option<PathBuf> {
        let settings = self.parts.settings.load();
        let host = &self.record.host_config;
        // Where another one is process 1, it reaps.
        let wanted = host.init.unwrap_or(settings.init) && host.pid_mode.is_empty();
        wanted.then(|| PathBuf::from(&settings.init_path))
    }

    /// `hosts`, `hostname` and `resolv.conf`, as dockerd makes them; none where another container's are used.
    pub(crate) async fn files(&self) -> Result<Vec<(String, Bytes)>> {
        let record = &self.record;
        if shared_with(&record.host_config.network_mode).is_some() {
            return Ok(Vec::new());
        }
        let hostname = format!("{}\n", record.config.hostname);
        Ok(vec![
            ("hosts".to_owned(), Bytes::from(self.hosts().await?)),
            ("hostname".to_owned(), Bytes::from(hostname)),
            ("resolv.conf".to_owned(), Bytes::from(self.resolv_conf().await?.content)),
        ])
    }

    async fn hosts(&self) -> Result<String> {
        let record = &self.record;
        let mut extra = self.extra_hosts();
        if record.host_config.network_mode == "host" {
            let base = self.parts.ports.host.read_file("/etc/hosts", MAX_FILE).await.unwrap_or_default();
            return Ok(hosts::append(&String::from_utf8_lossy(&base), &extra));
        }
        for link in self.links()? {
            extra.extend(link.addresses.iter().map(|address| (link.names(), address.to_string())));
        }
        let endpoints = record.run.iter().flat_map(|run| run.endpoints.values());
        let addresses: Vec<IpAddr> = endpoints.flat_map(addresses_of).collect();
        Ok(hosts::render(&record.config.hostname, &record.config.domainname, &addresses, &extra))
    }

    /// `--add-host` with `host-gateway` resolved.
    fn extra_hosts(&self) -> Vec<(String, String)> {
        let settings = self.parts.settings.load();
        let gateway = settings.host_gateway_ips.first().copied().or_else(|| self.bridge_address());
        let entries = self.record.host_config.extra_hosts.iter().flatten();
        entries
            .filter_map(|entry| entry.split_once([':', '=']))
            .map(|(name, address)| {
                let address = match (address, gateway) {
                    ("host-gateway", Some(gateway)) => gateway.to_string(),
                    (address, _) => address.trim_matches(['[', ']']).to_owned(),
                };
                (name.to_owned(), address)
            })
            .collect()
    }

    fn bridge_address(&self) -> Option<IpAddr> {
        let claims = self.parts.claims.lock();
        let bridge = claims.network("bridge").ok()?;
        bridge.ipam.config.as_deref()?.iter().find_map(|pool| pool.gateway.parse().ok())
    }

    /// How the streams of this run are kept.
    pub(crate) fn stdio_setup(&self) -> StdioSetup {
        let record = &self.record;
        StdioSetup {
            id: record.id.clone(),
            run: record.run.as_ref().map_or(record.runs + 1, |run| run.number),
            terminal: record.config.tty,
            stdin: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
            log: log_sink(record),
        }
    }
}

/// A node in the place where the container is to see it; a mapped folder keeps what is below it.
fn mapped(mapping: &DeviceMapping, node: DeviceNode) -> Device {
    let inside = if mapping.path_in_container.is_empty() { &mapping.path_on_host } else { &mapping.path_in_container };
    let folder = format!("{}/", mapping.path_on_host.trim_end_matches('/'));
    let path_in_container = match node.path.strip_prefix(&folder) {
        Some(below) => format!("{}/{below}", inside.trim_end_matches('/')),
        None => inside.clone(),
    };
    let access = if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
    Device { path_in_container, access: access.to_owned(), node }
}

fn log_sink(record: &ContainerRecord) -> LogSink {
    let config = &record.host_config.log_config;
    let options = config.config.clone().unwrap_or_default();
    let local = config.driver != "json-file";
    // The log of a remote driver is what dockerd calls its cache, and here also what is delivered from.
    let kept = if REMOTE.contains(&config.driver.as_str()) { "cache-" } else { "" };
    let option = |key: &str| options.get(&format!("{kept}{key}"));
    let size = option("max-size").and_then(|text| ram_in_bytes(text).ok()).and_then(|size| u64::try_from(size).ok());
    let files = option("max-file").and_then(|text| text.parse().ok());
    let compress = option("compress").and_then(|text| parse_bool(text));
    let file = LogFile {
        path: PathBuf::from(&record.log_path),
        max_size: size.or(if local { Some(20 << 20) } else { None }),
        max_files: files.unwrap_or(if local { 5 } else { 1 }),
        compress: compress.unwrap_or(local),
        // Checked at create: a tag or pattern that is wrong never gets here.
        attrs: log_attrs::attributes(record).unwrap_or_default(),
    };
    match config.driver.as_str() {
        "none" => LogSink::None,
        "json-file" => LogSink::JsonFile(file),
        _ => LogSink::Local(file),
    }
}
