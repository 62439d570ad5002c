//! Failpoints around every call of a port, for the tests that kill gantryd at each of them.
//!
//! Built only with the feature `failpoints`. `GANTRY_KILL_AT=<port>.<method>:before|after[@n]` kills this process with
//! SIGKILL at the n-th pass (the first without a number); `GANTRY_FAILPOINTS_FILE` names a file that is read at each
//! pass instead, so that a test can set the point when gantryd already runs. While that file says `trace`, each point
//! that is passed becomes a line of `<file>.trace`: the list of points that a verb really has.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use gantry_domain::{
    ContainerId, Digest, ExecId, NetworkId, Result,
    container::{
        Exit,
        copy::PathChange,
        log_shipment::LogShipment,
        record::{Endpoint, ExecRecord},
    },
    image::{Descriptor, ManifestEntry, NamedImage, PlatformImage},
    log::{LogBatch, LogQuery},
    network::{Families, NetworkRecord, PortRequest, PublishedPort, names::ResolverSetup},
    platform::Platform,
    ports::*,
    volume::VolumeRecord,
};
use gantry_engine::Ports;
use ipnet::IpNet;

/// A port with a point before and after each call.
struct Points<T: ?Sized>(Arc<T>);

/// Puts points around every port.
pub fn wrap(ports: Ports) -> Ports {
    Ports {
        runtime: Arc::new(Points(ports.runtime)),
        stdio: Arc::new(Points(ports.stdio)),
        store: Arc::new(Points(ports.store)),
        images: Arc::new(Points(ports.images)),
        // Changes nothing here, so there is nothing to be half done.
        registry: ports.registry,
        network: Arc::new(Points(ports.network)),
        plugins: Arc::new(Points(ports.plugins)),
        files: Arc::new(Points(ports.files)),
        execs: Arc::new(Points(ports.execs)),
        volumes: Arc::new(Points(ports.volumes)),
        rootfs: Arc::new(Points(ports.rootfs)),
        host: ports.host,
    }
}

static PASSES: AtomicU64 = AtomicU64::new(0);

fn pass(point: &str) {
    let file = std::env::var_os("GANTRY_FAILPOINTS_FILE");
    let wanted = match &file {
        Some(path) => std::fs::read_to_string(path).unwrap_or_default(),
        None => std::env::var("GANTRY_KILL_AT").unwrap_or_default(),
    };
    let wanted = wanted.trim();
    if let Some(path) = file.filter(|_| wanted == "trace") {
        return trace(&path, point);
    }
    let (name, number) = wanted.split_once('@').unwrap_or((wanted, "1"));
    if name != point || PASSES.fetch_add(1, Ordering::SeqCst) + 1 < number.parse().unwrap_or(1) {
        return;
    }
    // The real thing: no destructor runs, no buffer is flushed.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::thread::park();
}

/// One line in one write, so that lines of several threads do not mix.
fn trace(path: &OsStr, point: &str) {
    let mut name = path.to_owned();
    name.push(".trace");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(name);
    if let Err(error) = file.and_then(|mut file| file.write_all(format!("{point}\n").as_bytes())) {
        tracing::error!(%error, point, "a passed failpoint could not be written down");
    }
}

macro_rules! through {
    ($point:literal, $call:expr) => {{
        pass(concat!($point, ":before"));
        let done = $call.await;
        pass(concat!($point, ":after"));
        done
    }};
}

mod files;

#[async_trait]
impl Runtime for Points<dyn Runtime> {
    async fn versions(&self) -> Result<RuntimeVersions> {
        through!("runtime.versions", self.0.versions())
    }
    async fn create_container(&self, setup: &RuntimeContainer) -> Result<()> {
        through!("runtime.create_container", self.0.create_container(setup))
    }
    async fn update_container(&self, id: &ContainerId, spec: Option<Bytes>, record: Option<Bytes>) -> Result<()> {
        through!("runtime.update_container", self.0.update_container(id, spec, record))
    }
    async fn delete_container(&self, id: &ContainerId) -> Result<()> {
        through!("runtime.delete_container", self.0.delete_container(id))
    }
    async fn containers(&self) -> Result<Vec<RuntimeContainerInfo>> {
        through!("runtime.containers", self.0.containers())
    }
    async fn container_snapshots(&self) -> Result<Vec<ContainerId>> {
        through!("runtime.container_snapshots", self.0.container_snapshots())
    }
    async fn root_mounts(&self, id: &ContainerId) -> Result<Vec<RootMount>> {
        through!("runtime.root_mounts", self.0.root_mounts(id))
    }
    async fn root_usage(&self, id: &ContainerId) -> Result<u64> {
        through!("runtime.root_usage", self.0.root_usage(id))
    }
    async fn create_task(&self, setup: &TaskSetup) -> Result<u32> {
        through!("runtime.create_task", self.0.create_task(setup))
    }
    async fn start_task(&self, id: &ContainerId) -> Result<()> {
        through!("runtime.start_task", self.0.start_task(id))
    }
    async fn kill(&self, id: &ContainerId, exec: Option<&ExecId>, signal: u32, all: bool) -> Result<()> {
        through!("runtime.kill", self.0.kill(id, exec, signal, all))
    }
    async fn wait(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<Exit> {
        through!("runtime.wait", self.0.wait(id, exec))
    }
    async fn delete_task(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<Option<Exit>> {
        through!("runtime.delete_task", self.0.delete_task(id, exec))
    }
    async fn abandon_task(&self, id: &ContainerId) -> Result<()> {
        through!("runtime.abandon_task", self.0.abandon_task(id))
    }
    async fn task(&self, id: &ContainerId) -> Result<Option<TaskInfo>> {
        through!("runtime.task", self.0.task(id))
    }
    async fn tasks(&self) -> Result<Vec<TaskInfo>> {
        through!("runtime.tasks", self.0.tasks())
    }
    async fn pids(&self, id: &ContainerId) -> Result<Vec<TaskPid>> {
        through!("runtime.pids", self.0.pids(id))
    }
    async fn resize(&self, id: &ContainerId, exec: Option<&ExecId>, height: u32, width: u32) -> Result<()> {
        through!("runtime.resize", self.0.resize(id, exec, height, width))
    }
    async fn close_stdin(&self, id: &ContainerId, exec: Option<&ExecId>) -> Result<()> {
        through!("runtime.close_stdin", self.0.close_stdin(id, exec))
    }
    async fn pause(&self, id: &ContainerId) -> Result<()> {
        through!("runtime.pause", self.0.pause(id))
    }
    async fn resume(&self, id: &ContainerId) -> Result<()> {
        through!("runtime.resume", self.0.resume(id))
    }
    async fn update_resources(&self, id: &ContainerId, resources: Bytes) -> Result<()> {
        through!("runtime.update_resources", self.0.update_resources(id, resources))
    }
    async fn exec(&self, setup: &ExecSetup) -> Result<ExecStarted> {
        through!("runtime.exec", self.0.exec(setup))
    }
    async fn adopt_exec(&self, setup: &ExecSetup) -> Result<ExecStarted> {
        through!("runtime.adopt_exec", self.0.adopt_exec(setup))
    }
    fn events(&self) -> BoxStream<RuntimeEvent> {
        self.0.events()
    }
}

#[async_trait]
impl Stdio for Points<dyn Stdio> {
    async fn open(&self, setup: &StdioSetup) -> Result<StdioPaths> {
        through!("stdio.open", self.0.open(setup))
    }
    async fn adopt(&self, setup: &StdioSetup) -> Result<()> {
        through!("stdio.adopt", self.0.adopt(setup))
    }
    async fn attach(&self, id: &ContainerId, request: &AttachRequest) -> Result<AttachStreams> {
        through!("stdio.attach", self.0.attach(id, request))
    }
    async fn drained(&self, id: &ContainerId) -> Result<()> {
        through!("stdio.drained", self.0.drained(id))
    }
    async fn close(&self, id: &ContainerId) -> Result<()> {
        through!("stdio.close", self.0.close(id))
    }
    async fn sessions(&self) -> Result<Vec<ContainerId>> {
        through!("stdio.sessions", self.0.sessions())
    }
    fn deaths(&self) -> BoxStream<ContainerId> {
        self.0.deaths()
    }
    fn stdin_ends(&self) -> BoxStream<ContainerId> {
        self.0.stdin_ends()
    }
}

#[async_trait]
impl Store for Points<dyn Store> {
    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        through!("store.commit", self.0.commit(writes))
    }
    async fn load(&self) -> Result<Loaded> {
        through!("store.load", self.0.load())
    }
    async fn put_cache(&self, key: &str, value: Vec<u8>) -> Result<()> {
        through!("store.put_cache", self.0.put_cache(key, value))
    }
    async fn get_cache(&self, key: &str) -> Result<Option<Vec<u8>>> {
        through!("store.get_cache", self.0.get_cache(key))
    }
    async fn flush(&self) -> Result<()> {
        through!("store.flush", self.0.flush())
    }
    fn warnings(&self) -> Vec<String> {
        self.0.warnings()
    }
}

#[async_trait]
impl ImageStore for Points<dyn ImageStore> {
    async fn names(&self) -> Result<Vec<NamedImage>> {
        through!("images.names", self.0.names())
    }
    async fn set_name(&self, name: &str, target: &Descriptor) -> Result<()> {
        through!("images.set_name", self.0.set_name(name, target))
    }
    async fn remove_name(&self, name: &str, collect: bool) -> Result<bool> {
        through!("images.remove_name", self.0.remove_name(name, collect))
    }
    async fn remove_manifest(&self, manifest: &Digest) -> Result<()> {
        through!("images.remove_manifest", self.0.remove_manifest(manifest))
    }
    async fn platforms(&self, target: &Descriptor) -> Result<Vec<PlatformImage>> {
        through!("images.platforms", self.0.platforms(target))
    }
    async fn manifests(&self, target: &Descriptor) -> Result<Vec<ManifestEntry>> {
        through!("images.manifests", self.0.manifests(target))
    }
    async fn blob(&self, digest: &Digest) -> Result<Bytes> {
        through!("images.blob", self.0.blob(digest))
    }
    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        through!("images.blobs", self.0.blobs())
    }
    fn chain_id(&self, image: &PlatformImage) -> String {
        self.0.chain_id(image)
    }
    async fn unpack(&self, image: &PlatformImage) -> Result<String> {
        through!("images.unpack", self.0.unpack(image))
    }
    async fn layer_usage(&self) -> Result<Vec<LayerUsage>> {
        through!("images.layer_usage", self.0.layer_usage())
    }
    async fn view(&self, chain_id: &str) -> Result<ImageView> {
        through!("images.view", self.0.view(chain_id))
    }
    async fn release_view(&self, view: ImageView) -> Result<()> {
        through!("images.release_view", self.0.release_view(view))
    }
    async fn load(&self, archive: ByteStream, platforms: Vec<Platform>) -> Result<BoxStream<Result<LoadProgress>>> {
        through!("images.load", self.0.load(archive, platforms))
    }
    async fn save(&self, images: Vec<(Option<String>, Descriptor)>, platforms: Vec<Platform>) -> Result<ByteStream> {
        through!("images.save", self.0.save(images, platforms))
    }
    async fn import(&self, archive: ByteStream, config: Bytes) -> Result<(Descriptor, LeaseGuard)> {
        through!("images.import", self.0.import(archive, config))
    }
    async fn commit(
        &self,
        parent: Option<Descriptor>,
        layer: Option<ByteStream>,
        config: Bytes,
    ) -> Result<(Descriptor, LeaseGuard)> {
        through!("images.commit", self.0.commit(parent, layer, config))
    }
    async fn pull(&self, request: PullRequest) -> Result<BoxStream<Result<PullProgress>>> {
        through!("images.pull", self.0.pull(request))
    }
    async fn push(&self, request: PushRequest) -> Result<BoxStream<Result<PushProgress>>> {
        through!("images.push", self.0.push(request))
    }
    async fn forget_partial_pulls(&self) -> Result<u64> {
        through!("images.forget_partial_pulls", self.0.forget_partial_pulls())
    }
    async fn release_lease(&self, lease: LeaseGuard) -> Result<()> {
        through!("images.release_lease", self.0.release_lease(lease))
    }
    async fn leases(&self) -> Result<Vec<String>> {
        through!("images.leases", self.0.leases())
    }
}

#[async_trait]
impl Network for Points<dyn Network> {
    async fn ensure_network(&self, network: &NetworkRecord) -> Result<()> {
        through!("network.ensure_network", self.0.ensure_network(network))
    }
    fn expect_networks(&self, networks: &[NetworkRecord]) {
        self.0.expect_networks(networks);
    }
    async fn remove_network(&self, id: &NetworkId) -> Result<()> {
        through!("network.remove_network", self.0.remove_network(id))
    }
    async fn networks(&self) -> Result<Vec<NetworkId>> {
        through!("network.networks", self.0.networks())
    }
    async fn reserve_ports(&self, id: &ContainerId, wanted: &[PortRequest]) -> Result<Vec<PublishedPort>> {
        through!("network.reserve_ports", self.0.reserve_ports(id, wanted))
    }
    async fn release_ports(&self, id: &ContainerId) -> Result<()> {
        through!("network.release_ports", self.0.release_ports(id))
    }
    async fn create_sandbox(&self, setup: &SandboxSetup) -> Result<PathBuf> {
        through!("network.create_sandbox", self.0.create_sandbox(setup))
    }
    async fn wire_sandbox(&self, setup: &SandboxSetup, process: u32) -> Result<PathBuf> {
        through!("network.wire_sandbox", self.0.wire_sandbox(setup, process))
    }
    async fn return_interface(&self, id: &ContainerId, interface: &str, source: &str) -> Result<()> {
        through!("network.return_interface", self.0.return_interface(id, interface, source))
    }
    async fn delete_sandbox(&self, id: &ContainerId) -> Result<()> {
        through!("network.delete_sandbox", self.0.delete_sandbox(id))
    }
    async fn adopt_sandbox(&self, setup: &SandboxSetup) -> Result<()> {
        through!("network.adopt_sandbox", self.0.adopt_sandbox(setup))
    }
    async fn update_sandbox(&self, setup: &SandboxSetup) -> Result<()> {
        through!("network.update_sandbox", self.0.update_sandbox(setup))
    }
    async fn resolve(&self, id: &ContainerId, setup: &ResolverSetup) -> Result<()> {
        through!("network.resolve", self.0.resolve(id, setup))
    }
    async fn sandboxes(&self) -> Result<Vec<ContainerId>> {
        through!("network.sandboxes", self.0.sandboxes())
    }
    async fn host_routes(&self) -> Result<Vec<ipnet::IpNet>> {
        through!("network.host_routes", self.0.host_routes())
    }
    async fn statistics(&self, id: &ContainerId) -> Result<BTreeMap<String, InterfaceStatistics>> {
        through!("network.statistics", self.0.statistics(id))
    }
    fn warnings(&self) -> Vec<String> {
        self.0.warnings()
    }
}

#[async_trait]
impl NetworkPlugins for Points<dyn NetworkPlugins> {
    async fn driver(&self, name: &str) -> Result<DriverTraits> {
        through!("plugins.driver", self.0.driver(name))
    }
    async fn ipam(&self, name: &str) -> Result<IpamTraits> {
        through!("plugins.ipam", self.0.ipam(name))
    }
    fn drivers(&self) -> Vec<String> {
        self.0.drivers()
    }
    async fn without_gateway(&self, network: &NetworkRecord) -> Result<Families> {
        through!("plugins.without_gateway", self.0.without_gateway(network))
    }
    async fn create_network(&self, network: &NetworkRecord) -> Result<()> {
        through!("plugins.create_network", self.0.create_network(network))
    }
    async fn delete_network(&self, driver: &str, network: &NetworkId) -> Result<()> {
        through!("plugins.delete_network", self.0.delete_network(driver, network))
    }
    async fn create_endpoint(
        &self,
        network: &NetworkRecord,
        endpoint: &Endpoint,
        options: &EndpointOptions,
    ) -> Result<MadeEndpoint> {
        through!("plugins.create_endpoint", self.0.create_endpoint(network, endpoint, options))
    }
    async fn delete_endpoint(&self, place: &Place) -> Result<()> {
        through!("plugins.delete_endpoint", self.0.delete_endpoint(place))
    }
    async fn join(&self, place: &Place, sandbox: &Path, options: &EndpointOptions) -> Result<Joined> {
        through!("plugins.join", self.0.join(place, sandbox, options))
    }
    async fn leave(&self, place: &Place) -> Result<()> {
        through!("plugins.leave", self.0.leave(place))
    }
    async fn publish_endpoint(&self, place: &Place, options: &EndpointOptions) -> Result<()> {
        through!("plugins.publish_endpoint", self.0.publish_endpoint(place, options))
    }
    async fn withdraw_endpoint(&self, place: &Place) -> Result<()> {
        through!("plugins.withdraw_endpoint", self.0.withdraw_endpoint(place))
    }
    async fn endpoint_info(&self, place: &Place) -> Result<()> {
        through!("plugins.endpoint_info", self.0.endpoint_info(place))
    }
    async fn request_pool(&self, ipam: &str, wanted: &PoolRequest) -> Result<GivenPool> {
        through!("plugins.request_pool", self.0.request_pool(ipam, wanted))
    }
    async fn release_pool(&self, ipam: &str, pool: &str) -> Result<()> {
        through!("plugins.release_pool", self.0.release_pool(ipam, pool))
    }
    async fn request_address(&self, ipam: &str, wanted: &AddressRequest) -> Result<IpNet> {
        through!("plugins.request_address", self.0.request_address(ipam, wanted))
    }
    async fn release_address(&self, ipam: &str, pool: &str, address: IpAddr) -> Result<()> {
        through!("plugins.release_address", self.0.release_address(ipam, pool, address))
    }
    async fn gifts(&self) -> Result<Vec<Gift>> {
        through!("plugins.gifts", self.0.gifts())
    }
    async fn noted(&self, gift: &Gift) {
        through!("plugins.noted", self.0.noted(gift))
    }
}
