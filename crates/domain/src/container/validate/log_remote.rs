//! Options of the drivers that deliver elsewhere, with dockerd's texts.

use std::collections::BTreeMap;

use crate::{Error, Result};

const ATTRIBUTES: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];
const SYSLOG: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];
const GELF: [&str; 5] = [
    "gelf-address",
    "gelf-compression-level",
    "gelf-compression-type",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];
const FLUENTD: [&str; 10] = [
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-read-timeout",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
];
const FACILITIES: [&str; 20] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "local0",
    "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// Checks the options of this driver; those of `delivery` belong to every driver. Nothing is refused of a driver that
/// is not known here.
pub(super) fn validate(driver: &str, options: &BTreeMap<String, String>, delivery: &[&str]) -> Result<()> {
    let own: &[&str] = match driver {
        "syslog" => &SYSLOG,
        "gelf" => &GELF,
        "fluentd" => &FLUENTD,
        "journald" => &[],
        _ => return Ok(()),
    };
    let known = |key: &str| own.contains(&key) || ATTRIBUTES.contains(&key) || delivery.contains(&key);
    if let Some(key) = options.keys().find(|key| !known(key)) {
        let quoted = if driver == "gelf" { format!("{key:?}") } else { format!("'{key}'") };
        return Err(Error::invalid(format!("unknown log opt {quoted} for {driver} log driver")));
    }
    let get = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    match driver {
        "syslog" => syslog(get),
        "gelf" => gelf(options),
        "fluentd" => fluentd(options),
        _ => Ok(()),
    }
}

fn syslog<'a>(get: impl Fn(&str) -> &'a str) -> Result<()> {
    let address = get("syslog-address");
    if !address.is_empty() {
        let (scheme, rest) = address.split_once("://").unwrap_or_default();
        match scheme {
            "unix" | "unixgram" if rest.starts_with('/') => {}
            "tcp" | "udp" | "tcp+tls" if host_port(rest, Some(514)).is_some() => {}
            "unix" | "unixgram" | "tcp" | "udp" | "tcp+tls" => {
                return Err(Error::invalid(format!("syslog-address should be in form proto://address, got {address}")));
            }
            other => return Err(Error::invalid(format!("unsupported scheme: '{other}'"))),
        }
    }
    let facility = get("syslog-facility");
    let number = facility.parse::<u8>().is_ok_and(|number| number <= 23);
    if !facility.is_empty() && !number && !FACILITIES.contains(&facility) {
        return Err(Error::invalid("invalid syslog facility"));
    }
    if !matches!(get("syslog-format"), "" | "rfc3164" | "rfc5424" | "rfc5424micro") {
        return Err(Error::invalid("Invalid syslog format"));
    }
    boolean(get("syslog-tls-skip-verify"))
}

fn gelf(options: &BTreeMap<String, String>) -> Result<()> {
    let address = options.get("gelf-address").map(String::as_str).unwrap_or_default();
    if address.is_empty() {
        return Err(Error::invalid("gelf-address is a required parameter"));
    }
    let Some((scheme, rest)) = address.split_once("://") else {
        return Err(Error::invalid(format!("gelf-address should be in form proto://address, got {address}")));
    };
    if !matches!(scheme, "udp" | "tcp") {
        return Err(Error::invalid("gelf: endpoint needs to be TCP or UDP"));
    }
    if host_port(rest, None).is_none() {
        return Err(Error::invalid("gelf: please provide gelf-address as proto://host:port"));
    }
    for (key, value) in options {
        let number = |least: i64, most: i64| value.parse().is_ok_and(|number: i64| (least..=most).contains(&number));
        let (only, right) = match key.as_str() {
            "gelf-compression-level" => ("udp", number(-1, 9)),
            "gelf-compression-type" => ("udp", matches!(value.as_str(), "gzip" | "zlib" | "none")),
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" => ("tcp", number(0, i64::MAX)),
            _ => continue,
        };
        if only != scheme {
            let text = if only == "udp" {
                "compression is only supported on UDP".to_owned()
            } else {
                format!("{key:?} is only valid for TCP")
            };
            return Err(Error::invalid(text));
        }
        if !right {
            return Err(Error::invalid(format!("unknown value {value:?} for log opt {key:?} for gelf log driver")));
        }
    }
    Ok(())
}

fn fluentd(options: &BTreeMap<String, String>) -> Result<()> {
    let address = options.get("fluentd-address").map(String::as_str).unwrap_or_default();
    let refused = |why: String| Err(Error::invalid(format!("invalid fluentd-address ({address}): {why}")));
    match address.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => {}
        Some(("unix", _)) => return refused("path is empty".into()),
        Some(("tcp" | "tls", rest)) if host_port(rest, Some(24224)).is_some() => {}
        None if address.is_empty() || host_port(address, Some(24224)).is_some() => {}
        Some(("tcp" | "tls", _)) | None => return refused("should be host:port".into()),
        Some((scheme, _)) => return refused(format!("unsupported scheme: '{scheme}'")),
    }
    for key in ["fluentd-async", "fluentd-request-ack", "fluentd-sub-second-precision"] {
        boolean(options.get(key).map(String::as_str).unwrap_or_default())?;
    }
    Ok(())
}

/// As Go reads one; empty is fine.
fn boolean(text: &str) -> Result<()> {
    let known = ["", "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
    if known.contains(&text) {
        return Ok(());
    }
    Err(Error::invalid(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")))
}

/// Host and port; an address with brackets is IPv6.
fn host_port(text: &str, default: Option<u16>) -> Option<(&str, u16)> {
    let text = text.trim_end_matches('/');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() || (bare.contains(':') && bare.len() == host.len()) || bare.contains(['/', '[', ']']) {
        return None;
    }
    let port = match port {
        Some(port) => port.parse().ok(),
        None => default,
    };
    Some((bare, port?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(driver: &str, options: &[(&str, &str)]) -> std::result::Result<(), String> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        validate(driver, &options, &["mode"]).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_the_drivers_know_is_taken() {
        check("syslog", &[]).unwrap();
        check("syslog", &[("syslog-address", "udp://[::1]:1514"), ("syslog-facility", "local3"), ("mode", "blocking")])
            .unwrap();
        check("syslog", &[("syslog-address", "tcp+tls://logs"), ("syslog-facility", "16"), ("tag", "x")]).unwrap();
        check("gelf", &[("gelf-address", "udp://h:12201"), ("gelf-compression-level", "-1")]).unwrap();
        check("gelf", &[("gelf-address", "tcp://h:1"), ("gelf-tcp-max-reconnect", "3")]).unwrap();
        for address in ["", "h", "h:24224", "tcp://[::1]", "unix:///run/f.sock", "tls://h:1"] {
            check("fluentd", &[("fluentd-address", address)]).unwrap();
        }
        check("journald", &[("labels", "a"), ("env-regex", "x")]).unwrap();
    }

    #[test]
    fn what_they_do_not_know_is_refused_in_their_words() {
        let said = |driver, options: &[(&str, &str)]| check(driver, options).unwrap_err();
        assert_eq!(said("syslog", &[("max-size", "1")]), "unknown log opt 'max-size' for syslog log driver");
        assert_eq!(said("gelf", &[("x", "1")]), "unknown log opt \"x\" for gelf log driver");
        assert_eq!(said("syslog", &[("syslog-address", "ftp://x")]), "unsupported scheme: 'ftp'");
        assert_eq!(said("syslog", &[("syslog-facility", "kernel")]), "invalid syslog facility");
        assert_eq!(said("syslog", &[("syslog-format", "x")]), "Invalid syslog format");
        assert_eq!(said("gelf", &[]), "gelf-address is a required parameter");
        assert_eq!(said("gelf", &[("gelf-address", "h:1")]), "gelf-address should be in form proto://address, got h:1");
        assert_eq!(said("gelf", &[("gelf-address", "http://h:1")]), "gelf: endpoint needs to be TCP or UDP");
        let text = "gelf: please provide gelf-address as proto://host:port";
        assert_eq!(said("gelf", &[("gelf-address", "udp://h")]), text);
        let options = [("gelf-address", "tcp://h:1"), ("gelf-compression-type", "gzip")];
        assert_eq!(said("gelf", &options), "compression is only supported on UDP");
        let options = [("gelf-address", "udp://h:1"), ("gelf-compression-type", "lzma")];
        let text = "unknown value \"lzma\" for log opt \"gelf-compression-type\" for gelf log driver";
        assert_eq!(said("gelf", &options), text);
        let text = "invalid fluentd-address (udp://h): unsupported scheme: 'udp'";
        assert_eq!(said("fluentd", &[("fluentd-address", "udp://h")]), text);
        let text = "strconv.ParseBool: parsing \"maybe\": invalid syntax";
        assert_eq!(said("fluentd", &[("fluentd-async", "maybe")]), text);
    }
}
