//! The firewall as a value: what our bridges ask for, and the table and elements that follow from it.
//!
//! One `inet` table. Its chains are static and speak of sets; a bridge is an element in some of them, written when a
//! network comes or goes; a published port is an element in others, written when a container starts or stops.
//!
//! ```text
//! prerouting, output ─► published   local destination (never 127.0.0.0/8, ::1) ─► container, by the maps
//! forward                           within one bridge: yes; internal: no; into a bridge: answers, published ports
//! postrouting                       out of our subnets: the host's address
//! ```

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use gantry_domain::{engine_id::EngineId, network::options::GatewayMode};
use gantry_wire::net::{Element, Field, IpProtocol, Port, Request, Targets};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The whole of it. Kept in a file until the next boot, so that a new gantryd begins with what is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// We switched forwarding of IPv4 on: traffic between interfaces that are none of any engine's stays forbidden.
    pub guard_v4: bool,
    /// The same of IPv6.
    pub guard_v6: bool,
    /// Both, in the file of an older gantryd.
    #[serde(skip_serializing)]
    pub guard_forwarding: bool,
    /// By the bridge's name.
    pub bridges: BTreeMap<String, BridgeRules>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeRules {
    pub network: String,
    pub subnets: Vec<IpNet>,
    /// Nothing goes in or out.
    pub internal: bool,
    /// Containers of this bridge reach each other.
    pub icc: bool,
    pub masquerade: bool,
    /// Addresses of the host under which its containers go out, at most one of a family; else the interface's own.
    pub sources: Vec<IpAddr>,
    /// How what is outside reaches its containers.
    pub v4: GatewayMode,
    pub v6: GatewayMode,
    /// Interfaces of the host from which everything on this bridge is reached.
    pub trusted: Vec<String>,
}

impl BridgeRules {
    fn mode(&self, v6: bool) -> GatewayMode {
        if v6 { self.v6 } else { self.v4 }
    }
}

/// The name of an engine's table.
pub fn table_name(engine: &EngineId) -> String {
    let short: String = engine.0.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("gantry-{short}")
}

impl Rules {
    /// What netd is asked to put in force: nothing where there is no bridge.
    pub fn request(&self, table: String, engine: &EngineId) -> Request {
        if self.bridges.is_empty() {
            return Request::Rules { table, text: String::new(), frame: String::new(), elements: Vec::new() };
        }
        let (text, frame) = (self.text(&table, engine), self.frame(&table, engine));
        Request::Rules { table, text, frame, elements: self.elements() }
    }

    /// The table in nft's language, without elements of containers.
    pub fn text(&self, table: &str, engine: &EngineId) -> String {
        self.write(table, engine, &self.elements())
    }

    /// The same without what comes and goes with bridges: where it is unchanged, `elements` tell all that changed.
    pub fn frame(&self, table: &str, engine: &EngineId) -> String {
        self.write(table, engine, &[])
    }

    fn write(&self, table: &str, engine: &EngineId, elements: &[Element]) -> String {
        let sets: String = BRIDGE_SETS.iter().map(|(name, kind)| set(name, kind, elements)).collect();
        let families =
            [(self.guard_v4 || self.guard_forwarding, "ipv4"), (self.guard_v6 || self.guard_forwarding, "ipv6")];
        let guard: String =
            families.iter().filter(|(on, _)| *on).map(|(_, family)| GUARD.replace("FAMILY", family)).collect();
        let comment: String = engine.0.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let chains = CHAINS.replace("    GUARD\n", &guard);
        format!("table inet {table} {{\n  comment \"engine {comment}\"\n{sets}{PORT_SETS}{chains}}}\n")
    }

    /// What the bridges are in the table: elements of its sets, in order.
    pub fn elements(&self) -> Vec<Element> {
        let mut elements: Vec<Element> = self.bridges.iter().flat_map(|(name, bridge)| bridge.elements(name)).collect();
        elements.sort();
        elements.dedup();
        elements
    }
}

impl BridgeRules {
    fn elements(&self, name: &str) -> Vec<Element> {
        let bridge = || Field::Interface(name.to_owned());
        let mut elements = vec![member("bridges", vec![bridge()])];
        if self.internal {
            elements.push(member("internal", vec![bridge()]));
        }
        if self.icc {
            elements.push(member("within", vec![bridge(), bridge()]));
        }
        let trusted = self.trusted.iter().map(|from| vec![Field::Interface(from.clone()), bridge()]);
        elements.extend(trusted.map(|pair| member("trusted", pair)));
        for (v6, suffix) in [(false, '4'), (true, '6')] {
            match self.mode(v6) {
                GatewayMode::NatUnprotected => elements.push(member(&format!("unprotected{suffix}"), vec![bridge()])),
                GatewayMode::Routed => elements.push(member(&format!("routed{suffix}"), vec![bridge()])),
                GatewayMode::Nat | GatewayMode::Isolated => {}
            }
            let source = self.sources.iter().find(|source| source.is_ipv6() == v6);
            elements.extend(self.outward(v6).map(|net| match source {
                None => member(&format!("outward{suffix}"), vec![net]),
                Some(source) => {
                    Element { data: vec![Field::Ip(*source)], ..member(&format!("source{suffix}"), vec![net]) }
                }
            }));
        }
        elements
    }

    /// Subnets that leave under the host's address.
    fn outward(&self, v6: bool) -> impl Iterator<Item = Field> {
        let translated = matches!(self.mode(v6), GatewayMode::Nat | GatewayMode::NatUnprotected);
        let leaves = self.masquerade && !self.internal && translated;
        let subnets = self.subnets.iter().filter(move |net| leaves && net.addr().is_ipv6() == v6);
        subnets.map(|net| Field::Net(net.network(), net.prefix_len()))
    }
}

fn member(set: &str, key: Vec<Field>) -> Element {
    Element { set: set.to_owned(), key, data: Vec::new() }
}

/// What a container's published ports put into the table: nothing for loopback addresses, which the relay serves, nor
/// where host and container have different families. `bridges` are those that the container is on.
pub fn elements(ports: &[Port], targets: Targets, bridges: &[&str]) -> Vec<Element> {
    let mut elements: Vec<Element> =
        ports.iter().flat_map(|port| port_elements(*port, targets, bridges).unwrap_or_default()).collect();
    elements.sort();
    elements.dedup();
    elements
}

fn port_elements(port: Port, targets: Targets, bridges: &[&str]) -> Option<Vec<Element>> {
    let target = targets.reached_from(port.host_ip)?;
    if port.host_ip.is_loopback() || target.is_ipv4() != port.host_ip.is_ipv4() {
        return None;
    }
    let suffix = if target.is_ipv4() { "4" } else { "6" };
    let (protocol, host_port) = (Field::Protocol(port.protocol), Field::Port(port.host_port));
    let (set, key) = if port.host_ip.is_unspecified() {
        (format!("anywhere{suffix}"), vec![protocol.clone(), host_port.clone()])
    } else {
        (format!("address{suffix}"), vec![protocol.clone(), Field::Ip(port.host_ip), host_port.clone()])
    };
    let (ip, container_port) = (Field::Ip(target), Field::Port(port.container_port));
    let open = vec![ip.clone(), protocol.clone(), container_port.clone()];
    if port.host_port == ROUTED {
        return Some(vec![Element { set: format!("open{suffix}"), key: open, data: Vec::new() }]);
    }
    let mut elements = vec![
        Element { set, key, data: vec![ip, container_port] },
        Element { set: format!("open{suffix}"), key: open, data: Vec::new() },
    ];
    elements.extend(bridges.iter().map(|bridge| Element {
        set: "own".into(),
        key: vec![Field::Interface((*bridge).to_owned()), protocol.clone(), host_port.clone()],
        data: Vec::new(),
    }));
    Some(elements)
}

/// Port of a container that is reached at its own address only: nothing of the host's is taken for it.
pub const ROUTED: u16 = 0;

/// The protocol's number in the IP header.
pub fn protocol(protocol: gantry_domain::network::Protocol) -> IpProtocol {
    use gantry_domain::network::Protocol;
    match protocol {
        Protocol::Tcp => IpProtocol::TCP,
        Protocol::Udp => IpProtocol::UDP,
        Protocol::Sctp => IpProtocol::SCTP,
    }
}

fn set(name: &str, kind: &str, elements: &[Element]) -> String {
    let elements: Vec<String> =
        elements.iter().filter(|element| element.set == name).map(ToString::to_string).collect();
    let sort = if kind.contains(" : ") { "map" } else { "set" };
    let mut text = format!("  {sort} {name} {{ type {kind}; ");
    if !elements.is_empty() {
        let _ = write!(text, "elements = {{ {} }};", elements.join(", "));
    }
    text + "}\n"
}

/// Names and types of what bridges are elements of.
const BRIDGE_SETS: [(&str, &str); 12] = [
    ("bridges", "ifname"),
    ("internal", "ifname"),
    ("within", "ifname . ifname"),
    ("trusted", "ifname . ifname"),
    ("unprotected4", "ifname"),
    ("unprotected6", "ifname"),
    ("routed4", "ifname"),
    ("routed6", "ifname"),
    ("outward4", "ipv4_addr; flags interval"),
    ("outward6", "ipv6_addr; flags interval"),
    ("source4", "ipv4_addr : ipv4_addr; flags interval"),
    ("source6", "ipv6_addr : ipv6_addr; flags interval"),
];

const PORT_SETS: &str = "\
  map anywhere4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map anywhere6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  map address4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
  map address6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }
  set open4 { type ipv4_addr . inet_proto . inet_service; }
  set open6 { type ipv6_addr . inet_proto . inet_service; }
  set own { type ifname . inet_proto . inet_service; }
";

/// Every engine's bridges are bridges: they keep working, and decide for themselves.
const GUARD: &str = "    meta nfproto FAMILY meta iifkind != \"bridge\" meta oifkind != \"bridge\" drop\n";

/// What a container sends to a published port of its own bridge goes to the relay: where bridged packets pass these
/// chains (br_netfilter) the bridge would have to send the translated one back through the port it came from.
/// `accept` ends this table only. The administrator's own rules belong into a table of an earlier priority.
const CHAINS: &str = "\
  chain prerouting { type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump published
  }
  chain output { type nat hook output priority -100; policy accept;
    fib daddr type local jump published
  }
  chain published {
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    iifname . meta l4proto . th dport @own return
    dnat ip to meta l4proto . ip daddr . th dport map @address4
    dnat ip to meta l4proto . th dport map @anywhere4
    dnat ip6 to meta l4proto . ip6 daddr . th dport map @address6
    dnat ip6 to meta l4proto . th dport map @anywhere6
  }
  chain forward { type filter hook forward priority filter; policy accept;
    GUARD
    iifname . oifname @within accept
    iifname @internal drop
    oifname @internal drop
    oifname @bridges jump inward
  }
  chain inward {
    ct state established,related accept
    ct status dnat ip daddr . meta l4proto . th dport @open4 accept
    ct status dnat ip6 daddr . meta l4proto . th dport @open6 accept
    iifname . oifname @trusted accept
    meta nfproto ipv4 oifname @unprotected4 accept
    meta nfproto ipv6 oifname @unprotected6 accept
    oifname @routed4 meta l4proto icmp accept
    oifname @routed6 meta l4proto icmpv6 accept
    oifname @routed4 ip daddr . meta l4proto . th dport @open4 accept
    oifname @routed6 ip6 daddr . meta l4proto . th dport @open6 accept
    drop
  }
  chain postrouting { type nat hook postrouting priority srcnat; policy accept;
    oifname != @bridges snat ip to ip saddr map @source4
    oifname != @bridges snat ip6 to ip6 saddr map @source6
    ip saddr @outward4 oifname != @bridges masquerade
    ip6 saddr @outward6 oifname != @bridges masquerade
  }
";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn port(host_ip: &str) -> Port {
        Port { protocol: IpProtocol::TCP, host_ip: host_ip.parse().unwrap(), host_port: 8080, container_port: 80 }
    }

    fn v4_only() -> Targets {
        Targets { v4: Some([172, 17, 0, 2].into()), v6: None }
    }

    #[test]
    fn a_port_on_loopback_is_never_opened_in_the_firewall() {
        assert_eq!(elements(&[port("127.0.0.1"), port("::1"), port("127.0.0.7")], v4_only(), &["docker0"]), []);
    }

    #[test]
    fn an_ipv6_port_of_an_ipv4_container_is_the_relays_alone() {
        assert_eq!(elements(&[port("::")], v4_only(), &["docker0"]), []);
    }

    #[test]
    fn two_host_ports_for_one_container_port_open_it_once() {
        let both = elements(&[port("0.0.0.0"), port("192.0.2.2")], v4_only(), &["docker0"]);
        let sets: Vec<_> = both.iter().map(|element| element.set.as_str()).collect();
        assert_eq!(sets, ["address4", "anywhere4", "open4", "own"]);
    }

    #[test]
    fn a_port_of_a_routed_network_is_opened_and_not_translated() {
        let routed = Port { host_port: ROUTED, ..port("0.0.0.0") };
        let sets: Vec<_> = elements(&[routed], v4_only(), &["br-1"]).into_iter().map(|element| element.set).collect();
        assert_eq!(sets, ["open4"]);
    }

    #[test]
    fn an_internal_network_is_not_masqueraded() {
        let bridge = BridgeRules {
            subnets: vec!["10.1.0.1/24".parse().unwrap()],
            internal: true,
            masquerade: true,
            ..BridgeRules::default()
        };
        let rules = Rules { bridges: BTreeMap::from([("br-1".into(), bridge)]), ..Rules::default() };
        let text = rules.text("t", &EngineId("e".into()));
        assert!(!text.contains("10.1.0.0"));
        assert!(text.contains("set internal { type ifname; elements = { \"br-1\" };}"));
    }

    #[test]
    fn the_frame_is_the_same_whatever_bridges_there_are() {
        let bridge = BridgeRules { subnets: vec!["10.1.0.1/24".parse().unwrap()], ..BridgeRules::default() };
        let rules = Rules { bridges: BTreeMap::from([("br-1".into(), bridge)]), ..Rules::default() };
        let engine = EngineId("e".into());
        assert_eq!(rules.frame("t", &engine), Rules::default().text("t", &engine));
        assert_ne!(rules.text("t", &engine), rules.frame("t", &engine));
    }
}
