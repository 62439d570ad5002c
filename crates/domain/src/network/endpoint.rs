//! A container's place in a network: the names it is known by, and which endpoint leads outside.

use std::{cmp::Reverse, net::IpAddr};

use super::NetworkRecord;
use crate::{
    Error, Result,
    container::{ContainerRecord, EndpointSettings, record::Endpoint},
};

/// Name of the interface in the container.
pub const OPTION_NAME: &str = "com.docker.network.endpoint.ifname";
/// `net.ipv4.conf.IFNAME.log_martians=1,…`
pub const OPTION_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
/// Longest name of an interface.
const NAME_MAX: usize = 15;

/// `DNSNames`: the container's name, its aliases, its short id and its host name, each once. The first one is what its
/// addresses resolve back to.
pub fn dns_names(record: &ContainerRecord, aliases: Option<&[String]>) -> Vec<String> {
    let mut names = Vec::new();
    let own = [record.name.as_str()].into_iter();
    let last = [record.id.short(), record.config.hostname.as_str()];
    for name in own.chain(aliases.unwrap_or_default().iter().map(String::as_str)).chain(last) {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Sorts endpoints so that the one which is to give the default routes is first: by priority, then those that have a
/// gateway at all, then those with both families, then by the network's name.
pub fn sort(endpoints: &mut [(NetworkRecord, Endpoint)]) {
    endpoints.sort_by(|(a_network, a), (b_network, b)| rank(a_network, a).cmp(&rank(b_network, b)));
}

fn rank<'a>(network: &'a NetworkRecord, endpoint: &Endpoint) -> (Reverse<i64>, Reverse<u8>, &'a str) {
    let gateways = u8::from(endpoint.ipv4_gateway.is_some()) + u8::from(endpoint.ipv6_gateway.is_some());
    (Reverse(endpoint.gw_priority), Reverse(gateways), &network.name)
}

/// What dockerd refuses of an endpoint's settings; `None` for a network that is not there (yet).
pub fn check(network: Option<&NetworkRecord>, settings: &EndpointSettings) -> Result<()> {
    let mut errors = Vec::new();
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let (v4, v6) = (ipam.ipv4_address.as_str(), ipam.ipv6_address.as_str());
    if network.is_some_and(|network| network.predefined) {
        if !v4.is_empty() || !v6.is_empty() {
            errors.push("user specified IP address is supported on user defined networks only".to_owned());
        }
        if settings.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
            errors.push("network-scoped alias is supported only for containers in user defined networks".to_owned());
        }
    }
    errors.extend(bad_address(v4, "IPv4", IpAddr::is_ipv4));
    errors.extend(bad_address(v6, "IPv6", IpAddr::is_ipv6));
    let link_local = ipam.link_local_ips.iter().flatten();
    errors.extend(link_local.filter_map(|text| bad_address(text, "link-local IP", |_| true)));
    if let Some(network) = network {
        errors.extend(out_of_range(network, v4, network.own_pools.v4));
        errors.extend(out_of_range(network, v6, network.own_pools.v6));
    }
    if !settings.mac_address.is_empty() && mac(&settings.mac_address).is_none() {
        return Err(Error::invalid(format!("invalid MAC address {}", settings.mac_address)));
    }
    let options = settings.driver_opts.iter().flatten();
    for (key, value) in options {
        match key.as_str() {
            OPTION_SYSCTLS => errors.extend(value.split(',').filter_map(bad_sysctl)),
            OPTION_NAME if !is_interface_name(value) => {
                errors.push(format!("invalid interface name: {value}"));
            }
            _ => {}
        }
    }
    match errors.as_slice() {
        [] => Ok(()),
        [error] => Err(Error::invalid(format!("invalid endpoint settings:\n{error}"))),
        errors => Err(Error::invalid(format!("invalid endpoint settings:\n* {}", errors.join("\n* ")))),
    }
}

fn bad_address(text: &str, kind: &str, is_kind: impl Fn(&IpAddr) -> bool) -> Option<String> {
    let parsed = text.parse::<IpAddr>().ok();
    let fine = text.is_empty() || parsed.is_some_and(|address| is_kind(&address) && !address.is_unspecified());
    (!fine).then(|| format!("invalid {kind} address: {text}"))
}

/// `own`: the network's subnets of this family were asked for.
fn out_of_range(network: &NetworkRecord, text: &str, own: bool) -> Option<String> {
    if text.is_empty() {
        None
    } else if !own || network.predefined {
        Some(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
                .to_owned(),
        )
    } else if text.parse::<IpAddr>().is_ok_and(|address| network.subnets().any(|subnet| subnet.contains(&address))) {
        None
    } else {
        Some(format!("no configured subnet or ip-range contain the IP address {text}"))
    }
}

fn bad_sysctl(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.splitn(5, '.').collect();
    let fine = matches!(parts.as_slice(), [_, "ipv4" | "ipv6" | "mpls", _, "IFNAME" | "ifname", _]);
    (!fine).then(|| {
        format!(
            "unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' \
             must be 'ipv4', 'ipv6' or 'mpls'"
        )
    })
}

/// Settings of this interface from its driver option, with its name filled in.
pub fn sysctls(settings: &EndpointSettings, interface: &str) -> std::collections::BTreeMap<String, String> {
    let text = settings.driver_opts.iter().flatten().find(|(key, _)| *key == OPTION_SYSCTLS);
    let entries = text.map(|(_, value)| value.as_str()).unwrap_or_default().split(',');
    entries
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| {
            // With slashes, so that a dot in the interface's name is no separator.
            let key = key.splitn(5, '.').map(|part| if matches!(part, "IFNAME" | "ifname") { interface } else { part });
            (key.collect::<Vec<_>>().join("/"), value.to_owned())
        })
        .collect()
}

/// Whether the kernel takes it as an interface's name.
pub fn is_interface_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '"' | '%');
    !name.is_empty() && name.len() <= NAME_MAX && name != "." && name != ".." && name.chars().all(allowed)
}

/// The six octets of `02:42:ac:11:00:02`.
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = text.split([':', '-']).map(|octet| u8::from_str_radix(octet, 16));
    let mut mac = [0; 6];
    for octet in &mut mac {
        *octet = octets.next()?.ok()?;
    }
    octets.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::networking::EndpointIpamConfig;

    fn asked(v4: &str) -> EndpointSettings {
        let ipam = EndpointIpamConfig { ipv4_address: v4.into(), ..EndpointIpamConfig::default() };
        EndpointSettings { ipam_config: Some(ipam), ..EndpointSettings::default() }
    }

    #[test]
    fn a_container_is_known_by_name_aliases_short_id_and_host_name() {
        let mut record = ContainerRecord { name: "web".into(), ..ContainerRecord::default() };
        record.config.hostname = "web".into();
        let aliases = ["www".to_owned(), "web".to_owned()];
        assert_eq!(dns_names(&record, Some(&aliases)), ["web", "www", "000000000000"]);
    }

    #[test]
    fn a_static_address_needs_a_subnet_that_was_asked_for() {
        let mut network = NetworkRecord::named("x");
        network.ipam.config =
            Some(vec![super::super::IpamConfig { subnet: "10.9.0.0/24".into(), ..Default::default() }]);
        let error = check(Some(&network), &asked("10.9.0.7")).unwrap_err();
        assert!(error.message().ends_with("only when connecting to networks with user configured subnets"));
        network.own_pools.v4 = true;
        assert!(check(Some(&network), &asked("10.9.0.7")).is_ok());
        let error = check(Some(&network), &asked("10.8.0.7")).unwrap_err();
        assert_eq!(
            error.message(),
            "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.8.0.7"
        );
    }

    #[test]
    fn several_errors_are_a_list() {
        let network = NetworkRecord { predefined: true, ..NetworkRecord::named("bridge") };
        let error = check(Some(&network), &asked("10.99")).unwrap_err();
        assert_eq!(
            error.message(),
            "invalid endpoint settings:\n* user specified IP address is supported on user defined networks only\n* \
             invalid IPv4 address: 10.99\n* user specified IP address is supported only when connecting to networks \
             with user configured subnets"
        );
    }

    #[test]
    fn the_highest_priority_gives_the_route_then_who_has_a_gateway() {
        let endpoint = |priority, gateway: bool| Endpoint {
            gw_priority: priority,
            ipv4_gateway: gateway.then_some([10, 0, 0, 1].into()),
            ..Endpoint::default()
        };
        let mut all = vec![
            (NetworkRecord::named("a"), endpoint(0, false)),
            (NetworkRecord::named("c"), endpoint(0, true)),
            (NetworkRecord::named("b"), endpoint(0, true)),
            (NetworkRecord::named("z"), endpoint(1, true)),
        ];
        sort(&mut all);
        assert_eq!(all.iter().map(|(network, _)| network.name.as_str()).collect::<String>(), "zbca");
    }

    #[test]
    fn sysctls_name_their_interface_by_a_placeholder() {
        let option = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=0".to_owned();
        let mut settings =
            EndpointSettings { driver_opts: Some([(OPTION_SYSCTLS.to_owned(), option)].into()), ..Default::default() };
        assert!(check(None, &settings).is_ok());
        let set = sysctls(&settings, "eth1");
        assert_eq!(set["net/ipv4/conf/eth1/log_martians"], "1");
        settings.driver_opts = Some([(OPTION_SYSCTLS.to_owned(), "net.ipv4.ip_forward=1".to_owned())].into());
        assert!(check(None, &settings).is_err());
    }

    #[test]
    fn a_mac_address_is_six_octets() {
        assert_eq!(mac("02:42:ac:11:00:02"), Some([2, 0x42, 0xac, 0x11, 0, 2]));
        assert_eq!(mac("02:42:ac:11:00"), None);
        assert_eq!(mac("02:42:ac:11:00:02:03"), None);
    }
}
