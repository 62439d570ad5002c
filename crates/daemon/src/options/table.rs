//! The table of options: one row for each flag of dockerd 28 and each key of its daemon.json.

use gantry_domain::container::log_shipment::REMOTE;
use serde_json::Value;

use super::{
    Effect::{self, Refused, TunesNothing, Works},
    Kind::{self, Any, Bool, Int, List, Map, MapOfMaps, Pools, Runtimes, Size, Switches, Text, Ulimits},
    Reload::{self, Live, NewContainers, Restart},
    Row,
};

const fn row(flag: &'static str, kind: Kind, reload: Reload, effect: Effect, help: &'static str) -> Row {
    Row { flag: Some(flag), short: None, key: flag, kind, reload, effect, help }
}

/// A flag whose key in the file has another name, mostly its plural.
const fn keyed(
    flag: &'static str,
    key: &'static str,
    kind: Kind,
    reload: Reload,
    effect: Effect,
    help: &'static str,
) -> Row {
    Row { flag: Some(flag), short: None, key, kind, reload, effect, help }
}

const fn short(letter: char, row: Row) -> Row {
    Row { short: Some(letter), ..row }
}

/// A key of the file without a flag.
const fn file_only(key: &'static str, kind: Kind, reload: Reload, effect: Effect) -> Row {
    Row { flag: None, short: None, key, kind, reload, effect, help: "" }
}

const fn refused(asks: fn(&Value) -> bool, why: &'static str) -> Effect {
    Refused { asks, why }
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(value) => !value.is_empty(),
        Value::Array(value) => !value.is_empty(),
        Value::Object(value) => !value.is_empty(),
    }
}

fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

fn is_no_overlay(value: &Value) -> bool {
    !matches!(value.as_str(), None | Some("" | "overlay2" | "overlayfs"))
}

fn is_unknown_log_driver(value: &Value) -> bool {
    let known = |driver: &str| matches!(driver, "" | "json-file" | "local" | "none") || REMOTE.contains(&driver);
    !value.as_str().is_none_or(known)
}

fn is_foreign_namespace(value: &Value) -> bool {
    !matches!(value.as_str(), None | Some("" | "gantry"))
}

fn is_foreign_firewall(value: &Value) -> bool {
    !matches!(value.as_str(), None | Some("" | "nftables"))
}

const NO_SWARM: &str = "swarm mode is not there";
const NO_BRIDGE_LAYOUT: &str =
    "this part of the default bridge cannot be set yet (--bip, --fixed-cidr and --default-address-pool can)";

/// Every option, in the order of dockerd's `--help`.
pub static ROWS: &[Row] = &[
    keyed("add-runtime", "runtimes", Runtimes, NewContainers, Works, "Register an additional OCI compatible runtime"),
    row(
        "allow-direct-routing",
        Bool(false),
        Restart,
        refused(is_set, "direct routing to container ports from other hosts cannot be switched on"),
        "Allow remote access to published ports on container IP addresses",
    ),
    row(
        "allow-nondistributable-artifacts",
        List,
        Live,
        TunesNothing("dockerd itself ignores it since 28"),
        "Allow push of nondistributable artifacts to registry (ignored)",
    ),
    row(
        "api-cors-header",
        Text(""),
        Restart,
        refused(
            is_set,
            "DEPRECATED: The \"api-cors-header\" config parameter and the dockerd \"--api-cors-header\" option have \
             been removed; use a reverse proxy if you need CORS headers",
        ),
        "Set CORS headers in the Engine API (removed)",
    ),
    keyed(
        "authorization-plugin",
        "authorization-plugins",
        List,
        Restart,
        refused(is_set, "authorization plugins are not there, and requests would go through unchecked"),
        "Authorization plugins to load",
    ),
    row("bip", Text(""), Restart, Works, "IPv4 address for the default bridge"),
    row("bip6", Text(""), Restart, refused(is_set, NO_BRIDGE_LAYOUT), "IPv6 address for the default bridge"),
    short(
        'b',
        row("bridge", Text(""), Restart, refused(is_set, NO_BRIDGE_LAYOUT), "Attach containers to a network bridge"),
    ),
    row(
        "bridge-accept-fwmark",
        Text(""),
        Restart,
        refused(is_set, "marks of packets are not looked at"),
        "In bridge networks, accept packets with this firewall mark/mask",
    ),
    keyed("cdi-spec-dir", "cdi-spec-dirs", List, Restart, Works, "CDI specification directories to use"),
    row("cgroup-parent", Text(""), NewContainers, Works, "Set parent cgroup for all containers"),
    row("containerd", Text(""), Restart, Works, "containerd grpc address; without it gantryd starts its own"),
    row(
        "containerd-namespace",
        Text(""),
        Restart,
        refused(is_foreign_namespace, "gantryd keeps its containers in containerd's namespace \"gantry\""),
        "Containerd namespace to use (default \"gantry\")",
    ),
    keyed(
        "containerd-plugins-namespace",
        "containerd-plugin-namespace",
        Text(""),
        Restart,
        TunesNothing("managed plugins are not there"),
        "Containerd namespace to use for plugins",
    ),
    row(
        "cpu-rt-period",
        Int(0),
        Restart,
        refused(is_set, "real-time limits of the parent cgroup are not set by gantryd"),
        "Limit the CPU real-time period in microseconds for the parent cgroup for all containers",
    ),
    row(
        "cpu-rt-runtime",
        Int(0),
        Restart,
        refused(is_set, "real-time limits of the parent cgroup are not set by gantryd"),
        "Limit the CPU real-time runtime in microseconds for the parent cgroup for all containers",
    ),
    row(
        "cri-containerd",
        Bool(false),
        Restart,
        refused(is_set, "the containerd that gantryd starts has no CRI; give --containerd one that has"),
        "start containerd with cri",
    ),
    row("data-root", Text("/var/lib/gantry"), Restart, Works, "Root directory of persistent state"),
    short('D', row("debug", Bool(false), Live, Works, "Enable debug mode")),
    keyed(
        "default-address-pool",
        "default-address-pools",
        Pools,
        Restart,
        Works,
        "Default address pools for node specific local networks",
    ),
    row(
        "default-cgroupns-mode",
        Text(""),
        NewContainers,
        Works,
        "Default mode for containers cgroup namespace (\"host\" | \"private\")",
    ),
    row(
        "default-gateway",
        Text(""),
        Restart,
        refused(is_set, NO_BRIDGE_LAYOUT),
        "Default gateway IPv4 address for the default bridge network",
    ),
    row(
        "default-gateway-v6",
        Text(""),
        Restart,
        refused(is_set, NO_BRIDGE_LAYOUT),
        "Default gateway IPv6 address for the default bridge network",
    ),
    row(
        "default-ipc-mode",
        Text("private"),
        NewContainers,
        Works,
        "Default mode for containers ipc (\"shareable\" | \"private\")",
    ),
    keyed(
        "default-network-opt",
        "default-network-opts",
        MapOfMaps,
        Restart,
        refused(is_set, "networks cannot be created yet, so that their default options have no use"),
        "Default network options",
    ),
    row("default-runtime", Text("runc"), NewContainers, Works, "Default OCI runtime for containers"),
    row("default-shm-size", Size(64 << 20), NewContainers, Works, "Default shm size for containers"),
    keyed("default-ulimit", "default-ulimits", Ulimits, NewContainers, Works, "Default ulimits for containers"),
    row("dns", List, NewContainers, Works, "DNS server to use"),
    keyed("dns-opt", "dns-opts", List, NewContainers, Works, "DNS options to use"),
    row("dns-search", List, NewContainers, Works, "DNS search domains to use"),
    keyed("exec-opt", "exec-opts", List, Restart, Works, "Runtime execution options"),
    row("exec-root", Text("/run/gantry"), Restart, Works, "Root directory for execution state files"),
    row("experimental", Bool(false), Live, Works, "Enable experimental features"),
    keyed("feature", "features", Switches, Live, Works, "Enable feature in the daemon"),
    row(
        "firewall-backend",
        Text(""),
        Restart,
        refused(is_foreign_firewall, "gantryd's rules are nftables', there is no other backend"),
        "Firewall backend to use, nftables",
    ),
    row("fixed-cidr", Text(""), Restart, Works, "IPv4 subnet for the default bridge network"),
    row(
        "fixed-cidr-v6",
        Text(""),
        Restart,
        refused(is_set, NO_BRIDGE_LAYOUT),
        "IPv6 subnet for the default bridge network",
    ),
    short('G', row("group", Text("docker"), Restart, Works, "Group for the unix socket")),
    short('H', keyed("host", "hosts", List, Restart, Works, "Daemon socket(s) to connect to")),
    keyed(
        "host-gateway-ip",
        "host-gateway-ips",
        List,
        NewContainers,
        Works,
        "IP addresses that the special 'host-gateway' string in --add-host resolves to",
    ),
    file_only("host-gateway-ip", Text(""), NewContainers, Works),
    row("http-proxy", Text(""), Live, Works, "HTTP proxy URL to use for outgoing traffic"),
    row("https-proxy", Text(""), Live, Works, "HTTPS proxy URL to use for outgoing traffic"),
    row("icc", Bool(true), Restart, Works, "Enable inter-container communication for the default bridge network"),
    row(
        "init",
        Bool(false),
        NewContainers,
        Works,
        "Run an init inside containers to forward signals and reap processes",
    ),
    row("init-path", Text(""), NewContainers, Works, "Path to the init binary (default gantry-init)"),
    keyed("insecure-registry", "insecure-registries", List, Live, Works, "Enable insecure registry communication"),
    row("ip", Text("0.0.0.0"), NewContainers, Works, "Host IP for port publishing from the default bridge network"),
    row("ip-forward", Bool(true), Restart, Works, "Enable IP forwarding in system configuration"),
    row(
        "ip-forward-no-drop",
        Bool(false),
        Restart,
        TunesNothing("gantryd never sets the policy of another table"),
        "Do not set the filter-FORWARD policy to DROP when enabling IP forwarding",
    ),
    row("ip-masq", Bool(true), Restart, Works, "Enable IP masquerading for the default bridge network"),
    row(
        "ip6tables",
        Bool(true),
        Restart,
        refused(is_false, "the rules of both families are one table: --iptables=false switches off both"),
        "Enable addition of ip6tables rules",
    ),
    row("iptables", Bool(true), Restart, Works, "Enable addition of firewall rules"),
    row(
        "ipv6",
        Bool(false),
        Restart,
        refused(is_set, "the default bridge has no IPv6 yet; a network of your own can"),
        "Enable IPv6 networking for the default bridge network",
    ),
    keyed("label", "labels", List, Live, Works, "Set key=value labels to the daemon"),
    row(
        "live-restore",
        Bool(false),
        Live,
        Works,
        "Keep containers alive while the daemon is away; gantryd always does",
    ),
    row(
        "log-driver",
        Text("json-file"),
        NewContainers,
        refused(
            is_unknown_log_driver,
            "the log drivers are json-file, local, none, syslog, journald, gelf and fluentd",
        ),
        "Default driver for container logs",
    ),
    row("log-format", Text("text"), Restart, Works, "Set the logging format (\"text\"|\"json\")"),
    short(
        'l',
        row(
            "log-level",
            Text("info"),
            Live,
            Works,
            "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\")",
        ),
    ),
    keyed("log-opt", "log-opts", Map, NewContainers, Works, "Default log driver options for containers"),
    row("max-concurrent-downloads", Int(3), Live, Works, "Set the max concurrent downloads"),
    row("max-concurrent-uploads", Int(5), Live, Works, "Set the max concurrent uploads"),
    row("max-download-attempts", Int(5), Live, Works, "Set the max download attempts for each pull"),
    row(
        "metrics-addr",
        Text(""),
        Restart,
        refused(is_set, "metrics are not there yet"),
        "Set default address and port to serve the metrics api on",
    ),
    row("mtu", Int(1500), Restart, Works, "Set the MTU of the default bridge network"),
    row(
        "network-control-plane-mtu",
        Int(1500),
        Restart,
        TunesNothing("there is no network control plane between hosts"),
        "Network Control plane MTU",
    ),
    row(
        "network-diagnostic-port",
        Int(0),
        Live,
        refused(is_set, "there is no network diagnostic server"),
        "TCP port number of the network diagnostic server",
    ),
    row("no-new-privileges", Bool(false), NewContainers, Works, "Set no-new-privileges by default for new containers"),
    row("no-proxy", Text(""), Live, Works, "Comma-separated list of hosts that need no proxy"),
    keyed(
        "node-generic-resource",
        "node-generic-resources",
        List,
        Live,
        TunesNothing(NO_SWARM),
        "Advertise user-defined resource",
    ),
    short('p', row("pidfile", Text(""), Restart, Works, "Path to use for daemon PID file")),
    row("raw-logs", Bool(false), Restart, Works, "Full timestamps without ANSI coloring; gantryd's log never has any"),
    keyed("registry-mirror", "registry-mirrors", List, Live, Works, "Preferred Docker registry mirror"),
    row(
        "rootless",
        Bool(false),
        Restart,
        refused(is_set, "gantryd runs as root, a rootless mode is not there"),
        "Enable rootless mode; typically used with RootlessKit",
    ),
    row(
        "seccomp-profile",
        Text(""),
        NewContainers,
        Works,
        "Path to seccomp profile. Set to \"unconfined\" to disable the default seccomp profile",
    ),
    row(
        "selinux-enabled",
        Bool(false),
        Restart,
        refused(is_set, "processes and files of containers would not be labelled"),
        "Enable selinux support",
    ),
    row("shutdown-timeout", Int(15), Live, Works, "Set the default shutdown timeout"),
    short(
        's',
        row(
            "storage-driver",
            Text(""),
            Restart,
            refused(is_no_overlay, "the storage driver is containerd's overlayfs (overlay2), there is no other yet"),
            "Storage driver to use",
        ),
    ),
    keyed(
        "storage-opt",
        "storage-opts",
        List,
        Restart,
        refused(is_set, "options of the storage driver are not there (a container's --storage-opt size= is)"),
        "Storage driver options",
    ),
    row(
        "strict-runtime",
        Bool(false),
        Restart,
        Works,
        "Refuse to start on a containerd or runc with a known hole (gantryd's own)",
    ),
    row(
        "swarm-default-advertise-addr",
        Text(""),
        Restart,
        TunesNothing(NO_SWARM),
        "Set default address or interface for swarm advertised address",
    ),
    file_only("swarm-raft-election-tick", Int(0), Restart, TunesNothing(NO_SWARM)),
    file_only("swarm-raft-heartbeat-tick", Int(0), Restart, TunesNothing(NO_SWARM)),
    row("tls", Bool(false), Restart, Works, "Use TLS; implied by --tlsverify"),
    row("tlscacert", Text(""), Restart, Works, "Trust certs signed only by this CA (default \"~/.docker/ca.pem\")"),
    row("tlscert", Text(""), Restart, Works, "Path to TLS certificate file (default \"~/.docker/cert.pem\")"),
    row("tlskey", Text(""), Restart, Works, "Path to TLS key file (default \"~/.docker/key.pem\")"),
    row("tlsverify", Bool(false), Restart, Works, "Use TLS and verify the remote"),
    row(
        "userland-proxy",
        Bool(true),
        Restart,
        TunesNothing("gantry-netd relays what the kernel cannot translate, at no cost for the rest"),
        "Use gantry-netd's relay for loopback traffic",
    ),
    row(
        "userland-proxy-path",
        Text(""),
        Restart,
        TunesNothing("the relay is gantry-netd"),
        "Path to the userland proxy binary",
    ),
    row(
        "userns-remap",
        Text(""),
        Restart,
        refused(is_set, "user namespaces are not there, and root in a container would be root of the host"),
        "User/Group setting for user namespaces",
    ),
    file_only("builder", Any, Restart, TunesNothing("there is no builder yet")),
    file_only("deprecated-key-path", Text(""), Restart, TunesNothing("dockerd itself ignores it")),
];
