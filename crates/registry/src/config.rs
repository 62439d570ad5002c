//! What of the daemon's configuration concerns registries.

use std::{path::PathBuf, time::Duration};

use crate::proxy::Proxies;

/// One value, swapped whole; an operation reads it once.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// `insecure-registries`: `host[:port]` or a network; loopback always counts as one.
    pub insecure: Vec<String>,
    /// `registry-mirrors`: URLs that are asked for Docker Hub's images before Docker Hub itself.
    pub mirrors: Vec<String>,
    /// A folder for each registry, with authorities (`*.crt`), client certificates (`*.cert`, `*.key`), `hosts.toml`.
    pub certificates: PathBuf,
    pub proxies: Proxies,
    /// Layers of one pull that are fetched at the same time; 0 counts as 1.
    pub downloads: usize,
    /// Layers of one push that are sent at the same time; 0 counts as 1.
    pub uploads: usize,
    /// How often a transfer is begun again that did not come one byte further.
    pub attempts: u32,
    /// Before a refused request is sent again; each wait is twice the one before.
    pub pause: Duration,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            mirrors: Vec::new(),
            certificates: "/etc/docker/certs.d".into(),
            proxies: Proxies::default(),
            downloads: 3,
            uploads: 5,
            attempts: 5,
            pause: Duration::from_secs(1),
        }
    }
}
