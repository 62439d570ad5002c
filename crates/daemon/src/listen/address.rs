//! What `-H` names: a unix socket, a TCP address, or sockets handed over by the service manager.

use std::{fmt, path::PathBuf};

/// dockerd's own: clients look there.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
    },
    /// Sockets of systemd: all (empty or `*`), a descriptor's number, or a name.
    Fd(String),
}

impl Default for Address {
    fn default() -> Self {
        Self::Unix(DEFAULT_SOCKET.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Fd(name) => write!(f, "fd://{name}"),
        }
    }
}

impl Address {
    /// Reads one `-H`. A TCP address without a port has 2376 with TLS and 2375 without.
    pub fn parse(text: &str, tls: bool) -> Result<Self, String> {
        let text = text.trim();
        match text.split_once("://") {
            None if text.is_empty() => Ok(Self::default()),
            Some(("unix", "")) => Ok(Self::default()),
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("fd", name)) => Ok(Self::Fd(name.into())),
            Some(("tcp", rest)) => tcp(text, rest, tls),
            None if text.contains(':') => tcp(text, text, tls),
            Some((protocol, _)) if !matches!(protocol, "unix" | "npipe") => {
                Err(format!("invalid bind address ({text}): unsupported proto '{protocol}'"))
            }
            _ => Err(format!("invalid bind address format: {text}")),
        }
    }
}

fn tcp(text: &str, rest: &str, tls: bool) -> Result<Address, String> {
    let default_port = if tls { 2376 } else { 2375 };
    let invalid = |why: &str| format!("invalid bind address ({text}): {why}");
    if rest.contains('/') {
        return Err(invalid("should not contain a path element"));
    }
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or_default()),
        None => rest.rsplit_once(':').unwrap_or((rest, "")),
    };
    let port = match port {
        "" => default_port,
        port => port.parse().map_err(|_| invalid(&format!("invalid port: {port}")))?,
    };
    let host = if host.is_empty() { "localhost" } else { host };
    Ok(Address::Tcp { host: host.into(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_dockerd_reads_them() {
        let parsed = |text: &str| Address::parse(text, false).map(|address| address.to_string());
        assert_eq!(parsed(""), Ok("unix:///var/run/docker.sock".into()));
        assert_eq!(parsed("unix://"), Ok("unix:///var/run/docker.sock".into()));
        assert_eq!(parsed("unix:///a/b.sock"), Ok("unix:///a/b.sock".into()));
        assert_eq!(parsed("fd://"), Ok("fd://".into()));
        assert_eq!(parsed("tcp://"), Ok("tcp://localhost:2375".into()));
        assert_eq!(parsed("tcp://:7777"), Ok("tcp://localhost:7777".into()));
        assert_eq!(parsed("0.0.0.0:99"), Ok("tcp://0.0.0.0:99".into()));
        assert_eq!(parsed("tcp://[::1]"), Ok("tcp://[::1]:2375".into()));
        assert_eq!(Address::parse("tcp://h", true).map(|a| a.to_string()), Ok("tcp://h:2376".into()));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["nonsense", "udp://1:2", "unix://relative", "tcp://h:port", "tcp://h:1/path", "npipe://x"] {
            assert!(Address::parse(text, false).is_err(), "{text}");
        }
    }
}
