//! The engine's settings from effective values, each checked.

use std::{collections::BTreeMap, net::IpAddr, path::Path, time::Duration};

use gantry_domain::{
    container::{
        host_config::{LogConfig, Ulimit},
        validate,
    },
    settings::{RuntimeSettings, STOCK_SHIM, Settings, ShimOptions, ShimSettings, is_shim_name},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::{Environment, merge::Values};

pub fn settings(values: &Values, environment: &Environment) -> Result<Settings, String> {
    let defaults = Settings::default();
    let runtimes = runtimes(values)?;
    let default_runtime = values.text("default-runtime");
    if !runtimes.contains_key(&default_runtime) && !is_shim_name(&default_runtime) {
        return Err(format!("specified default runtime '{default_runtime}' does not exist"));
    }
    let or = |value: String, other: &str| if value.is_empty() { other.to_owned() } else { value };
    Ok(Settings {
        debug: values.flag("debug"),
        experimental: values.flag("experimental"),
        labels: labels(values)?,
        log_config: log_config(values)?,
        cdi_spec_dirs: cdi_spec_dirs(values),
        default_runtime,
        runtimes,
        default_ulimits: ulimits(values)?,
        default_shm_size: not_negative(values, "default-shm-size", "default shm size")?,
        default_ipc_mode: ipc_mode(values)?,
        default_cgroupns_mode: cgroupns_mode(values)?,
        cgroup_parent: cgroup_parent(values)?,
        cgroup_driver: cgroup_driver(values)?,
        no_new_privileges: values.flag("no-new-privileges"),
        init: values.flag("init"),
        init_path: values.text("init-path"),
        seccomp_profile: seccomp_profile(values)?,
        dns: addresses(values, "dns")?,
        dns_search: dns_search(values)?,
        dns_options: values.list("dns-opts"),
        host_gateway_ips: host_gateway(values)?,
        default_ip: default_ip(values)?,
        ipv6: values.flag("ipv6"),
        default_network_opts: network_options(values)?,
        icc: values.flag("icc"),
        ip_forward: values.flag("ip-forward"),
        ip_forward_no_drop: values.flag("ip-forward-no-drop"),
        ip_masq: values.flag("ip-masq"),
        iptables: values.flag("iptables"),
        userland_proxy: values.flag("userland-proxy"),
        mtu: mtu(values)?,
        shutdown_timeout: match values.number("shutdown-timeout") {
            // As in dockerd, a negative time is no limit.
            seconds if seconds < 0 => Duration::from_secs(u64::from(u32::MAX)),
            seconds => Duration::from_secs(seconds.unsigned_abs()),
        },
        registry_mirrors: mirrors(values)?,
        insecure_registries: values.list("insecure-registries"),
        http_proxy: or(values.text("http-proxy"), &environment.http_proxy),
        https_proxy: or(values.text("https-proxy"), &environment.https_proxy),
        no_proxy: or(values.text("no-proxy"), &environment.no_proxy),
        live_restore: true,
        data_root: absolute(values, "data-root", &defaults.data_root)?,
        exec_root: absolute(values, "exec-root", &defaults.exec_root)?,
        // Looked up when the engine starts.
        user_namespace: None,
        selinux: None,
        max_concurrent_downloads: count(values, "max-concurrent-downloads", "max concurrent downloads")?,
        max_concurrent_uploads: count(values, "max-concurrent-uploads", "max concurrent uploads")?,
        max_download_attempts: count(values, "max-download-attempts", "max download attempts")?,
        warnings: Vec::new(),
    })
}

fn network_options(values: &Values) -> Result<BTreeMap<String, BTreeMap<String, String>>, String> {
    let given: Option<_> = serde_json::from_value(values.get("default-network-opts").clone())
        .map_err(|error| format!("invalid default-network-opts: {error}"))?;
    Ok(given.unwrap_or_default())
}

/// Docker's two folders where nothing was given; none with the feature `cdi` off, or an empty name alone.
fn cdi_spec_dirs(values: &Values) -> Vec<String> {
    if values.get("features")["cdi"] == false {
        return Vec::new();
    }
    if !values.is_given("cdi-spec-dirs") {
        return gantry_domain::settings::Settings::default().cdi_spec_dirs;
    }
    values.list("cdi-spec-dirs").into_iter().filter(|folder| !folder.is_empty()).collect()
}

fn not_negative(values: &Values, key: &str, words: &str) -> Result<i64, String> {
    let number = values.number(key);
    if number < 0 { Err(format!("invalid {words}: {number}")) } else { Ok(number) }
}

fn count(values: &Values, key: &str, words: &str) -> Result<u32, String> {
    let number = not_negative(values, key, words)?;
    u32::try_from(number).map_err(|_| format!("invalid {words}: {number}"))
}

/// The kernel's choice where nothing was given.
fn mtu(values: &Values) -> Result<u32, String> {
    if values.is_given("mtu") { count(values, "mtu", "default MTU") } else { Ok(0) }
}

fn absolute(values: &Values, key: &str, default: &str) -> Result<String, String> {
    let path = values.text(key);
    if path.is_empty() {
        return Ok(default.to_owned());
    }
    if path.starts_with('/') {
        return Ok(path);
    }
    let here = std::env::current_dir().map_err(|error| format!("{key}: {error}"))?;
    Ok(here.join(path).to_string_lossy().into_owned())
}

fn labels(values: &Values) -> Result<Vec<String>, String> {
    let mut labels: Vec<String> = Vec::new();
    for label in values.list("labels") {
        let key = match label.split_once('=') {
            Some((key, _)) if !key.is_empty() => key,
            _ => return Err(format!("bad attribute format: {label}")),
        };
        let same_key = |other: &&String| other.split_once('=').is_some_and(|(other, _)| other == key);
        match labels.iter().find(same_key) {
            Some(other) if *other == label => {}
            Some(other) => return Err(format!("conflict labels for {other} and {label}")),
            None => labels.push(label),
        }
    }
    Ok(labels)
}

fn log_config(values: &Values) -> Result<LogConfig, String> {
    let driver = values.text("log-driver");
    let driver = if driver.is_empty() { "json-file".to_owned() } else { driver };
    let options = values.map("log-opts");
    let config = LogConfig { driver, config: (!options.is_empty()).then_some(options) };
    validate::log::validate(&config).map_err(|error| format!("failed to set log opts: {}", error.message()))?;
    Ok(config)
}

fn runtimes(values: &Values) -> Result<BTreeMap<String, RuntimeSettings>, String> {
    let mut runtimes = Settings::default().runtimes;
    let Value::Object(given) = values.get("runtimes") else { return Ok(runtimes) };
    for (name, value) in given {
        if name == "runc" || name == STOCK_SHIM {
            return Err(format!("runtime name '{name}' is reserved"));
        }
        let runtime = runtime(value).map_err(|error| format!("runtime {name}: {error}"))?;
        runtimes.insert(name, runtime);
    }
    Ok(runtimes)
}

/// One of daemon.json's `runtimes`; the refusals are dockerd's.
fn runtime(value: Value) -> Result<RuntimeSettings, String> {
    #[derive(Deserialize)]
    struct Given {
        #[serde(default, rename = "runtimeType")]
        kind: String,
        #[serde(default)]
        options: Map<String, Value>,
        #[serde(flatten)]
        program: RuntimeSettings,
    }
    let Given { kind, options, program } = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let refused = match (program.path.is_empty(), kind.is_empty()) {
        (true, true) => Some("either a runtimeType or a path must be configured"),
        (false, false) => Some("cannot configure both path and runtimeType for the same runtime"),
        (false, true) if !options.is_empty() => Some("options cannot be used with a path runtime"),
        (true, false) if !program.args.is_empty() => Some("args cannot be used with a runtimeType runtime"),
        _ => None,
    };
    if let Some(text) = refused {
        return Err(text.to_owned());
    }
    if kind.is_empty() {
        return Ok(program);
    }
    let options = (!options.is_empty()).then(|| ShimOptions::read(&kind, &options)).transpose()?;
    Ok(RuntimeSettings { shim: Some(ShimSettings { kind, options }), ..program })
}

fn ulimits(values: &Values) -> Result<BTreeMap<String, Ulimit>, String> {
    const NAMES: &[&str] = &[
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let Value::Object(given) = values.get("default-ulimits") else { return Ok(BTreeMap::new()) };
    given
        .into_iter()
        .map(|(name, value)| {
            let limit: Ulimit =
                serde_json::from_value(value).map_err(|error| format!("default-ulimits: {name}: {error}"))?;
            let limit = Ulimit { name: name.clone(), ..limit };
            if !NAMES.contains(&name.as_str()) {
                return Err(format!("invalid ulimit type: {name}"));
            }
            if limit.hard != -1 && (limit.soft == -1 || limit.soft > limit.hard) {
                return Err(format!(
                    "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                    limit.soft, limit.hard
                ));
            }
            Ok((name, limit))
        })
        .collect()
}

fn ipc_mode(values: &Values) -> Result<String, String> {
    match values.text("default-ipc-mode").as_str() {
        "" => Ok("private".into()),
        mode @ ("private" | "shareable") => Ok(mode.into()),
        mode => Err(format!("default IPC mode setting ({mode}) is invalid; use \"shareable\" or \"private\"")),
    }
}

fn cgroupns_mode(values: &Values) -> Result<String, String> {
    match values.text("default-cgroupns-mode").as_str() {
        mode @ ("" | "private" | "host") => Ok(mode.into()),
        mode => Err(format!("default cgroup namespace mode ({mode}) is invalid; use \"host\" or \"private\"")),
    }
}

/// systemd where it runs and the cgroups are of version 2, as in dockerd.
fn default_cgroup_driver(root: &Path) -> &'static str {
    let is_unified = root.join("sys/fs/cgroup/cgroup.controllers").exists();
    if is_unified && root.join("run/systemd/system").is_dir() { "systemd" } else { "cgroupfs" }
}

fn cgroup_parent(values: &Values) -> Result<String, String> {
    let parent = values.text("cgroup-parent");
    let is_slice = parent.len() > ".slice".len() && parent.ends_with(".slice");
    if !parent.is_empty() && !is_slice && cgroup_driver(values)? == "systemd" {
        return Err("cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"".into());
    }
    Ok(parent)
}

/// A file is read at each start of a container; that it cannot be is said now.
fn seccomp_profile(values: &Values) -> Result<String, String> {
    let profile = values.text("seccomp-profile");
    match profile.as_str() {
        "builtin" => return Ok(String::new()),
        "" | "unconfined" => return Ok(profile),
        path => std::fs::read(path),
    }
    .map_err(|error| format!("opening seccomp profile ({profile}) failed: open {profile}: {error}"))?;
    Ok(profile)
}

fn cgroup_driver(values: &Values) -> Result<String, String> {
    let mut driver = default_cgroup_driver(Path::new("/")).to_owned();
    for option in values.list("exec-opts") {
        let parts = option.split_once('=').map(|(key, value)| (key.trim().to_lowercase(), value.trim()));
        match parts {
            Some((key, value)) if key == "native.cgroupdriver" => match value {
                "cgroupfs" | "systemd" => driver = value.to_owned(),
                _ => {
                    return Err(format!(
                        "invalid exec-opt ({option}): invalid cgroup-driver ({value}), use 'cgroupfs' or 'systemd'"
                    ));
                }
            },
            Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                return Err(format!("invalid exec-opt ({option}): unknown option: '{key}'"));
            }
            _ => return Err(format!("invalid exec-opt ({option}): must be formatted 'opt=value'")),
        }
    }
    Ok(driver)
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

fn addresses(values: &Values, key: &str) -> Result<Vec<IpAddr>, String> {
    values.list(key).iter().map(|text| address(text)).collect()
}

fn dns_search(values: &Values) -> Result<Vec<String>, String> {
    let fits = |domain: &str| {
        domain == "."
            || (domain.len() <= 253
                && domain.trim_end_matches('.').split('.').all(|label| {
                    !label.is_empty()
                        && label.len() <= 63
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                }))
    };
    let search = values.list("dns-search");
    match search.iter().find(|domain| !fits(domain.trim())) {
        Some(domain) => Err(format!("{domain} is not a valid domain")),
        None => Ok(search),
    }
}

fn host_gateway(values: &Values) -> Result<Vec<IpAddr>, String> {
    let mut gateways = addresses(values, "host-gateway-ips")?;
    let single = values.text("host-gateway-ip");
    if !single.is_empty() {
        gateways.push(address(&single)?);
    }
    for (family, is) in [("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("IPv6", IpAddr::is_ipv6)] {
        if gateways.iter().filter(|ip| is(ip)).count() > 1 {
            return Err(format!("only one {family} host gateway IP address can be specified"));
        }
    }
    Ok(gateways)
}

fn default_ip(values: &Values) -> Result<Option<IpAddr>, String> {
    let text = values.text("ip");
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(address(&text)?).filter(|ip| !ip.is_unspecified()))
}

fn mirrors(values: &Values) -> Result<Vec<String>, String> {
    let mirrors = values.list("registry-mirrors");
    for mirror in &mirrors {
        match mirror.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() => {}
            Some((scheme, _)) => {
                return Err(format!("invalid mirror: unsupported scheme \"{scheme}\" in \"{mirror}\""));
            }
            None => {
                return Err(format!(
                    "invalid mirror: no scheme specified for \"{mirror}\": must use either 'https://' or 'http://'"
                ));
            }
        }
    }
    Ok(mirrors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_keeps_the_cgroups_only_where_it_runs_and_they_are_unified() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(default_cgroup_driver(root.path()), "cgroupfs");
        std::fs::create_dir_all(root.path().join("run/systemd/system")).expect("made");
        assert_eq!(default_cgroup_driver(root.path()), "cgroupfs");
        std::fs::create_dir_all(root.path().join("sys/fs/cgroup")).expect("made");
        std::fs::write(root.path().join("sys/fs/cgroup/cgroup.controllers"), "cpu").expect("written");
        assert_eq!(default_cgroup_driver(root.path()), "systemd");
    }
}
