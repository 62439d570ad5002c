//! A laboratory: each test runs in a process of its own, in new network, mount and process namespaces that play the
//! host, with another namespace that plays the outside. Nothing of the real host is touched, and all ends with it.
//!
//! ```text
//!   outside 192.0.2.100 ───wan0 192.0.2.1 [host] docker0 172.17.0.1 ─── containers
//!   2001:db8::100       ───     2001:db8::1
//! ```

use std::{
    collections::BTreeMap,
    fs::File,
    future::Future,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use gantry_domain::{
    ContainerId,
    container::record::Endpoint,
    engine_id::EngineId,
    network::{Ipam, IpamConfig, NetworkRecord, PortRequest, Protocol, PublishedPort},
    ports::{Network as _, SandboxSetup},
};
use gantry_network::{KernelNetwork, NetworkSettings};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

const MARK: &str = "GANTRY_NETWORK_LAB";
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Runs `body` in the laboratory; the test of that name is started again inside it.
pub fn run<F: Future<Output = ()>>(name: &str, body: impl FnOnce(Lab) -> F) {
    if std::env::var(MARK).is_ok_and(|marked| marked == name) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(async { body(Lab::new()).await });
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: {name} needs root");
        return;
    }
    netd();
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(MARK, name)
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed in its laboratory");
}

/// The program under test, built once.
fn netd() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = || std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("gantry-netd");
    BUILT
        .get_or_init(|| {
            if std::env::var(MARK).is_err() {
                let mut cargo = Command::new(env!("CARGO"));
                cargo.args(["build", "--quiet", "--package", "gantry-netd"]);
                if path().ancestors().nth(1).is_some_and(|folder| folder.ends_with("release")) {
                    cargo.arg("--release");
                }
                assert!(cargo.status().unwrap().success());
            }
            path()
        })
        .clone()
}

/// A namespace by its descriptor.
#[derive(Clone)]
pub struct Namespace(Arc<OwnedFd>);

impl Namespace {
    fn new() -> Self {
        let made = thread::spawn(|| {
            // SAFETY: only the network namespace of this throw-away thread changes.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())
        });
        Self(Arc::new(made.join().unwrap()))
    }
    /// One that belongs to a user namespace of its own, and the process that waits in it; ends with that.
    pub fn with_user_namespace() -> (Self, std::process::Child) {
        let mut child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sh", "-c", "echo ready; exec sleep 1000"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
        (Self::at(Path::new(&format!("/proc/{}/ns/net", child.id()))), child)
    }
    pub fn at(path: &Path) -> Self {
        Self(Arc::new(File::open(path).unwrap().into()))
    }
    /// The laboratory's host.
    pub fn host() -> Self {
        Self::at(Path::new("/proc/self/ns/net"))
    }
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
    /// Runs `work` on a thread inside.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap()
    }
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
        let namespace = self.0.clone();
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }
    /// Runs a program inside.
    pub fn sh(&self, script: &str) -> String {
        sh(&format!("nsenter --net={} sh -ec '{script}'", self.path()))
    }
    /// Says `name`, and who asks, to each that connects; then repeats what it hears until the end of the stream.
    pub fn serve_tcp(&self, at: impl Into<IpAddr>, port: u16, name: &'static str) {
        let at = SocketAddr::from((at.into(), port));
        let listener = self.run(move || TcpListener::bind(at).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let peer = stream.peer_addr().unwrap().ip().to_canonical();
                    let _ = writeln!(stream, "{name} {peer}");
                    let mut reader = stream.try_clone().unwrap();
                    let _ = io::copy(&mut reader, &mut stream);
                    let _ = stream.shutdown(Shutdown::Write);
                });
            }
        });
    }
    pub fn serve_udp(&self, at: impl Into<IpAddr>, port: u16, name: &'static str) {
        let at = SocketAddr::from((at.into(), port));
        let socket = self.run(move || UdpSocket::bind(at).unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(format!("{name} {}", peer.ip().to_canonical()).as_bytes(), peer);
            }
        });
    }
    /// The first line that a TCP server says; its error where it does not.
    pub fn ask_tcp(&self, to: &str) -> io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.shutdown(Shutdown::Write)?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            said.lines().next().map(str::to_owned).ok_or(io::ErrorKind::UnexpectedEof.into())
        })
    }
    pub fn ask_udp(&self, to: &str) -> io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            socket.send(b"?")?;
            let mut buffer = [0; 2048];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }
}

pub struct Lab {
    pub folder: tempfile::TempDir,
    pub host: Namespace,
    pub outside: Namespace,
}

impl Lab {
    fn new() -> Self {
        // Nothing else in here has a say about it.
        sh("mount --make-rprivate / && ip link set lo up");
        // A new namespace takes the machine's own settings along.
        sh("echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding");
        let outside = Namespace::new();
        sh(&format!("ip link add wan0 type veth peer name eth0 netns {}", outside.path()));
        sh("ip address add 192.0.2.1/24 dev wan0 && ip address add 2001:db8::1/64 dev wan0 nodad");
        sh("ip link set wan0 up");
        outside.sh("ip link set lo up; ip link set eth0 up; ip address add 192.0.2.100/24 dev eth0");
        outside.sh("ip address add 2001:db8::100/64 dev eth0 nodad");
        Self { folder: tempfile::tempdir().unwrap(), host: Namespace::host(), outside }
    }
    pub fn settings(&self) -> NetworkSettings {
        NetworkSettings {
            engine: EngineId("5f0c2e9a-0000-4000-8000-000000000001".into()),
            exec_root: self.folder.path().to_owned(),
            netd: netd(),
            iptables: true,
            ip_masq: true,
            ip_forward: true,
            ip_forward_no_drop: false,
            icc: true,
            mtu: 0,
        }
    }
    pub async fn open(&self) -> KernelNetwork {
        KernelNetwork::open(self.settings()).await.unwrap()
    }
    /// With the default bridge made.
    pub async fn with_bridge(&self) -> (KernelNetwork, NetworkRecord) {
        let (network, bridge) = (self.open().await, record("docker0", &["172.17.0.0/16"]));
        network.ensure_network(&bridge).await.unwrap();
        (network, bridge)
    }
    /// Returns when the process is no more: what it still accepted would be lost with it.
    pub fn kill_netd(&self) {
        let pid = self.netd_pid();
        sh(&format!("kill -9 {pid}"));
        let cmdline = format!("/proc/{pid}/cmdline");
        eventually("netd is dead", || std::fs::read(&cmdline).map_or(true, |line| line.is_empty()));
    }
    pub fn netd_pid(&self) -> u32 {
        let socket = self.folder.path().join("netd");
        let found = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let entry = entry.ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let is_netd = line.windows(12).any(|part| part == b"gantry-netd\0");
            let serves = String::from_utf8_lossy(&line).contains(socket.to_str().unwrap());
            (is_netd && serves).then(|| entry.file_name().to_str()?.parse().ok())?
        });
        found.max().expect("netd runs")
    }
}

/// A bridge network of that name and subnets. `docker0` is the predefined one.
pub fn record(bridge: &str, subnets: &[&str]) -> NetworkRecord {
    let pools = subnets.iter().map(|subnet| IpamConfig { subnet: (*subnet).into(), ..IpamConfig::default() });
    NetworkRecord {
        generation: 1,
        enable_ipv6: subnets.iter().any(|subnet| subnet.contains("::")),
        ipam: Ipam { driver: "default".into(), options: None, config: Some(pools.collect()) },
        bridge: bridge.into(),
        predefined: bridge == "docker0",
        ..NetworkRecord::named(bridge)
    }
}

/// The `n`th address of each of the network's pools.
pub fn endpoint(network: &NetworkRecord, n: u8) -> Endpoint {
    let mut endpoint =
        Endpoint { endpoint_id: ContainerId::random().to_string(), interface: "eth0".into(), ..Endpoint::default() };
    for pool in network.ipam.config.iter().flatten() {
        match pool.subnet.parse().unwrap() {
            ipnet::IpNet::V4(net) => {
                let base = u32::from(net.network());
                endpoint.ipv4 = Some(ipnet::Ipv4Net::new((base + u32::from(n)).into(), net.prefix_len()).unwrap());
                endpoint.ipv4_gateway = Some((base + 1).into());
            }
            ipnet::IpNet::V6(net) => {
                let base = u128::from(net.network());
                endpoint.ipv6 = Some(ipnet::Ipv6Net::new((base + u128::from(n)).into(), net.prefix_len()).unwrap());
                endpoint.ipv6_gateway = Some((base + 1).into());
            }
        }
    }
    endpoint
}

pub fn setup(network: &NetworkRecord, n: u8) -> SandboxSetup {
    SandboxSetup {
        id: ContainerId::random(),
        endpoints: vec![(network.clone(), endpoint(network, n))],
        ports: Vec::new(),
        sysctls: BTreeMap::new(),
    }
}

pub fn publish(protocol: Protocol, host_ip: Option<&str>, host_port: u16, container_port: u16) -> PortRequest {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    PortRequest {
        container_port,
        protocol,
        host_ip,
        host_ports: Some((host_port, host_port)),
        container_ips: [None; 2],
    }
}

/// Reserves the ports and makes the sandbox, as the engine does.
pub async fn start(network: &KernelNetwork, setup: &mut SandboxSetup, wanted: &[PortRequest]) -> Namespace {
    setup.ports = network.reserve_ports(&setup.id, wanted).await.unwrap();
    Namespace::at(&network.create_sandbox(setup).await.unwrap())
}

/// Another outside, 203.0.113.1 behind the host's 203.0.113.254, that the first one has a route to.
pub async fn far(lab: &Lab, network: &KernelNetwork) -> Namespace {
    let mut far = setup(&record("br-x", &[]), 2);
    far.endpoints.clear();
    let far = start(network, &mut far, &[]).await;
    sh(&format!("ip link add wan1 type veth peer name eth0 netns {}", far.path()));
    sh("ip link set wan1 up; ip address add 203.0.113.254/24 dev wan1; ip address add 2001:db8:1::1/64 dev wan1 nodad");
    far.sh("ip link set eth0 up; ip address add 203.0.113.1/24 dev eth0; ip route add default via 203.0.113.254");
    far.sh("echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip address add 2001:db8:1::100/64 dev eth0 nodad; ip -6 route add default via 2001:db8:1::1");
    lab.outside.sh("ip route add 203.0.113.0/24 via 192.0.2.1; ip -6 route add 2001:db8:1::/64 via 2001:db8::1");
    far
}

pub async fn stop(network: &KernelNetwork, id: &ContainerId) {
    network.delete_sandbox(id).await.unwrap();
    network.release_ports(id).await.unwrap();
}

pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until it holds; how long that took.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
    begun.elapsed()
}

#[allow(dead_code)]
pub fn host_ports(ports: &[PublishedPort]) -> Vec<u16> {
    ports.iter().map(|port| port.host_port).collect()
}
