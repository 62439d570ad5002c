//! Checks of namespace modes, of what they exclude, and of the rest of `HostConfig` that is plain text.

use super::super::{Config, HostConfig};
use crate::{
    Error, Result,
    ports::Facts,
    settings::{Settings, is_shim_name},
};

/// `container:x` → `x`, where `x` is not empty.
pub fn container_of(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:").filter(|name| !name.is_empty())
}

/// Options that exclude each other, on the request as it came.
pub(super) fn conflicts(config: &Config, host: &HostConfig) -> Result<()> {
    let mode = host.network_mode.as_str();
    let joined = mode == "container" || mode.starts_with("container:");
    if joined && container_of(mode).is_none() {
        return Err(Error::invalid("Invalid network mode: invalid container format container:<name|id>"));
    }
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let published = host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|map| !map.is_empty());
    let undefined = "This would result in undefined behavior";
    let checks = [
        (joined && !config.hostname.is_empty(), "hostname and the network mode".to_owned()),
        (joined && some(&host.links), format!("container type network can't be used with links. {undefined}")),
        (joined && some(&host.dns), "dns and the network mode".into()),
        (joined && some(&host.extra_hosts), "custom host-to-IP mapping and the network mode".into()),
        ((joined || mode == "host") && !config.mac_address.is_empty(), "mac-address and the network mode".into()),
        (joined && published, "port publishing and the container type network mode".into()),
        (joined && !config.exposed_ports.is_empty(), "port exposing and the container type network mode".into()),
        (host.uts_mode == "host" && !config.hostname.is_empty(), "hostname and the UTS mode".into()),
        (mode == "host" && some(&host.links), format!("host type networking can't be used with links. {undefined}")),
    ];
    match checks.into_iter().find(|(conflict, _)| *conflict) {
        Some((_, text)) => Err(Error::invalid(format!("conflicting options: {text}"))),
        None => Ok(()),
    }
}

/// Each mode by itself.
pub(super) fn validate(host: &HostConfig, settings: &Settings) -> Result<()> {
    let check = |allowed: bool, text: String| if allowed { Ok(()) } else { Err(Error::invalid(text)) };
    let ipc = host.ipc_mode.as_str();
    let ipc_known = matches!(ipc, "" | "none" | "private" | "host" | "shareable") || container_of(ipc).is_some();
    check(ipc_known, format!("invalid IPC mode: {ipc}"))?;
    let pid = host.pid_mode.as_str();
    check(matches!(pid, "" | "host") || container_of(pid).is_some(), format!("invalid PID mode: {pid}"))?;
    check(host.shm_size >= 0, "SHM size can not be less than 0".into())?;
    check(matches!(host.uts_mode.as_str(), "" | "host"), format!("invalid UTS mode: {}", host.uts_mode))?;
    check(matches!(host.userns_mode.as_str(), "" | "host"), format!("invalid USER mode: {}", host.userns_mode))?;
    if settings.remapping(host).is_some() {
        user_namespace(host)?;
    }
    let score = host.oom_score_adj;
    check((-1000..=1000).contains(&score), format!("Invalid value {score}, range for oom score adj is [-1000, 1000]"))?;
    let parent = &host.cgroup_parent;
    check(
        parent.is_empty() || settings.cgroup_driver != "systemd" || (parent.len() > 6 && parent.ends_with(".slice")),
        "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"".into(),
    )?;
    check(
        !parent.split('/').any(|part| part == "..") && !parent.contains('\0'),
        format!("invalid cgroup parent: {parent}"),
    )?;
    check(
        settings.runtimes.contains_key(&host.runtime)
            || host.runtime == settings.default_runtime
            || is_shim_name(&host.runtime),
        format!("unknown or invalid runtime name: {}", host.runtime),
    )?;
    check(
        matches!(host.cgroupns_mode.as_str(), "" | "private" | "host"),
        format!("invalid cgroup namespace mode: {}", host.cgroupns_mode),
    )?;
    host.links.iter().flatten().try_for_each(|link| parse_link(link).map(drop))?;
    for address in host.dns.iter().flatten() {
        check(address.parse::<std::net::IpAddr>().is_ok(), format!("{address} is not an ip address"))?;
    }
    Ok(())
}

/// What a container with a user namespace cannot have.
fn user_namespace(host: &HostConfig) -> Result<()> {
    let checks = [
        (
            host.privileged,
            // Two blanks, of Docker's own.
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace \
             when running privileged mode",
        ),
        (host.network_mode == "host", "cannot share the host's network namespace when user namespaces are enabled"),
        (host.pid_mode == "host", "cannot share the host PID namespace when user namespaces are enabled"),
    ];
    match checks.into_iter().find(|(asked, _)| *asked) {
        Some((_, text)) => Err(Error::invalid(text)),
        None => Ok(()),
    }
}

pub(super) fn warn(host: &HostConfig, facts: &Facts, warnings: &mut Vec<String>) {
    if !facts.ipv4_forwarding && !matches!(host.network_mode.as_str(), "host" | "none") {
        warnings.push("IPv4 forwarding is disabled. Networking will not work.".into());
    }
    if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|map| !map.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
}

/// `name`, `name:alias` → name and alias.
pub fn parse_link(link: &str) -> Result<(&str, &str)> {
    if link.is_empty() {
        return Err(Error::invalid("empty string specified for links"));
    }
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    if name.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(Error::invalid(format!("invalid format for links: {link}")));
    }
    // Records of old: `/name:/parent/alias`.
    let alias = if name.starts_with('/') { alias.rsplit('/').next().unwrap_or(alias) } else { alias };
    Ok((name, alias))
}

/// `name:address`, where `host-gateway` stands for the host's.
pub(super) fn extra_host(entry: &str) -> Result<()> {
    let bad = || Error::invalid(format!("bad format for add-host: {entry:?}"));
    let (name, address) = entry.split_once([':', '=']).ok_or_else(bad)?;
    if name.is_empty() || entry.contains(char::is_control) {
        return Err(bad());
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(Error::invalid(format!("invalid IP address in add-host: {address:?}")));
    }
    Ok(())
}
