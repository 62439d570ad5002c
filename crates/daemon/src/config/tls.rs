//! Whether TCP sockets speak TLS. An open one is root for whoever reaches it, so that nobody gets one by omission.

use std::path::{Path, PathBuf};

use crate::{
    config::{Environment, merge::Values},
    listen::Address,
};

/// How TCP sockets are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// Nothing was said about TLS: TCP sockets are refused.
    Unsaid,
    /// `--tls=false`, spelt out.
    Off,
    /// With certificates on both sides.
    Verify(TlsFiles),
    /// `--tlsverify=false`: encrypted, but for anyone. TCP sockets are refused.
    Anyone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// As in dockerd: naming `tlsverify` at all switches TLS on.
pub fn is_on(values: &Values, environment: &Environment) -> bool {
    values.flag("tls") || values.is_given("tlsverify") || environment.docker_tls_verify
}

pub fn mode(values: &Values, environment: &Environment) -> Result<TlsMode, String> {
    if !is_on(values, environment) {
        return Ok(if values.is_given("tls") { TlsMode::Off } else { TlsMode::Unsaid });
    }
    if values.is_given("tlsverify") && !values.flag("tlsverify") {
        return Ok(TlsMode::Anyone);
    }
    let folder = certificates(environment);
    let path = |key: &str, name: &str| match values.text(key) {
        path if path.is_empty() => folder.join(name),
        path => path.into(),
    };
    let files =
        TlsFiles { ca: path("tlscacert", "ca.pem"), cert: path("tlscert", "cert.pem"), key: path("tlskey", "key.pem") };
    for (key, path) in [("tlscacert", &files.ca), ("tlscert", &files.cert), ("tlskey", &files.key)] {
        std::fs::metadata(path).map_err(|error| format!("could not read {key} {}: {error}", path.display()))?;
    }
    Ok(TlsMode::Verify(files))
}

fn certificates(environment: &Environment) -> PathBuf {
    if !environment.docker_cert_path.is_empty() {
        environment.docker_cert_path.as_str().into()
    } else if !environment.docker_config.is_empty() {
        environment.docker_config.as_str().into()
    } else {
        Path::new(&environment.home).join(".docker")
    }
}

/// Refuses a TCP socket that anyone could use without that having been spelt out.
pub fn check_hosts(hosts: &[Address], tls: &TlsMode) -> Result<(), String> {
    let mut tcp = hosts.iter().filter(|host| matches!(host, Address::Tcp { .. }));
    tcp.try_for_each(|host| tls.admits_tcp(host))
}

impl TlsMode {
    /// Whether a TCP socket may be served; also for one that the service manager bound and `fd://` does not show.
    pub fn admits_tcp(&self, address: &dyn std::fmt::Display) -> Result<(), String> {
        match self {
            Self::Verify(_) | Self::Off => Ok(()),
            Self::Unsaid | Self::Anyone => Err(format!(
                "whoever reaches {address} is root on this host: give --tlsverify with --tlscacert, --tlscert and \
                 --tlskey, or an explicit --tls=false for an open socket"
            )),
        }
    }
}

/// For `/info` and the log.
pub fn warnings(hosts: &[Address], tls: &TlsMode) -> Vec<String> {
    if *tls != TlsMode::Off {
        return Vec::new();
    }
    hosts
        .iter()
        .filter(|host| matches!(host, Address::Tcp { .. }))
        .map(|host| {
            let address = host.to_string().replace("tcp://", "http://");
            format!(
                "WARNING: API is accessible on {address} without encryption; whoever reaches it is root on this host"
            )
        })
        .collect()
}
