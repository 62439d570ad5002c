//! The one place that knows every adapter: from the configuration to an engine that runs and an API in front of it.

mod identity;
mod layout;
mod sockets;
mod versions;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use gantry_api::{About, Api, App};
use gantry_containerd::{
    images::ContainerdImages,
    process::{Containerd, Layout},
    runtime::{ContainerdRuntime, RuntimeConfig},
    stdio::StdioCompanions,
};
use gantry_domain::container::validate::ApiVersion;
use gantry_engine::{Engine, Ports, Start, network::predefined::DefaultBridge};
use gantry_host::{
    ContainerFolders, ContainersRoot, ExecNotes, Host, LocalVolumes, Plugins, RemoteNetworks, RootFileSystems,
};
use gantry_network::{KernelNetwork, NetworkSettings};
use gantry_registry::{Proxies, Registries, RegistryConfig};
use gantry_store::RecordStore;
use tokio::task::JoinHandle;

pub use sockets::{KeptSockets, left_with_netd};

use crate::{
    config::{Config, shown},
    remap,
};

/// The engine and what belongs to it.
pub struct Assembled {
    pub engine: Arc<Engine>,
    pub api: Api,
    runtime: Arc<ContainerdRuntime>,
    network: Arc<KernelNetwork>,
    registries: Arc<Registries>,
    /// Its watch is dropped with us; containerd itself goes on.
    _containerd: Containerd,
    /// The engine's own tasks; they end with us.
    work: JoinHandle<()>,
}

/// Puts the engine together and brings the host in line with its records.
pub async fn assemble(config: &Config) -> Result<Assembled> {
    let mut settings = config.settings.clone();
    let data_root = PathBuf::from(&settings.data_root);
    let exec_root = PathBuf::from(&settings.exec_root);
    let id = identity::read_or_make(&data_root).context("the engine's id")?;
    if settings.init_path.is_empty() {
        settings.init_path = layout::init();
    }

    let store = tokio::task::spawn_blocking({
        let root = data_root.clone();
        move || RecordStore::open(&root)
    });
    let containerd = containerd(config);
    let network = KernelNetwork::open(NetworkSettings::new(id.clone(), layout::companion("gantry-netd")?, &settings));
    let (store, containerd, network) = tokio::join!(store, containerd, network);
    let (store, containerd) = (store?.context("the store")?, containerd?);
    let network = Arc::new(network.context("the network")?);

    let runtime_config = RuntimeConfig::from(&settings);
    let runtime = ContainerdRuntime::new(&containerd, id.clone(), &exec_root, runtime_config);
    let runtime = Arc::new(match layout::shim() {
        Some(program) => runtime.with_shim(program),
        None => runtime,
    });
    settings.warnings.extend(versions::check(runtime.as_ref(), config.strict_runtime).await?);
    let registries = Arc::new(Registries::new(registry_config(config)));
    let maps = Arc::new(settings.id_maps());
    let root = ContainersRoot::from(maps.root());
    // Of volumes, networks and addresses: one program may be all of it.
    let plugins = std::env::var_os("GANTRY_PLUGIN_ROOT");
    let plugins = plugins.map_or_else(Plugins::default, |root| Plugins::below(Path::new(&root)));
    let ports = Ports {
        runtime: runtime.clone(),
        stdio: Arc::new(StdioCompanions::new(exec_root.clone(), layout::companion("gantry-stdio")?)),
        store: Arc::new(store),
        images: Arc::new(
            ContainerdImages::new(containerd.client()).with_registries(registries.clone()).with_id_maps(maps.clone()),
        ),
        registry: registries.clone(),
        network: network.clone(),
        plugins: Arc::new(RemoteNetworks::new(&data_root, plugins.clone())),
        files: Arc::new(ContainerFolders::new(&data_root, layout::companion("gantry-logship")?).owned_by(root)),
        execs: Arc::new(ExecNotes::new(&exec_root)),
        volumes: Arc::new(LocalVolumes::new(&data_root, &exec_root).owned_by(root).with_plugins(plugins)),
        rootfs: Arc::new(RootFileSystems::new(maps)),
        host: Arc::new(Host::new(&data_root).owned_by(root)),
    };
    #[cfg(feature = "failpoints")]
    let ports = crate::failpoints::wrap(ports);

    let bridge = DefaultBridge {
        interface: network.default_bridge().await.context("the default bridge")?,
        address: config.bridge.address,
        range: config.bridge.range,
        address_v6: config.bridge.address_v6,
        range_v6: config.bridge.range_v6,
        pools: config.bridge.pools.clone(),
    };
    let (engine, recovery) = Engine::open(Start { id, ports, settings, bridge }).await.context("the records")?;
    engine.recover(recovery).await.context("recovery")?;
    let work = tokio::spawn({
        let engine = engine.clone();
        async move { engine.run().await }
    });
    let engine = Arc::new(engine);
    let api = Api::new(App { engine: engine.clone(), about: Arc::new(about(config)) });
    Ok(Assembled { engine, api, runtime, network, registries, _containerd: containerd, work })
}

async fn containerd(config: &Config) -> Result<Containerd> {
    let started = match &config.containerd {
        Some(socket) => Containerd::found(socket).await,
        None => {
            let mut layout = Layout::new(&config.settings.data_root, &config.settings.exec_root);
            layout.debug = config.settings.debug;
            Containerd::own(layout).await
        }
    };
    let containerd = started.context("containerd")?;
    match remap::containerd_namespace(&config.settings) {
        Some(namespace) => Ok(containerd.in_namespace(&namespace)?),
        None => Ok(containerd),
    }
}

fn registry_config(config: &Config) -> RegistryConfig {
    let settings = &config.settings;
    let proxies = Proxies {
        http: settings.http_proxy.clone(),
        https: settings.https_proxy.clone(),
        none: settings.no_proxy.clone(),
    };
    RegistryConfig {
        insecure: settings.insecure_registries.clone(),
        mirrors: settings.registry_mirrors.clone(),
        proxies,
        downloads: settings.max_concurrent_downloads as usize,
        uploads: settings.max_concurrent_uploads as usize,
        attempts: settings.max_download_attempts,
        ..RegistryConfig::default()
    }
}

fn about(config: &Config) -> About {
    let default = About::default();
    let min_version = config.min_api_version.map_or(default.min_version, |(major, minor)| ApiVersion(major, minor));
    About { min_version, ..default }
}

impl Assembled {
    /// The configuration that holds from now on.
    pub fn reload(&self, config: &Config) {
        let running = self.engine.settings();
        let mut settings = config.settings.clone();
        if settings.init_path.is_empty() {
            settings.init_path.clone_from(&running.init_path);
        }
        // What was found at the start is still so.
        settings.warnings.clone_from(&running.warnings);
        self.runtime.configure(RuntimeConfig::from(&settings));
        self.registries.configure(registry_config(config));
        self.engine.reload(settings, shown(config));
    }

    /// gantry-netd's keeping of the API's sockets.
    pub fn sockets(&self, exec_root: &str) -> KeptSockets {
        KeptSockets::new(self.network.clone(), exec_root)
    }
}

impl Drop for Assembled {
    fn drop(&mut self) {
        self.work.abort();
    }
}
