//! The JSON of libnetwork's remote protocol (`libnetwork/drivers/remote/api`, `libnetwork/ipams/remote/api`).

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gantry_domain::{
    Error, Result,
    container::record::Endpoint,
    network::{
        NetworkRecord, Protocol,
        endpoint::{self, is_interface_name},
        lent::StaticRoute,
        pool_facts::PoolFacts,
    },
    ports::{EndpointOptions, Joined, MadeEndpoint, Place},
};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

pub const GATEWAY: &str = "com.docker.network.gateway";
/// Longest beginning of an interface's name: there is a number behind it.
const PREFIX_MAX: usize = 12;

pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// In Go's words.
pub fn cidr(text: &str) -> Result<IpNet> {
    text.parse().map_err(|_| Error::system(format!("invalid CIDR address: {text}")))
}

fn address(text: &str, name: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::system(format!("unable to parse {name} \"{text}\"")))
}

pub fn network(network: &NetworkRecord) -> Value {
    let pools = |v6| network.pool_facts(v6).iter().map(pool).collect::<Vec<_>>();
    json!({
        "NetworkID": network.id.as_str(),
        "Options": network_options(network),
        "IPv4Data": pools(false),
        "IPv6Data": pools(true),
    })
}

fn pool(pool: &PoolFacts) -> Value {
    let mut shown = json!({"AddressSpace": pool.space, "Pool": pool.net.to_string()});
    if let Some(gateway) = pool.gateway {
        shown["Gateway"] = json!(gateway.to_string());
    }
    if !pool.aux.is_empty() {
        shown["AuxAddresses"] = pool.aux.iter().map(|(name, net)| (name.clone(), json!(net.to_string()))).collect();
    }
    shown
}

pub fn network_options(network: &NetworkRecord) -> Value {
    let mut options = json!({
        "com.docker.network.generic": network.options,
        "com.docker.network.enable_ipv4": network.enable_ipv4,
        "com.docker.network.enable_ipv6": network.enable_ipv6,
    });
    if network.internal {
        options["com.docker.network.internal"] = json!(true);
    }
    options
}

pub fn place(place: &Place) -> Value {
    json!({"NetworkID": place.network.as_str(), "EndpointID": place.endpoint})
}

pub fn endpoint(network: &NetworkRecord, endpoint: &Endpoint, options: &EndpointOptions) -> Value {
    let text = |net: Option<String>| net.unwrap_or_default();
    let mut all = Map::from_iter(options.driver.iter().map(|(key, value)| (key.clone(), json!(value))));
    all.extend(published(options));
    if let Some(mac) = options.mac {
        // Go writes its bytes so.
        all.insert("com.docker.network.endpoint.macaddress".into(), json!(STANDARD.encode(mac)));
    }
    json!({
        "NetworkID": network.id.as_str(),
        "EndpointID": endpoint.endpoint_id,
        "Interface": {
            "Address": text(endpoint.ipv4.map(|net| net.to_string())),
            "AddressIPv6": text(endpoint.ipv6.map(|net| net.to_string())),
            "MacAddress": endpoint.mac,
        },
        "Options": all,
    })
}

/// Options of the sandbox: the ports alone.
pub fn sandbox_options(options: &EndpointOptions) -> Value {
    Value::Object(published(options).into_iter().collect())
}

fn published(options: &EndpointOptions) -> [(String, Value); 2] {
    let exposed = options.exposed.iter().map(|(port, protocol)| json!({"Proto": number(*protocol), "Port": port}));
    let ports = options.ports.iter().map(|port| {
        let (first, last) = port.host_ports.unwrap_or_default();
        let host_ip = port.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        json!({
            "Proto": number(port.protocol), "IP": "", "Port": port.container_port,
            "HostIP": host_ip, "HostPort": first, "HostPortEnd": last,
        })
    });
    [
        ("com.docker.network.endpoint.exposedports".into(), exposed.collect()),
        ("com.docker.network.portmap".into(), ports.collect()),
    ]
}

/// As in an IP packet.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// What the driver chose. It may not choose what was chosen.
pub fn made_endpoint(answer: &Value, given: &Endpoint) -> Result<MadeEndpoint> {
    let Some(interface) = answer.get("Interface").filter(|interface| !interface.is_null()) else {
        return Ok(MadeEndpoint::default());
    };
    let mac = text(interface, "MacAddress");
    if !mac.is_empty() && !given.mac.is_empty() {
        return Err(modified("MAC address"));
    }
    if !mac.is_empty() && endpoint::mac(mac).is_none() {
        return Err(Error::system(format!("address {mac}: invalid MAC address")));
    }
    let mut made = MadeEndpoint { mac: mac.to_owned(), ..MadeEndpoint::default() };
    for (key, taken) in [("Address", given.ipv4.is_some()), ("AddressIPv6", given.ipv6.is_some())] {
        match text(interface, key) {
            "" => {}
            _ if taken => return Err(modified("address")),
            text => match cidr(text)? {
                IpNet::V4(net) => made.ipv4 = Some(net),
                IpNet::V6(net) => made.ipv6 = Some(net),
            },
        }
    }
    Ok(made)
}

fn modified(what: &str) -> Error {
    Error::system(format!("driver modified interface {what}"))
}

pub fn joined(answer: &Value) -> Result<Joined> {
    let gateway = address(text(answer, "Gateway"), "Gateway")?;
    let gateway_v6 = address(text(answer, "GatewayIPv6"), "GatewayIPv6")?;
    let routes = answer.get("StaticRoutes").and_then(Value::as_array).into_iter().flatten();
    let interface = answer.get("InterfaceName").unwrap_or(&Value::Null);
    let (source, prefix) = (text(interface, "SrcName"), text(interface, "DstPrefix"));
    // They become names in the kernel, and a part of paths.
    if !source.is_empty() && (!is_interface_name(source) || !is_interface_name(prefix) || prefix.len() > PREFIX_MAX) {
        return Err(Error::system(format!("failed to set interface name: {source:?} to {prefix:?}")));
    }
    Ok(Joined {
        source: source.to_owned(),
        prefix: prefix.to_owned(),
        gateway: gateway.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }),
        gateway_v6: gateway_v6.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None }),
        routes: routes.map(route).collect::<Result<_>>()?,
    })
}

/// `RouteType` 1 is a connected one.
fn route(route: &Value) -> Result<StaticRoute> {
    let next_hop = text(route, "NextHop");
    let bad = || Error::system(format!("failed to parse nexthop IP {next_hop}"));
    let connected = route.get("RouteType").and_then(Value::as_u64) == Some(1);
    let next_hop = if connected || next_hop.is_empty() { None } else { Some(next_hop.parse().map_err(|_| bad())?) };
    Ok(StaticRoute { destination: cidr(text(route, "Destination"))?, next_hop })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use gantry_domain::network::{IpamConfig, PortRequest};

    use super::*;

    #[test]
    fn a_network_is_told_with_its_options_and_pools() {
        let mut record = NetworkRecord::named("x");
        record.options.insert("k".into(), "v".into());
        record.internal = true;
        let pool = IpamConfig { subnet: "10.0.0.0/24".into(), gateway: "10.0.0.1".into(), ..Default::default() };
        record.ipam.config = Some(vec![pool]);
        assert_eq!(
            network(&record),
            json!({
                "NetworkID": record.id.as_str(),
                "Options": {
                    "com.docker.network.generic": {"k": "v"}, "com.docker.network.enable_ipv4": true,
                    "com.docker.network.enable_ipv6": false, "com.docker.network.internal": true,
                },
                "IPv4Data": [{"AddressSpace": "LocalDefault", "Pool": "10.0.0.0/24", "Gateway": "10.0.0.1/24"}],
                "IPv6Data": [],
            })
        );
    }

    #[test]
    fn an_endpoint_is_told_with_its_ports_and_the_users_own_mac_address() {
        let options = EndpointOptions {
            exposed: vec![(80, Protocol::Tcp)],
            ports: vec![PortRequest {
                container_port: 53,
                protocol: Protocol::Udp,
                host_ip: Some("127.0.0.1".parse().unwrap()),
                host_ports: Some((53, 54)),
                container_ips: [None; 2],
            }],
            driver: [("k".to_owned(), "v".to_owned())].into(),
            mac: Some([2, 0x42, 0, 0, 0, 1]),
        };
        let given = Endpoint { ipv4: Some("10.0.0.2/24".parse().unwrap()), ..Endpoint::default() };
        let told = endpoint(&NetworkRecord::named("x"), &given, &options);
        assert_eq!(told["Interface"], json!({"Address": "10.0.0.2/24", "AddressIPv6": "", "MacAddress": ""}));
        let ports =
            json!([{"Proto": 17, "IP": "", "Port": 53, "HostIP": "127.0.0.1", "HostPort": 53, "HostPortEnd": 54}]);
        assert_eq!(told["Options"]["com.docker.network.portmap"], ports);
        assert_eq!(told["Options"]["com.docker.network.endpoint.exposedports"], json!([{"Proto": 6, "Port": 80}]));
        assert_eq!(told["Options"]["k"], "v");
        assert_eq!(told["Options"]["com.docker.network.endpoint.macaddress"], "AkIAAAAB");
    }

    #[test]
    fn a_driver_chooses_only_what_nobody_has_chosen() {
        let answer = json!({"Interface": {"Address": "10.0.0.9/24", "MacAddress": "02:42:00:00:00:09"}});
        let made = made_endpoint(&answer, &Endpoint::default()).unwrap();
        assert_eq!((made.ipv4.unwrap().to_string().as_str(), made.mac.as_str()), ("10.0.0.9/24", "02:42:00:00:00:09"));
        let given = Endpoint { ipv4: Some("10.0.0.2/24".parse().unwrap()), ..Endpoint::default() };
        assert_eq!(made_endpoint(&answer, &given).unwrap_err().message(), "driver modified interface address");
        assert_eq!(made_endpoint(&json!({"Interface": null}), &given).unwrap(), MadeEndpoint::default());
        assert!(made_endpoint(&json!({"Interface": {"Address": "10.0.0.9"}}), &Endpoint::default()).is_err());
    }

    #[test]
    fn a_join_gives_interface_gateways_and_routes() {
        let answer = json!({
            "InterfaceName": {"SrcName": "vethx", "DstPrefix": "eth"},
            "Gateway": "10.0.0.1", "GatewayIPv6": "",
            "StaticRoutes": [
                {"Destination": "10.1.0.0/16", "RouteType": 0, "NextHop": "10.0.0.3"},
                {"Destination": "169.254.1.1/32", "RouteType": 1, "NextHop": ""},
            ],
        });
        let found = joined(&answer).unwrap();
        assert_eq!((found.source.as_str(), found.prefix.as_str()), ("vethx", "eth"));
        assert_eq!((found.gateway.unwrap().to_string().as_str(), found.gateway_v6), ("10.0.0.1", None));
        assert_eq!(found.routes[0].next_hop.unwrap().to_string(), "10.0.0.3");
        assert_eq!(found.routes[1].next_hop, None);
        assert_eq!(joined(&json!({})).unwrap(), Joined::default());
        assert_eq!(joined(&json!({"Gateway": "x"})).unwrap_err().message(), "unable to parse Gateway \"x\"");
    }

    #[test]
    fn a_name_that_the_kernel_would_not_take_is_refused() {
        for (source, prefix) in [("a/b", "eth"), ("veth0", ""), ("veth0", ".."), ("veth0", "longer-than-12")] {
            let answer = json!({"InterfaceName": {"SrcName": source, "DstPrefix": prefix}});
            assert!(joined(&answer).unwrap_err().message().starts_with("failed to set interface name"), "{source}");
        }
    }
}
