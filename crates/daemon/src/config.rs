//! gantryd's configuration: flags over daemon.json over defaults, checked whole, as one value.

mod bridge;
mod check;
pub mod file;
mod merge;
mod reload;
mod settings;
mod tls;

use std::{collections::BTreeMap, path::PathBuf};

use gantry_domain::settings::Settings;
use serde_json::Value;

use crate::{
    cli::CommandLine,
    listen::Address,
    options::{ROWS, Reload},
};

pub use bridge::Bridge;
pub use reload::reload;
pub use tls::{TlsFiles, TlsMode};

/// Everything that was configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What the engine reads.
    pub settings: Settings,
    pub bridge: Bridge,
    pub hosts: Vec<Address>,
    pub tls: TlsMode,
    /// Group of unix sockets. A group of this name that was not asked for by name may be missing.
    pub group: String,
    pub group_named: bool,
    pub pidfile: PathBuf,
    /// Socket of a containerd that somebody else runs; without it gantryd runs one of its own.
    pub containerd: Option<PathBuf>,
    /// Whose subordinate ids containers get; empty for none.
    pub userns_remap: String,
    pub selinux_enabled: bool,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    /// Refuse a containerd or runc with a known hole.
    pub strict_runtime: bool,
    /// Oldest version of the API that is served.
    pub min_api_version: Option<(u32, u32)>,
    /// What was asked for and does nothing here, to be said once.
    pub notes: Vec<String>,
    /// What flags and file named, by key; what they did not name has its default.
    pub given: BTreeMap<&'static str, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What the environment adds to flags and file, as it does for dockerd.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    pub home: String,
    pub docker_config: String,
    pub docker_cert_path: String,
    pub docker_tls_verify: bool,
    pub docker_min_api_version: Option<String>,
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
}

impl Environment {
    /// The environment of this process.
    pub fn read() -> Self {
        let get = |name: &str| std::env::var(name).unwrap_or_default();
        let either = |upper: &str| {
            let value = get(upper);
            if value.is_empty() { get(&upper.to_lowercase()) } else { value }
        };
        Self {
            home: get("HOME"),
            docker_config: get("DOCKER_CONFIG"),
            docker_cert_path: get("DOCKER_CERT_PATH"),
            docker_tls_verify: !get("DOCKER_TLS_VERIFY").is_empty(),
            docker_min_api_version: std::env::var("DOCKER_MIN_API_VERSION").ok(),
            http_proxy: either("HTTP_PROXY"),
            https_proxy: either("HTTPS_PROXY"),
            no_proxy: either("NO_PROXY"),
        }
    }
}

/// Reads the file that the command line names and puts all together.
pub fn load(line: &CommandLine, environment: &Environment) -> Result<Config, String> {
    let file = file::read(line)?;
    build(merge::merged(&line.given, file), environment).map_err(|why| file::merged(line, why))
}

/// Checks what was given as a whole and makes the configuration of it.
fn build(given: BTreeMap<&'static str, Value>, environment: &Environment) -> Result<Config, String> {
    let values = merge::Values { given: &given };
    check::refusals(&values)?;
    let settings = settings::settings(&values, environment)?;
    let hosts = values
        .list("hosts")
        .iter()
        .map(|text| Address::parse(text, tls::is_on(&values, environment)))
        .collect::<Result<Vec<_>, _>>()?;
    let hosts = if hosts.is_empty() { vec![Address::default()] } else { hosts };
    let tls = tls::mode(&values, environment)?;
    tls::check_hosts(&hosts, &tls)?;

    let mut config = Config {
        bridge: bridge::bridge(&values)?,
        tls,
        group: values.text("group"),
        group_named: values.is_given("group"),
        pidfile: match values.text("pidfile") {
            path if path.is_empty() => PathBuf::from(&settings.exec_root).join("gantryd.pid"),
            path => path.into(),
        },
        containerd: Some(values.text("containerd"))
            .filter(|path| !path.is_empty())
            .map(|path| path.strip_prefix("unix://").unwrap_or(&path).into()),
        userns_remap: values.text("userns-remap"),
        selinux_enabled: values.flag("selinux-enabled"),
        log_level: check::log_level(&values)?,
        log_format: check::log_format(&values)?,
        strict_runtime: values.flag("strict-runtime"),
        min_api_version: check::min_api_version(environment)?,
        notes: check::notes(&values),
        hosts,
        settings,
        given,
    };
    config.settings.warnings = tls::warnings(&config.hosts, &config.tls);
    Ok(config)
}

/// The live part of the configuration, as the event `reload` shows it.
pub fn shown(config: &Config) -> BTreeMap<String, String> {
    let values = merge::Values { given: &config.given };
    let live = ROWS.iter().filter(|row| row.reload != Reload::Restart && !row.key.contains("proxy"));
    let mut shown: BTreeMap<String, String> = live
        .map(|row| match values.get(row.key) {
            Value::String(text) => (row.key.to_owned(), text),
            other => (row.key.to_owned(), other.to_string()),
        })
        .collect();
    shown.insert("name".into(), hostname());
    // As info has it: whatever was said, containers outlive gantryd.
    shown.insert("live-restore".into(), "true".into());
    shown
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Keys whose effective values differ.
fn changed(old: &BTreeMap<&'static str, Value>, new: &BTreeMap<&'static str, Value>) -> Vec<&'static str> {
    let (old, new) = (merge::Values { given: old }, merge::Values { given: new });
    ROWS.iter().map(|row| row.key).filter(|key| old.get(key) != new.get(key)).collect()
}

#[cfg(test)]
mod tests;
