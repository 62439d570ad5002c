//! What stands on the host: the state behind all ports.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gantry_domain::{
    ContainerId, Digest, ExecId, GoTime, NetworkId,
    container::{ContainerRecord, Exit, record::ExecRecord},
    image::{Descriptor, ImageConfig, NamedImage, PlatformImage},
    network::{NetworkRecord, PublishedPort},
    platform::Platform,
    ports::{KeptRecord, OutputChunk, RuntimeContainer, RuntimeEvent, StdioSetup, TaskStatus},
    volume::VolumeRecord,
};
use tokio::sync::{mpsc, watch};

/// A process: a container's, or an exec's.
pub struct Process {
    pub pid: u32,
    pub status: TaskStatus,
    /// SIGKILL alone ends it.
    pub stubborn: bool,
    pub exit: watch::Sender<Option<Exit>>,
    /// Signals that were sent to it.
    pub signals: Vec<u32>,
}

/// Everything; tests read and change it directly.
#[derive(Default)]
pub struct World {
    pub containers: BTreeMap<ContainerId, RuntimeContainer>,
    pub snapshots: BTreeSet<ContainerId>,
    pub processes: BTreeMap<(ContainerId, Option<ExecId>), Process>,
    /// Containers whose task the runtime's list leaves out, though it is there.
    pub unlisted: BTreeSet<ContainerId>,
    /// What tasks were limited to since they began.
    pub limits: BTreeMap<ContainerId, Bytes>,
    /// Containers whose process will not end at SIGTERM.
    pub stubborn: bool,
    /// Paths of the host that are not there; every other one is a folder.
    pub missing: BTreeSet<String>,
    pub cdi_specs: Vec<gantry_domain::cdi::SpecFile>,
    /// The kernel has AppArmor, and whether `docker-default` is loaded.
    pub apparmor: Option<bool>,
    /// What every exec from now on writes, and the code with which it ends at once; `None`: it runs on.
    pub exec_ends: Option<(u32, Bytes)>,
    pub sessions: BTreeMap<ContainerId, StdioSetup>,
    pub(crate) attached: BTreeMap<ContainerId, Vec<mpsc::UnboundedSender<OutputChunk>>>,
    /// With the interfaces in each, and the networks they lead to.
    pub sandboxes: BTreeMap<ContainerId, BTreeMap<String, String>>,
    pub resolvers: BTreeMap<ContainerId, gantry_domain::network::names::ResolverSetup>,
    pub ports: BTreeMap<ContainerId, Vec<PublishedPort>>,
    pub networks: BTreeSet<NetworkId>,
    /// Paths of the host with the labels that they were given.
    pub relabelled: BTreeMap<String, String>,
    /// The ledger of the plugin `far`: what it has lent.
    pub lent: BTreeSet<String>,
    /// What it gave and the engine has not noted yet.
    pub gifts: BTreeSet<gantry_domain::ports::Gift>,
    /// It is not there.
    pub plugin_away: bool,
    /// It wants to be told at the start what is in use.
    pub plugin_forgets: bool,
    /// What the host itself reaches.
    pub host_routes: Vec<ipnet::IpNet>,
    pub folders: BTreeMap<ContainerId, BTreeMap<String, Bytes>>,
    pub exec_notes: BTreeMap<ExecId, ExecRecord>,
    pub volumes: BTreeMap<String, VolumeRecord>,
    pub volume_parts: BTreeSet<(ContainerId, usize)>,
    pub shipments: BTreeMap<ContainerId, gantry_domain::container::log_shipment::LogShipment>,
    pub volume_mounts: BTreeSet<(String, ContainerId)>,
    pub names: BTreeMap<String, NamedImage>,
    pub platforms: BTreeMap<Digest, PlatformImage>,
    pub views: BTreeSet<String>,
    /// Images that were made of containers.
    pub commits: u64,
    /// Root file systems that are held open for copies.
    pub opened: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    pub records: Records,
    pub(crate) cache: BTreeMap<String, Vec<u8>>,
    pub(crate) events: Vec<mpsc::UnboundedSender<RuntimeEvent>>,
    pub(crate) deaths: Vec<mpsc::UnboundedSender<ContainerId>>,
    last_pid: u32,
    last_port: u16,
}

/// What the store keeps.
#[derive(Default)]
pub struct Records {
    pub containers: BTreeMap<ContainerId, ContainerRecord>,
    pub container_tombstones: BTreeSet<ContainerId>,
    pub volumes: BTreeMap<String, VolumeRecord>,
    pub volume_tombstones: BTreeSet<String>,
    pub networks: BTreeMap<NetworkId, NetworkRecord>,
    pub network_tombstones: BTreeSet<NetworkId>,
    pub debts: BTreeMap<String, gantry_domain::network::lent::Debt>,
    /// Records that the engine cannot use.
    pub kept: Vec<KeptRecord>,
    /// What a damaged store says of itself at the next load.
    pub damage: Vec<String>,
}

impl World {
    /// An image of one platform, without layers.
    pub fn add_image(&mut self, name: &str) -> Descriptor {
        let config = ImageConfig {
            architecture: Platform::host().architecture,
            os: "linux".into(),
            config: gantry_domain::image::ImageRunConfig { cmd: Some(vec!["sh".into()]), ..Default::default() },
            ..ImageConfig::default()
        };
        let config_bytes = Bytes::from(serde_json::to_vec(&config).expect("plain data"));
        let digest = |seed: u8| Digest::from_sha256(&[seed.wrapping_add(self.names.len() as u8); 32]);
        let target = descriptor("application/vnd.oci.image.manifest.v1+json", digest(1));
        let image = PlatformImage {
            manifest: target.clone(),
            platform: Platform::host(),
            config_digest: digest(100),
            layers: Vec::new(),
            config,
            config_bytes,
            complete: true,
        };
        self.platforms.insert(target.digest.clone(), image);
        self.point(name, &target);
        target
    }

    pub(crate) fn point(&mut self, name: &str, target: &Descriptor) {
        let named = NamedImage {
            name: name.to_owned(),
            target: target.clone(),
            created_at: GoTime::now(),
            updated_at: GoTime::now(),
        };
        self.names.insert(name.to_owned(), named);
    }

    pub(crate) fn begin(&mut self, id: &ContainerId, exec: Option<ExecId>, status: TaskStatus) -> u32 {
        self.last_pid += 1;
        let pid = 1000 + self.last_pid;
        let stubborn = self.stubborn;
        let process = Process { pid, status, stubborn, exit: watch::Sender::new(None), signals: Vec::new() };
        self.processes.insert((id.clone(), exec), process);
        pid
    }

    pub(crate) fn free_port(&mut self) -> u16 {
        self.last_port += 1;
        32768 + self.last_port
    }

    pub(crate) fn exit(&mut self, id: &ContainerId, exec: Option<&ExecId>, exit: Exit) {
        // The end of init ends its execs.
        let ends = |key: &(ContainerId, Option<ExecId>)| key.0 == *id && (exec.is_none() || key.1.as_ref() == exec);
        for (_, process) in self.processes.iter_mut().filter(|(key, _)| ends(key)) {
            if process.status != TaskStatus::Stopped {
                process.status = TaskStatus::Stopped;
                process.exit.send_replace(Some(exit));
            }
        }
        if exec.is_none() {
            self.attached.remove(id);
        }
    }

    pub(crate) fn tell(&mut self, event: RuntimeEvent) {
        self.events.retain(|listener| listener.send(event.clone()).is_ok());
    }

    /// The companion of a run dies; the engine is told.
    pub fn companion_dies(&mut self, id: &ContainerId) {
        self.sessions.remove(id);
        self.deaths.retain(|listener| listener.send(id.clone()).is_ok());
    }

    pub fn held(&self) -> BTreeSet<String> {
        let mut held = BTreeSet::new();
        let mut add = |kind: &str, what: &dyn std::fmt::Display| {
            held.insert(format!("{kind} {what}"));
        };
        self.containers.keys().for_each(|id| add("container", id));
        self.snapshots.iter().for_each(|id| add("snapshot", id));
        for (id, exec) in self.processes.keys() {
            match exec {
                None => add("task", id),
                Some(exec) => add("exec", exec),
            }
        }
        self.sessions.keys().for_each(|id| add("session", id));
        for (id, interfaces) in &self.sandboxes {
            add("sandbox", id);
            interfaces.iter().for_each(|(name, network)| add("interface", &format!("{id} {name} {network}")));
        }
        // The default bridge stands for as long as the engine does.
        let predefined = |id: &&NetworkId| self.records.networks.get(*id).is_some_and(|network| network.predefined);
        self.networks.iter().filter(|id| !predefined(id)).for_each(|id| add("network", id));
        self.lent.iter().for_each(|line| add("lent", line));
        self.gifts.iter().for_each(|gift| add("gift", &format!("{gift:?}")));
        self.records.debts.keys().for_each(|id| add("debt", id));
        self.resolvers.keys().for_each(|id| add("resolver", id));
        self.ports.keys().for_each(|id| add("ports", id));
        self.folders.keys().for_each(|id| add("folder", id));
        self.shipments.keys().for_each(|id| add("shipment", id));
        self.exec_notes.keys().for_each(|id| add("exec-note", id));
        self.volumes.keys().for_each(|name| add("volume", name));
        self.volume_mounts.iter().for_each(|(name, user)| add("volume-mount", &format!("{name} {user}")));
        self.views.iter().for_each(|key| add("view", key));
        self.records.containers.keys().for_each(|id| add("record", id));
        self.records.container_tombstones.iter().for_each(|id| add("tombstone", id));
        self.records.networks.keys().filter(|id| !predefined(id)).for_each(|id| add("network-record", id));
        self.records.network_tombstones.iter().for_each(|id| add("network-tombstone", id));
        self.records.volumes.keys().for_each(|name| add("volume-record", name));
        self.records.volume_tombstones.iter().for_each(|name| add("volume-tombstone", name));
        held
    }
}

pub(crate) fn descriptor(media_type: &str, digest: Digest) -> Descriptor {
    Descriptor { media_type: media_type.into(), digest, size: 1, urls: None, annotations: None, platform: None }
}
