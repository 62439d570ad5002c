//! `proto://address` as the drivers' options have it, checked by gantryd already.

use std::{io, path::PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(String, u16),
    Udp(String, u16),
    Tls(String, u16),
    Unix(PathBuf),
    Unixgram(PathBuf),
}

impl Address {
    /// Without a scheme it is TCP, without a port the driver's own.
    pub fn parse(text: &str, default_port: u16) -> io::Result<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" => return Ok(Self::Unix(rest.into())),
            "unixgram" => return Ok(Self::Unixgram(rest.into())),
            _ => {}
        }
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?)
            }
            _ => (rest, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        match scheme {
            "tcp" => Ok(Self::Tcp(host, port)),
            "udp" => Ok(Self::Udp(host, port)),
            "tls" | "tcp+tls" => Ok(Self::Tls(host, port)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_form_is_read() {
        let parse = |text: &str| Address::parse(text, 514).unwrap();
        assert_eq!(parse("udp://[::1]:9"), Address::Udp("::1".into(), 9));
        assert_eq!(parse("tcp://h"), Address::Tcp("h".into(), 514));
        assert_eq!(parse("h:1"), Address::Tcp("h".into(), 1));
        assert_eq!(parse("tcp+tls://[fe80::2]"), Address::Tls("fe80::2".into(), 514));
        assert_eq!(parse("unixgram:///dev/log"), Address::Unixgram("/dev/log".into()));
    }
}
