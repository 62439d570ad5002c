//! Port specifications: `80`, `80/tcp`, ranges, and what is to be bound on the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Config, HostConfig, config::Empty};
use crate::{
    Error, Result,
    network::{PortRequest, Protocol},
};

/// `80`, `80/udp`, `8000-8010/tcp` → first, last, protocol.
pub fn parse_port(spec: &str) -> Result<(u16, u16, Protocol)> {
    let bad = || Error::invalid(format!("invalid port specification: \"{spec}\""));
    let (ports, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" | "" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(bad()),
    };
    let (first, last) = parse_range(ports).ok_or_else(bad)?;
    Ok((first, last, protocol))
}

/// The same of a filter (`publish`, `expose`), in Go's words; a protocol that there is not matches no port.
pub fn asked_ports(filter: &str, spec: &str) -> Result<(u16, u16, Protocol)> {
    let bad = |why: String| Error::system(format!("error while looking up for {filter} {spec}: {why}"));
    let (ports, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let last = last.split('-').next().unwrap_or_default();
    if ports.is_empty() {
        return Err(bad("Empty string specified for ports.".into()));
    }
    let number = |text: &str| go_uint(text).map_err(&bad);
    match ((number(first)?, number(last)?), protocol.to_ascii_lowercase().as_str()) {
        ((first, last), _) if first > last => Err(bad(format!("Invalid range specified for the Port: {ports}"))),
        ((first, last), "tcp" | "") => Ok((first, last, Protocol::Tcp)),
        ((first, last), "udp") => Ok((first, last, Protocol::Udp)),
        ((first, last), "sctp") => Ok((first, last, Protocol::Sctp)),
        _ => Ok((1, 0, Protocol::Tcp)),
    }
}

/// Go's `strconv.ParseUint` of 16 bits.
fn go_uint(text: &str) -> std::result::Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let why = if digits { "value out of range" } else { "invalid syntax" };
    parse_number(text).ok_or_else(|| format!("strconv.ParseUint: parsing {text:?}: {why}"))
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_number(first)?, parse_number(last)?);
    (first <= last).then_some((first, last))
}

fn parse_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

/// Checks `PortBindings` and `ExposedPorts` in dockerd's words.
pub fn validate(config: &Config, host: &HostConfig) -> Result<()> {
    for spec in config.exposed_ports.keys() {
        parse_port(spec)?;
    }
    for (spec, bindings) in host.port_bindings.iter().flatten() {
        let (first, last, _) = parse_port(spec)?;
        if first != last {
            let ports = spec.split_once('/').map_or(spec.as_str(), |(ports, _)| ports);
            return Err(Error::invalid(format!("invalid port specification: \"{ports}\"")));
        }
        for binding in bindings.iter().flatten() {
            host_ports(&binding.host_port)?;
            host_ip(&binding.host_ip)?;
        }
    }
    Ok(())
}

/// Empty text and port 0 leave the choice to the engine.
fn host_ports(text: &str) -> Result<Option<(u16, u16)>> {
    if text.is_empty() {
        return Ok(None);
    }
    match parse_port(text)? {
        (0, 0, _) => Ok(None),
        (first, last, _) => Ok(Some((first, last))),
    }
}

fn host_ip(text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map(Some).map_err(|_| Error::invalid(format!("invalid IP address: {text}")))
}

/// What is to be bound for this container: its bindings, and every exposed port with `PublishAllPorts`.
/// `default_ip` stands in for an empty host address.
pub fn requests(
    exposed: &BTreeMap<String, Empty>,
    host: &HostConfig,
    default_ip: Option<IpAddr>,
) -> Result<Vec<PortRequest>> {
    let mut ports = BTreeSet::new();
    if host.publish_all_ports {
        for spec in exposed.keys() {
            let (first, last, protocol) = parse_port(spec)?;
            ports.extend((first..=last).map(|port| (port, protocol)));
        }
    }
    let mut asked: BTreeMap<_, Vec<PortRequest>> = BTreeMap::new();
    for (spec, bindings) in host.port_bindings.iter().flatten() {
        let (container_port, _, protocol) = parse_port(spec)?;
        for binding in bindings.iter().flatten() {
            asked.entry((container_port, protocol)).or_default().push(PortRequest {
                container_port,
                protocol,
                host_ip: host_ip(&binding.host_ip)?.or(default_ip),
                host_ports: host_ports(&binding.host_port)?,
                container_ips: [None; 2],
            });
        }
    }
    for (container_port, protocol) in ports {
        asked.entry((container_port, protocol)).or_insert_with(|| {
            vec![PortRequest {
                container_port,
                protocol,
                host_ip: default_ip,
                host_ports: None,
                container_ips: [None; 2],
            }]
        });
    }
    // Fixed ports first, so that a port the engine chooses does not take one that is asked for by number.
    let mut all: Vec<PortRequest> = asked.into_values().flatten().collect();
    all.sort_by_key(|request| match request.host_ports {
        Some((first, last)) => u32::from(last - first),
        None => u32::MAX,
    });
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::container::host_config::{PortBinding, PortMap};

    fn bindings(list: &[(&str, &str, &str)]) -> PortMap {
        let mut map = PortMap::new();
        for (port, ip, host_port) in list {
            let binding = PortBinding { host_ip: (*ip).into(), host_port: (*host_port).into() };
            map.entry((*port).into()).or_default().get_or_insert_default().push(binding);
        }
        map
    }

    fn host(list: &[(&str, &str, &str)]) -> HostConfig {
        HostConfig { port_bindings: Some(bindings(list)), ..HostConfig::default() }
    }

    #[test]
    fn single_ports_ranges_and_protocols() {
        assert_eq!(parse_port("80").unwrap(), (80, 80, Protocol::Tcp));
        assert_eq!(parse_port("80/UDP").unwrap(), (80, 80, Protocol::Udp));
        assert_eq!(parse_port("8000-8010/sctp").unwrap(), (8000, 8010, Protocol::Sctp));
        for bad in ["", "80/x", "9-8", "65536", "-1", "+1", "1-2-3", "80/tcp/udp", "a"] {
            let text = format!("invalid port specification: \"{bad}\"");
            assert_eq!(parse_port(bad).unwrap_err().message(), text);
        }
    }

    #[test]
    fn ports_of_a_filter_are_refused_in_gos_words() {
        for (spec, why) in [
            ("abc", "strconv.ParseUint: parsing \"abc\": invalid syntax"),
            ("99999", "strconv.ParseUint: parsing \"99999\": value out of range"),
            ("80-abc", "strconv.ParseUint: parsing \"abc\": invalid syntax"),
            ("90-80", "Invalid range specified for the Port: 90-80"),
            ("/tcp", "Empty string specified for ports."),
        ] {
            let error = asked_ports("publish", spec).unwrap_err();
            assert_eq!(error.message(), format!("error while looking up for publish {spec}: {why}"));
            assert_eq!(error.kind(), crate::ErrorKind::System);
        }
        assert_eq!(asked_ports("expose", "80-82/udp").unwrap(), (80, 82, Protocol::Udp));
        let (first, last, _) = asked_ports("expose", "80/foo").unwrap();
        assert!(first > last);
    }

    #[test]
    fn bindings_are_refused_in_dockers_words() {
        for (spec, ip, port, text) in [
            ("8000-8010/tcp", "", "", "invalid port specification: \"8000-8010\""),
            ("80/tcp", "", "a", "invalid port specification: \"a\""),
            ("80/tcp", "1.2.3", "1", "invalid IP address: 1.2.3"),
        ] {
            let error = validate(&Config::default(), &host(&[(spec, ip, port)])).unwrap_err();
            assert_eq!(error.message(), text);
        }
        validate(&Config::default(), &host(&[("80/tcp", "::1", "8000-8010"), ("53", "", "")])).unwrap();
    }

    #[test]
    fn fixed_ports_are_asked_for_before_chosen_ones() {
        let host = host(&[("80/tcp", "", ""), ("81/tcp", "127.0.0.1", "8081"), ("82/udp", "", "9000-9002")]);
        let requests = requests(&BTreeMap::new(), &host, Some(IpAddr::from([10, 0, 0, 1]))).unwrap();
        let ports: Vec<_> = requests.iter().map(|r| (r.container_port, r.host_ports)).collect();
        assert_eq!(ports, [(81, Some((8081, 8081))), (82, Some((9000, 9002))), (80, None)]);
        assert_eq!(requests[0].host_ip, Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(requests[1].host_ip, Some(IpAddr::from([10, 0, 0, 1])));
    }

    #[test]
    fn publish_all_takes_exposed_ports_that_have_no_binding() {
        let exposed = BTreeMap::from([("80/tcp".to_owned(), Empty {}), ("90-91/udp".to_owned(), Empty {})]);
        let mut host = host(&[("80/tcp", "", "8080")]);
        assert_eq!(requests(&exposed, &host, None).unwrap().len(), 1);
        host.publish_all_ports = true;
        let all: Vec<_> = requests(&exposed, &host, None).unwrap();
        assert_eq!(all.iter().map(|r| r.container_port).collect::<Vec<_>>(), [80, 90, 91]);
    }

    proptest! {
        #[test]
        fn a_range_reads_back(first in any::<u16>(), last in any::<u16>()) {
            let parsed = parse_port(&format!("{first}-{last}/udp"));
            if first <= last {
                prop_assert_eq!(parsed.unwrap(), (first, last, Protocol::Udp));
            } else {
                prop_assert!(parsed.is_err());
            }
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_port(&text);
            let _ = host_ip(&text);
        }
    }
}
