//! Links on the default bridge (`--link db:database`): lines of `/etc/hosts` and variables, as dockerd makes them.

use std::net::IpAddr;

/// A link as the linking container sees its target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Name of the container that links.
    pub parent: String,
    pub alias: String,
    /// Name and hostname of the target.
    pub target: String,
    pub hostname: String,
    pub addresses: Vec<IpAddr>,
    /// `80/tcp`.
    pub ports: Vec<String>,
    pub env: Vec<String>,
}

impl Link {
    /// What `/etc/hosts` names the target: alias, hostname, name.
    pub fn names(&self) -> String {
        let mut names = format!("{} {}", self.alias, self.hostname);
        if self.alias != self.target {
            names = format!("{names} {}", self.target);
        }
        names
    }

    /// `DB_PORT`, `DB_PORT_5432_TCP…`, `DB_NAME`, `DB_ENV_…`.
    pub fn variables(&self) -> Vec<String> {
        let alias = self.alias.to_uppercase().replace('-', "_");
        let mut variables = Vec::new();
        if let Some(address) = self.addresses.first() {
            let ports = self.sorted_ports();
            if let Some((port, protocol)) = ports.first() {
                variables.push(format!("{alias}_PORT={protocol}://{address}:{port}"));
            }
            for (port, protocol) in &ports {
                let prefix = prefix(&alias, *port, protocol);
                variables.push(format!("{prefix}={protocol}://{address}:{port}"));
                variables.push(format!("{prefix}_ADDR={address}"));
                variables.push(format!("{prefix}_PORT={port}"));
                variables.push(format!("{prefix}_PROTO={protocol}"));
            }
            for (first, last, protocol) in ranges(&ports) {
                let prefix = prefix(&alias, first, protocol);
                variables.push(format!("{prefix}_START={protocol}://{address}:{first}"));
                variables.push(format!("{prefix}_PORT_START={first}"));
                variables.push(format!("{prefix}_END={protocol}://{address}:{last}"));
                variables.push(format!("{prefix}_PORT_END={last}"));
            }
        }
        variables.push(format!("{alias}_NAME=/{}/{}", self.parent, self.alias));
        let own = self.env.iter().filter_map(|variable| variable.split_once('='));
        // What every image sets says nothing about the target.
        let own = own.filter(|(name, _)| !matches!(*name, "HOME" | "PATH"));
        variables.extend(own.map(|(name, value)| format!("{alias}_ENV_{name}={value}")));
        variables
    }

    /// TCP first, each by number.
    fn sorted_ports(&self) -> Vec<(u16, &str)> {
        let ports = self.ports.iter().filter_map(|port| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            Some((number.parse().ok()?, protocol))
        });
        let mut ports: Vec<(u16, &str)> = ports.collect();
        ports.sort_by_key(|(port, protocol)| (*protocol != "tcp", *protocol, *port));
        ports.dedup();
        ports
    }
}

fn prefix(alias: &str, port: u16, protocol: &str) -> String {
    format!("{alias}_PORT_{port}_{}", protocol.to_uppercase())
}

/// Runs of at least two ports next to each other.
fn ranges<'a>(ports: &[(u16, &'a str)]) -> Vec<(u16, u16, &'a str)> {
    let mut ranges: Vec<(u16, u16, &str)> = Vec::new();
    for (port, protocol) in ports {
        match ranges.last_mut() {
            Some((_, last, of)) if of == protocol && last.checked_add(1) == Some(*port) => *last = *port,
            _ => ranges.push((*port, *port, protocol)),
        }
    }
    ranges.retain(|(first, last, _)| first != last);
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ports: &[&str]) -> Link {
        Link {
            parent: "web".into(),
            alias: "a-b".into(),
            target: "db".into(),
            hostname: "dbhost".into(),
            addresses: vec![IpAddr::from([172, 17, 0, 2])],
            ports: ports.iter().map(|port| (*port).to_owned()).collect(),
            env: vec!["FOO=bar".into(), "PATH=/bin".into(), "HOME=/".into(), "alone".into()],
        }
    }

    #[test]
    fn the_variables_are_dockers() {
        let variables = link(&["5433/udp", "6000/tcp", "5432/tcp"]).variables();
        assert_eq!(variables[0], "A_B_PORT=tcp://172.17.0.2:5432");
        assert_eq!(
            variables[1..5],
            [
                "A_B_PORT_5432_TCP=tcp://172.17.0.2:5432",
                "A_B_PORT_5432_TCP_ADDR=172.17.0.2",
                "A_B_PORT_5432_TCP_PORT=5432",
                "A_B_PORT_5432_TCP_PROTO=tcp"
            ]
        );
        assert!(variables.contains(&"A_B_PORT_5433_UDP_PROTO=udp".to_owned()));
        assert_eq!(variables[variables.len() - 2..], ["A_B_NAME=/web/a-b", "A_B_ENV_FOO=bar"]);
    }

    #[test]
    fn ports_next_to_each_other_are_a_range() {
        let variables = link(&["10/tcp", "11/tcp", "12/tcp", "14/tcp", "15/udp"]).variables();
        let of_range: Vec<_> = variables.iter().filter(|v| v.contains("START") || v.contains("END")).collect();
        assert_eq!(
            of_range,
            [
                "A_B_PORT_10_TCP_START=tcp://172.17.0.2:10",
                "A_B_PORT_10_TCP_PORT_START=10",
                "A_B_PORT_10_TCP_END=tcp://172.17.0.2:12",
                "A_B_PORT_10_TCP_PORT_END=12"
            ]
        );
    }

    #[test]
    fn the_name_of_the_target_is_said_once() {
        let mut link = link(&[]);
        assert_eq!(link.names(), "a-b dbhost db");
        link.alias = "db".into();
        assert_eq!(link.names(), "db dbhost");
    }
}
