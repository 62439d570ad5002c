//! What dockerd refuses of a create request, in its words, and the defaults it writes back.

use super::{Config, HostConfig, MountPoint};
use crate::{Result, ports::Facts, settings::Settings};

/// Checks everything that needs no look at the host's files, and fills defaults in as inspect shows them
/// (section 3.1 of the reference, points 5, 8). Returns warnings for the client.
pub fn validate_and_default(
    _config: &mut Config,
    _host: &mut HostConfig,
    _settings: &Settings,
    _facts: &Facts,
    _api: ApiVersion,
) -> Result<Vec<String>> {
    todo!()
}

/// The version of the API a request came in by; rules that differ by version read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion(pub u32, pub u32);

/// One parsed `Binds` entry, `Mounts` entry, image volume or tmpfs as a mount point still without a volume's folder.
/// Order: image volumes are overridden by binds and mounts of the same destination.
/// Errors in dockerd's words (`invalid volume specification: 'x'`, `Duplicate mount point: /x`, …).
pub fn mount_points(_config: &Config, _host: &HostConfig) -> Result<Vec<MountPoint>> {
    todo!()
}
