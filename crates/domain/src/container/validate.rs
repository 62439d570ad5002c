//! What dockerd refuses of a create request, in its words, and the defaults it writes back.

use super::{
    Config, HostConfig,
    security::{self, SecurityOptions},
};
use crate::{Error, Result, ports::Facts, settings::Settings};

pub mod endpoints;
pub mod log;
mod log_remote;
pub mod modes;
pub mod mounts;
pub mod process;
pub mod resources;
pub mod sysctl;

pub use mounts::mount_points;

/// Checks everything that needs no look at the host's files, and fills defaults in as inspect shows them
/// (section 3.1 of the reference, points 5, 8). Returns warnings for the client.
pub fn validate_and_default(
    config: &mut Config,
    host: &mut HostConfig,
    settings: &Settings,
    facts: &Facts,
    api: ApiVersion,
) -> Result<Vec<String>> {
    gate_by_version(config, host, facts, api)?;
    modes::conflicts(config, host)?;
    default_host(host, settings, facts);

    process::validate(config)?;
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    mounts::validate(host)?;
    host.extra_hosts.iter().flatten().try_for_each(|entry| modes::extra_host(entry))?;
    super::port::validate(config, host)?;
    super::restart::validate(&host.restart_policy)?;
    security::capabilities(
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
        false,
    )?;
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!("invalid isolation ({}): linux only supports 'default'", host.isolation)));
    }
    if host.annotations.contains_key("") {
        return Err(Error::invalid("invalid Annotations: the empty string is not permitted as an annotation key"));
    }

    let mut warnings = resources::validate(host, facts, false)?;
    modes::validate(host, settings)?;
    modes::warn(host, facts, &mut warnings);
    SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default())?;
    sysctl::validate(host)?;
    log::validate(&host.log_config)?;
    storage_size(host)?;
    Ok(warnings)
}

/// Where the file system of the containers' layers has no project quotas; ext4 with `prjquota` does as well.
pub const NO_STORAGE_QUOTA: &str = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";

/// What `--storage-opt size=` asks for, bytes. `InvalidParameter` for another option or a bad size.
pub fn storage_size(host: &HostConfig) -> Result<Option<u64>> {
    if let Some(unknown) = host.storage_opt.keys().find(|key| !key.eq_ignore_ascii_case("size")) {
        return Err(Error::invalid(format!("Unknown option {unknown}")));
    }
    let size = host.storage_opt.values().next().map(|text| crate::text::ram_in_bytes(text)).transpose()?;
    Ok(size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0))
}

/// What an older client did not know or meant otherwise (point 9), in dockerd's order.
fn gate_by_version(config: &mut Config, host: &mut HostConfig, facts: &Facts, api: ApiVersion) -> Result<()> {
    if api < ApiVersion(1, 25) {
        host.auto_remove = false;
    }
    if api < ApiVersion(1, 40) {
        for options in host.mounts.iter_mut().filter_map(|mount| mount.bind_options.as_mut()) {
            options.non_recursive = false;
        }
        host.kernel_memory_tcp = 0;
        if host.ipc_mode.is_empty() {
            host.ipc_mode = "shareable".into();
        }
    }
    if api < ApiVersion(1, 41) && facts.cgroup_version == 1 && host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = "host".into();
    }
    if api < ApiVersion(1, 42) {
        mounts::versions::older_than_1_42(host);
        host.console_size = [0, 0];
    } else {
        host.kernel_memory = 0;
        mounts::versions::options_of_another_type(host)?;
    }
    if api < ApiVersion(1, 43) {
        host.annotations.clear();
    }
    if api < ApiVersion(1, 44) {
        if let Some(health) = &mut config.healthcheck {
            health.start_interval = 0;
        }
        mounts::versions::older_than_1_44(host)?;
    }
    mounts::versions::newer_than(host, api)?;
    if host.pids_limit.is_some_and(|limit| limit <= 0) {
        host.pids_limit = None;
    }
    Ok(())
}

/// The defaults that inspect shows (point 8).
fn default_host(host: &mut HostConfig, settings: &Settings, facts: &Facts) {
    let default = |field: &mut String, value: &str| {
        if field.is_empty() {
            *field = value.to_owned();
        }
    };
    if host.network_mode == "default" {
        host.network_mode.clear();
    }
    default(&mut host.network_mode, "bridge");
    default(&mut host.restart_policy.name, "no");
    default(&mut host.ipc_mode, &settings.default_ipc_mode);
    default(&mut host.runtime, &settings.default_runtime);
    let cgroupns = match (facts.cgroup_version, settings.default_cgroupns_mode.as_str()) {
        (2, "") => "private",
        (_, "") => "host",
        (1, _) if host.privileged => "host",
        (_, mode) => mode,
    };
    default(&mut host.cgroupns_mode, cgroupns);
    if host.shm_size == 0 {
        host.shm_size = settings.default_shm_size;
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    host.oom_kill_disable.get_or_insert(false);
    log::default(&mut host.log_config, &settings.log_config);
    default_security(host, facts);
}

fn default_security(host: &mut HostConfig, facts: &Facts) {
    let options = host.security_opt.as_deref().unwrap_or_default();
    let labelled = options.iter().any(|option| option.split(['=', ':']).next() == Some("label"));
    if !labelled && (host.ipc_mode == "host" || host.pid_mode == "host" || host.privileged) {
        host.security_opt.get_or_insert_default().push("label=disable".into());
    }
    if host.privileged {
        (host.masked_paths, host.readonly_paths) = (None, None);
    } else {
        host.masked_paths.get_or_insert_with(|| security::masked_paths(facts.cpus));
        host.readonly_paths.get_or_insert_with(security::readonly_paths);
    }
}

/// The version of the API a request came in by; rules that differ by version read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion(pub u32, pub u32);

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl std::str::FromStr for ApiVersion {
    type Err = Error;

    /// `1.44`; anything else is `InvalidParameter`.
    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str| part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()));
        text.split_once('.')
            .and_then(|(major, minor)| Some(Self(number(major)?, number(minor)?)))
            .ok_or_else(|| Error::invalid(format!("invalid API version: {text}")))
    }
}

#[cfg(test)]
mod tests;
