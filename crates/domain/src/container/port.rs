//! Port specifications: `80`, `80/tcp`, ranges, and what is to be bound on the host.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Config, HostConfig, config::Empty};
use crate::{
    Result,
    network::{PortRequest, Protocol},
};

/// `80`, `80/udp`, `8000-8010/tcp` → first, last, protocol.
pub fn parse_port(_spec: &str) -> Result<(u16, u16, Protocol)> {
    todo!()
}

/// Checks `PortBindings` and `ExposedPorts` in dockerd's words.
pub fn validate(_config: &Config, _host: &HostConfig) -> Result<()> {
    todo!()
}

/// What is to be bound for this container: its bindings, and every exposed port with `PublishAllPorts`.
/// `default_ip` stands in for an empty host address.
pub fn requests(
    _exposed: &BTreeMap<String, Empty>,
    _host: &HostConfig,
    _default_ip: Option<IpAddr>,
) -> Result<Vec<PortRequest>> {
    todo!()
}
