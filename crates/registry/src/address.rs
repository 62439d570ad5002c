//! Where a registry is, and whether it may be spoken to without a verified certificate.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use gantry_domain::{Error, Result};
use http::Uri;
use ipnet::IpNet;
use tokio::time::timeout;

use crate::config::RegistryConfig;

/// Docker Hub: what people and their `config.json` call it, and the host that serves its registry.
const HUB_NAMES: [&str; 2] = ["docker.io", "index.docker.io"];
pub(crate) const HUB: &str = "registry-1.docker.io";
/// A name server that is silent for so long does not know the name; a proxy may.
const LOOKUP: Duration = Duration::from_secs(5);

/// A host whose name has been looked up once, so that what was checked is what is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// `registry.example:5000`, as it stands in URLs.
    pub authority: String,
    /// Without port and brackets.
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub port: Option<u16>,
    /// An unverified certificate, or none at all, will do.
    pub insecure: bool,
}

/// `host[:port]` of the address that a client typed; a scheme and a path are allowed and ignored, as in dockerd.
pub(crate) fn authority(typed: &str) -> Result<String> {
    if typed.is_empty() {
        return Ok(HUB.into());
    }
    let scheme = typed.starts_with("https://") || typed.starts_with("http://");
    let url = if scheme { typed.to_owned() } else { format!("https://{typed}") };
    let parsed: Uri =
        url.parse().map_err(|error| Error::invalid(format!("unable to parse server address: {error}")))?;
    match parsed.authority().filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty()) {
        Some(authority) if HUB_NAMES.contains(&authority.as_str()) => Ok(HUB.into()),
        Some(authority) => Ok(authority.as_str().to_owned()),
        None => Err(Error::invalid(format!("unable to parse server address: {typed:?} names no host"))),
    }
}

impl Host {
    /// Looks the name up. An insecure host keeps only the addresses that made it so. A name that is not known here may
    /// be known to a proxy: the host then has no addresses.
    pub async fn find(authority: &str, config: &RegistryConfig) -> Result<Self> {
        let parsed: http::uri::Authority =
            authority.parse().map_err(|error| Error::invalid(format!("invalid registry host {authority}: {error}")))?;
        let name = parsed.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let addresses: Vec<IpAddr> = match timeout(LOOKUP, tokio::net::lookup_host((name.as_str(), 0))).await {
            Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
            Ok(Err(error)) => {
                tracing::debug!(%error, name, "a registry's name is not known here");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!(name, "the name server does not answer");
                Vec::new()
            }
        };
        let mut host =
            Self { authority: authority.to_owned(), name, addresses, port: parsed.port_u16(), insecure: false };
        host.judge(&config.insecure);
        Ok(host)
    }

    fn judge(&mut self, insecure: &[String]) {
        if insecure.contains(&self.authority) {
            self.insecure = true;
            return;
        }
        let networks: Vec<IpNet> = insecure.iter().filter_map(|entry| entry.parse().ok()).chain(loopback()).collect();
        let (inside, outside): (Vec<_>, Vec<_>) =
            self.addresses.iter().copied().partition(|address| networks.iter().any(|one| one.contains(address)));
        self.insecure = !inside.is_empty();
        self.addresses = if self.insecure { inside } else { outside };
    }

    pub fn sockets(&self, port: u16) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().map(move |address| SocketAddr::new(*address, port))
    }
}

fn loopback() -> [IpNet; 2] {
    [
        IpNet::from(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::from(ipnet::Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn host(authority: &str, insecure: &[&str]) -> Host {
        let insecure = insecure.iter().map(|entry| (*entry).to_owned()).collect();
        Host::find(authority, &RegistryConfig { insecure, ..RegistryConfig::default() }).await.unwrap()
    }

    #[test]
    fn an_address_may_have_a_scheme_and_a_path_and_empty_is_docker_hub() {
        assert_eq!(authority("").unwrap(), "registry-1.docker.io");
        assert_eq!(authority("https://index.docker.io/v1/").unwrap(), "registry-1.docker.io");
        assert_eq!(authority("reg.example:5000").unwrap(), "reg.example:5000");
        assert_eq!(authority("http://reg.example/v2/").unwrap(), "reg.example");
        assert_eq!(authority("[::1]:5000").unwrap(), "[::1]:5000");
        for wrong in ["https://", "a b", "user:secret@host", "http:///path"] {
            let error = authority(wrong).unwrap_err();
            assert_eq!(error.kind(), gantry_domain::ErrorKind::InvalidParameter, "{wrong}");
        }
    }

    #[tokio::test]
    async fn loopback_and_listed_hosts_and_networks_are_insecure_and_nothing_else() {
        assert!(host("127.0.0.1:5000", &[]).await.insecure);
        assert!(host("[::1]:5000", &[]).await.insecure);
        assert!(!host("10.1.2.3:5000", &[]).await.insecure);
        assert!(host("10.1.2.3:5000", &["10.1.0.0/16"]).await.insecure);
        assert!(host("10.1.2.3:5000", &["10.1.2.3:5000"]).await.insecure);
        assert!(!host("10.1.2.3:5001", &["10.1.2.3:5000", "other"]).await.insecure);
    }
}
