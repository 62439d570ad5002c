//! `KernelNetwork`: the network port, put together from the modules beside it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use gantry_domain::{
    ContainerId, Error, NetworkId, Result,
    network::{NetworkRecord, PortRequest, PublishedPort, names::ResolverSetup},
    ports::{InterfaceStatistics, Network, SandboxSetup},
};
use gantry_wire::net::{Port, Reply, Request, SOCKETS_PER_MESSAGE, Targets};
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use crate::{
    driver,
    forwarding::{Forwarding, WasOff},
    leftovers::Leftovers,
    links,
    namespace::{self, Namespaces},
    netd::Netd,
    ports::{self, Reservations, Reserved},
    resolver, routes,
    rules::{self, Rules},
    sandbox::{self, Origin},
    settings::NetworkSettings,
};

/// For what is shown in `/info`.
const WARNINGS_PATIENCE: Duration = Duration::from_millis(200);

/// The kernel's networks. One for each engine; gantry-netd lives on when this is dropped.
#[derive(Clone)]
pub struct KernelNetwork {
    inner: Arc<Inner>,
}

struct Inner {
    settings: NetworkSettings,
    folder: PathBuf,
    namespaces: Namespaces,
    forwarding: Forwarding,
    netd: Netd,
    leftovers: Leftovers,
    /// What the table in force says. Held while links and rules change, by blocking threads only.
    rules: Mutex<Rules>,
    reservations: Mutex<Reservations>,
    /// The host's interface that each network without a bridge hangs on.
    parents: Mutex<BTreeMap<NetworkId, String>>,
    /// Containers of which netd knows nothing, so that it need not be told of their end.
    portless: Mutex<HashSet<ContainerId>>,
    /// Containers for which netd has a resolver.
    resolvers: Mutex<BTreeSet<ContainerId>>,
}

impl KernelNetwork {
    /// Finds or starts gantry-netd and takes up what is in force since an earlier gantryd of this boot.
    pub async fn open(settings: NetworkSettings) -> Result<Self> {
        let inner = blocking(move || Inner::open(settings)).await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn open_sandbox(&self, setup: &SandboxSetup, origin: Origin) -> Result<PathBuf> {
        // One of an earlier run would be in a namespace that is no more.
        self.inner.unresolve(&setup.id).await?;
        let (inner, work) = (self.inner.clone(), setup.clone());
        let make = move || sandbox::create(&work, origin, &inner.namespaces, &inner.settings);
        let path = namespace::on_a_thread(make).await?;
        if setup.ports.is_empty() {
            self.inner.portless.lock().insert(setup.id.clone());
        }
        if let Err(error) = self.inner.lead(setup).await {
            self.delete_sandbox(&setup.id).await?;
            return Err(error);
        }
        Ok(path)
    }

    /// The name of the default bridge: `docker0`, or another where somebody else has a link of that name.
    pub async fn default_bridge(&self) -> Result<String> {
        let inner = self.inner.clone();
        blocking(move || Ok(links::default_bridge(&inner.settings)?)).await
    }

    /// Leaves a socket (the API's listening one) with netd under a name, so that it outlives gantryd.
    pub async fn keep_socket(&self, name: &str, socket: OwnedFd) -> Result<()> {
        self.inner.netd.ask(Request::Keep { name: name.to_owned() }, vec![Arc::new(socket)]).await?;
        Ok(())
    }

    /// A duplicate of the socket kept under this name.
    pub async fn kept_socket(&self, name: &str) -> Result<Option<OwnedFd>> {
        let answer = self.inner.netd.ask(Request::Kept { name: name.to_owned() }, Vec::new()).await?;
        Ok(answer.fds.into_iter().next())
    }

    pub async fn forget_socket(&self, name: &str) -> Result<()> {
        self.inner.netd.ask(Request::Forget { name: name.to_owned() }, Vec::new()).await?;
        Ok(())
    }
}

impl Inner {
    fn open(settings: NetworkSettings) -> Result<Self> {
        let folder = settings.exec_root.join("netd");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let namespaces = Namespaces::open(settings.exec_root.join("netns"))?;
        let (netd, found) = Netd::open(settings.netd.clone(), folder.clone())?;
        let mut reservations = Reservations::default();
        for (container, ports) in found.ports {
            if let Ok(id) = ContainerId::parse(&container) {
                reservations.add(&id, ports.into_iter().filter_map(ports::published));
            }
        }
        let rules = fs::read(folder.join("rules.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let rules: Rules = rules.unwrap_or_default();
        if !settings.iptables && !rules.bridges.is_empty() {
            // What an earlier gantryd put in force is not to be kept in force.
            let none = Rules::default().request(rules::table_name(&settings.engine), &settings.engine);
            if let Err(error) = netd.ask_blocking(none, Vec::new(), Duration::from_secs(60)) {
                tracing::warn!(%error, "firewall rules of an earlier gantryd may still be in force");
            }
        }
        Ok(Self {
            forwarding: Forwarding::new(&folder),
            namespaces,
            netd,
            leftovers: Leftovers::new()?,
            rules: Mutex::new(rules),
            reservations: Mutex::new(reservations),
            parents: Mutex::default(),
            portless: Mutex::default(),
            resolvers: Mutex::new(found.resolvers.iter().filter_map(|id| ContainerId::parse(id).ok()).collect()),
            folder,
            settings,
        })
    }

    fn ensure_network(&self, network: &NetworkRecord) -> Result<()> {
        let driver = driver::named(&network.driver);
        // Before the first rule: they would be about somebody else's interface.
        driver.check(network)?;
        if let Some(parent) = driver.parent(network) {
            let mut parents = self.parents.lock();
            parents.insert(network.id.clone(), parent);
            return driver.create(network, &self.settings);
        }
        if let Some(wanted) = driver.rules(network, &self.settings)? {
            let mut rules = self.rules.lock();
            let (forward, v6) = self.forwards(&wanted);
            if forward {
                self.forwarding.note(v6)?;
            }
            let mut next = rules.clone();
            let guard = if self.settings.ip_forward_no_drop { WasOff::default() } else { self.forwarding.was_off() };
            (next.guard_v4, next.guard_v6, next.guard_forwarding) = (guard.v4, guard.v6, false);
            next.bridges.retain(|_, bridge| bridge.network != wanted.network);
            next.bridges.insert(network.bridge.clone(), wanted);
            // The rules first: a bridge that is up is never without them.
            self.enforce(&mut rules, next)?;
            if forward {
                self.forwarding.switch_on(v6)?;
            }
            return driver.create(network, &self.settings);
        }
        driver.create(network, &self.settings)
    }

    /// Whether its packets are forwarded, and those of IPv6 among them.
    fn forwards(&self, wanted: &rules::BridgeRules) -> (bool, bool) {
        let v6 = wanted.subnets.iter().any(|net| net.addr().is_ipv6());
        (self.settings.ip_forward && !wanted.internal, v6)
    }

    fn remove_network(&self, id: &NetworkId) -> Result<()> {
        // An interface that another network hangs on is that one's from now on, and goes with the last of them. Held
        // until it is so: a network that is being made must not find it and then miss it.
        let mut parents = self.parents.lock();
        let heirs = parents.iter().filter(|(other, _)| *other != id).map(|(other, name)| (name.clone(), other.clone()));
        links::pass_on(id, &heirs.collect(), &self.settings)?;
        parents.remove(id);
        drop(parents);
        let mut rules = self.rules.lock();
        let bridges = rules.bridges.iter().filter(|(_, bridge)| bridge.network == id.as_str());
        let known: Vec<String> = bridges.map(|(name, _)| name.clone()).collect();
        // The links first: what is up is never without rules.
        self.leftovers.remove(links::remove(id, &known, &self.settings)?);
        let mut next = rules.clone();
        next.bridges.retain(|_, bridge| bridge.network != id.as_str());
        if next.bridges.len() < rules.bridges.len() { self.enforce(&mut rules, next) } else { Ok(()) }
    }

    fn networks(&self) -> Result<Vec<NetworkId>> {
        let mut found = links::networks(&self.settings)?;
        let rules = self.rules.lock();
        found.extend(rules.bridges.values().filter_map(|bridge| NetworkId::parse(&bridge.network).ok()));
        Ok(found.into_iter().collect())
    }

    /// The one place where the table is applied. netd writes no more than what has changed since it was told last.
    fn enforce(&self, rules: &mut Rules, next: Rules) -> Result<()> {
        if self.settings.iptables {
            let table = rules::table_name(&self.settings.engine);
            let request = next.request(table, &self.settings.engine);
            self.netd.ask_blocking(request, Vec::new(), Duration::from_secs(60)).map_err(|error| {
                Error::system(format!("cannot apply the firewall's rules: {error}")).with_source(error)
            })?;
        }
        *rules = next;
        self.save(rules)
    }

    fn save(&self, rules: &Rules) -> Result<()> {
        let bytes = serde_json::to_vec(rules).map_err(io::Error::from)?;
        let new = self.folder.join("rules.json.new");
        fs::File::create(&new)?.write_all(&bytes)?;
        Ok(fs::rename(new, self.folder.join("rules.json"))?)
    }

    async fn hold(&self, id: &ContainerId, reserved: &[Reserved]) -> Result<()> {
        for part in reserved.chunks(SOCKETS_PER_MESSAGE) {
            let ports = part.iter().map(|(port, _)| ports::wire(port)).collect();
            let sockets = part.iter().map(|(_, socket)| socket.clone()).collect();
            self.netd.ask(Request::Hold { container: id.to_string(), ports }, sockets).await?;
        }
        Ok(())
    }

    /// Relays and translates the container's ports from now on.
    async fn lead(&self, setup: &SandboxSetup) -> Result<()> {
        if setup.ports.is_empty() {
            return Ok(());
        }
        let targets = targets(setup);
        let ports: Vec<Port> = setup.ports.iter().map(ports::wire).collect();
        self.portless.lock().remove(&setup.id);
        let networks = setup.endpoints.iter().map(|(network, _)| network.bridge.as_str());
        let bridges: Vec<&str> = networks.filter(|bridge| !bridge.is_empty()).collect();
        let elements = if self.settings.iptables { rules::elements(&ports, targets, &bridges) } else { Vec::new() };
        self.netd.ask(Request::Lead { container: setup.id.to_string(), targets, elements }, Vec::new()).await?;
        Ok(())
    }

    async fn unresolve(&self, id: &ContainerId) -> Result<()> {
        let known = self.resolvers.lock().contains(id);
        if known {
            self.netd.ask(Request::Unresolve { container: id.to_string() }, Vec::new()).await?;
            self.resolvers.lock().remove(id);
        }
        Ok(())
    }

    /// Binds again what nobody holds any more, because gantryd and netd died together.
    async fn mend_ports(&self, setup: &SandboxSetup) -> Result<()> {
        let held: BTreeSet<Port> = self.reservations.lock().of(&setup.id).iter().map(ports::wire).collect();
        let missing =
            setup.ports.iter().filter(|port| port.host_port != rules::ROUTED && !held.contains(&ports::wire(port)));
        let mut reserved: Vec<Reserved> = Vec::new();
        for port in missing {
            match ports::bind(port) {
                Ok(socket) => reserved.push((port.clone(), Arc::new(socket))),
                Err(error) => tracing::error!(
                    container = setup.id.short(), host_ip = %port.host_ip, host_port = port.host_port, %error,
                    "a published port was taken by somebody else"
                ),
            }
        }
        self.hold(&setup.id, &reserved).await?;
        self.reservations.lock().add(&setup.id, reserved.into_iter().map(|(port, _)| port));
        Ok(())
    }
}

#[async_trait]
impl Network for KernelNetwork {
    async fn ensure_network(&self, network: &NetworkRecord) -> Result<()> {
        let (inner, network) = (self.inner.clone(), network.clone());
        blocking(move || inner.ensure_network(&network)).await
    }

    fn expect_networks(&self, networks: &[NetworkRecord]) {
        let parent =
            |network: &NetworkRecord| Some((network.id.clone(), driver::named(&network.driver).parent(network)?));
        self.inner.parents.lock().extend(networks.iter().filter_map(parent));
    }

    async fn remove_network(&self, id: &NetworkId) -> Result<()> {
        let (inner, id) = (self.inner.clone(), id.clone());
        blocking(move || inner.remove_network(&id)).await
    }

    async fn networks(&self) -> Result<Vec<NetworkId>> {
        let inner = self.inner.clone();
        blocking(move || inner.networks()).await
    }

    async fn reserve_ports(&self, id: &ContainerId, wanted: &[PortRequest]) -> Result<Vec<PublishedPort>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let reserved = {
            let mut reservations = self.inner.reservations.lock();
            let reserved = reservations.bind(wanted)?;
            reservations.add(id, reserved.iter().map(|(port, _)| port.clone()));
            reserved
        };
        if let Err(error) = self.inner.hold(id, &reserved).await {
            self.release_ports(id).await?;
            return Err(error);
        }
        Ok(reserved.into_iter().map(|(port, _)| port).collect())
    }

    async fn release_ports(&self, id: &ContainerId) -> Result<()> {
        let held = !self.inner.reservations.lock().of(id).is_empty();
        if held {
            self.inner.netd.ask(Request::Release { container: id.to_string() }, Vec::new()).await?;
            self.inner.reservations.lock().remove(id);
        }
        Ok(())
    }

    async fn create_sandbox(&self, setup: &SandboxSetup) -> Result<PathBuf> {
        self.open_sandbox(setup, Origin::New).await
    }

    async fn wire_sandbox(&self, setup: &SandboxSetup, process: u32) -> Result<PathBuf> {
        self.open_sandbox(setup, Origin::Process(process)).await
    }

    async fn resolve(&self, id: &ContainerId, setup: &ResolverSetup) -> Result<()> {
        let known = self.inner.resolvers.lock().contains(id);
        if !known && setup.networks.is_empty() {
            return Ok(());
        }
        let path = self.inner.namespaces.path(id);
        let sockets = if known { Vec::new() } else { namespace::on_a_thread(move || resolver::open(&path)).await? };
        let request = Request::Resolve { container: id.to_string(), resolver: resolver::wire(setup) };
        self.inner.netd.ask(request, sockets).await?;
        self.inner.resolvers.lock().insert(id.clone());
        Ok(())
    }

    async fn delete_sandbox(&self, id: &ContainerId) -> Result<()> {
        // Its sockets would hold the namespace.
        self.inner.unresolve(id).await?;
        if !self.inner.portless.lock().remove(id) {
            self.inner.netd.ask(Request::Rest { container: id.to_string() }, Vec::new()).await?;
        }
        let (inner, id) = (self.inner.clone(), id.clone());
        blocking(move || {
            inner.leftovers.expect_gone(sandbox::let_go(&id, &inner.namespaces)?);
            Ok(())
        })
        .await
    }

    async fn return_interface(&self, id: &ContainerId, interface: &str, source: &str) -> Result<()> {
        if !self.inner.namespaces.is_pinned(id) {
            return Ok(());
        }
        let path = self.inner.namespaces.path(id);
        let (interface, source) = (interface.to_owned(), source.to_owned());
        Ok(namespace::on_a_thread(move || driver::lent::give_back(&path, &interface, &source)).await?)
    }

    async fn adopt_sandbox(&self, setup: &SandboxSetup) -> Result<()> {
        if !self.inner.namespaces.is_pinned(&setup.id) {
            return Err(Error::not_found(format!("no network namespace of container {}", setup.id.short())));
        }
        self.inner.mend_ports(setup).await?;
        self.update_sandbox(setup).await
    }

    async fn update_sandbox(&self, setup: &SandboxSetup) -> Result<()> {
        if !self.inner.namespaces.is_pinned(&setup.id) {
            return Err(Error::not_found(format!("no network namespace of container {}", setup.id.short())));
        }
        let (inner, work) = (self.inner.clone(), setup.clone());
        let updated = namespace::on_a_thread(move || sandbox::update(&work, &inner.namespaces, &inner.settings)).await;
        // Ports follow what could be done; a link that could not be made must not keep them in the wrong place.
        self.inner.lead(setup).await.and(updated.map_err(Error::from))
    }

    async fn sandboxes(&self) -> Result<Vec<ContainerId>> {
        let mut found: BTreeSet<ContainerId> = self.inner.namespaces.list()?.into_iter().collect();
        found.extend(self.inner.reservations.lock().containers().cloned());
        found.extend(self.inner.resolvers.lock().iter().cloned());
        Ok(found.into_iter().collect())
    }

    async fn host_routes(&self) -> Result<Vec<ipnet::IpNet>> {
        let inner = self.inner.clone();
        blocking(move || Ok(routes::of_host(&inner.settings)?)).await
    }

    async fn statistics(&self, id: &ContainerId) -> Result<BTreeMap<String, InterfaceStatistics>> {
        let path = self.inner.namespaces.path(id);
        Ok(namespace::on_a_thread(move || sandbox::statistics(&path)).await?)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if Forwarding::is_off() {
            warnings.push("WARNING: IPv4 forwarding is disabled".to_owned());
        }
        let answer = self.inner.netd.ask_blocking(Request::ForeignDrops, Vec::new(), WARNINGS_PATIENCE);
        if let Ok(Reply::ForeignDrops { chains }) = answer.map(|answer| answer.reply) {
            warnings.extend(chains.iter().map(|chain| foreign_drop(chain)));
        }
        warnings
    }
}

fn foreign_drop(chain: &str) -> String {
    if chain.starts_with("inet firewalld ") {
        return format!(
            "WARNING: firewalld rejects forwarded packets ({chain}) of networks that are in no zone which accepts them; \
             for each subnet of containers: firewall-cmd --permanent --zone=trusted --add-source=SUBNET && firewall-cmd \
             --reload"
        );
    }
    format!("WARNING: another firewall drops forwarded packets ({chain}); containers may be cut off")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| Error::system("a network step panicked").with_source(error))?
}

fn targets(setup: &SandboxSetup) -> Targets {
    let of = |v6| setup.target(v6);
    Targets {
        v4: of(false).and_then(|ip| if let std::net::IpAddr::V4(ip) = ip { Some(ip) } else { None }),
        v6: of(true).and_then(|ip| if let std::net::IpAddr::V6(ip) = ip { Some(ip) } else { None }),
    }
}
