//! HTTP(S)_PROXY and NO_PROXY, read as Go's `httpproxy` reads them.

use std::net::IpAddr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use gantry_domain::{Error, Result};
use http::{HeaderValue, Uri, uri::Scheme};
use ipnet::IpNet;

/// URLs of proxies, empty for none; they may hold credentials and never show in a log.
#[derive(Clone, Default)]
pub struct Proxies {
    pub http: String,
    pub https: String,
    /// Hosts, domains, addresses and networks that are reached straight, separated by commas; `*` is all.
    pub none: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies").field("none", &self.none).finish_non_exhaustive()
    }
}

/// The proxy that one connection goes through.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// `host:port`.
    pub authority: String,
    pub tls: bool,
    pub authorization: Option<HeaderValue>,
}

impl Proxies {
    /// The proxy on the way to `name`, if there is one.
    pub(crate) fn of(&self, tls: bool, name: &str, port: u16) -> Result<Option<Proxy>> {
        let url = if tls { &self.https } else { &self.http };
        if url.is_empty() || self.is_exempt(name, port) {
            return Ok(None);
        }
        parse(url).map(Some)
    }

    fn is_exempt(&self, name: &str, port: u16) -> bool {
        let address: Option<IpAddr> = name.parse().ok();
        // Go never sends loopback through a proxy.
        if name == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.none.split(',').map(str::trim).filter(|rule| !rule.is_empty()).any(|rule| fits(rule, name, address, port))
    }
}

fn fits(rule: &str, name: &str, address: Option<IpAddr>, port: u16) -> bool {
    if rule == "*" {
        return true;
    }
    if let Ok(network) = rule.parse::<IpNet>() {
        return address.is_some_and(|address| network.contains(&address));
    }
    if let Ok(single) = rule.parse::<IpAddr>() {
        return address == Some(single);
    }
    let (host, only) = match rule.rsplit_once(':') {
        Some((host, digits)) if digits.parse::<u16>().is_ok() => (host, digits.parse().ok()),
        _ => (rule, None),
    };
    if only.is_some_and(|only: u16| only != port) {
        return false;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if let Ok(single) = host.parse::<IpAddr>() {
        return address == Some(single);
    }
    let name = name.to_ascii_lowercase();
    match host.strip_prefix("*.").or_else(|| host.strip_prefix('.')) {
        Some(domain) => name.ends_with(&format!(".{domain}")),
        None => name == host || name.ends_with(&format!(".{host}")),
    }
}

fn parse(text: &str) -> Result<Proxy> {
    // The text may hold a password: it is not in the error.
    let wrong =
        || Error::invalid("the proxy's address cannot be used: it must be http://host:port or https://host:port");
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Uri = url.parse().map_err(|_| wrong())?;
    let tls = match url.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        _ => return Err(wrong()),
    };
    let authority = url.authority().ok_or_else(wrong)?.as_str();
    let (credentials, host) = match authority.rsplit_once('@') {
        Some((credentials, host)) => (Some(credentials), host),
        None => (None, authority),
    };
    let parsed: http::uri::Authority = host.parse().map_err(|_| wrong())?;
    let port = parsed.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let authorization = credentials.map(basic).transpose()?;
    Ok(Proxy { authority: format!("{}:{port}", parsed.host()), tls, authorization })
}

fn basic(credentials: &str) -> Result<HeaderValue> {
    let pair = BASE64_STANDARD.encode(percent_decoded(credentials));
    let mut value = HeaderValue::try_from(format!("Basic {pair}"))
        .map_err(|_| Error::invalid("the proxy's credentials cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn proxies(none: &str) -> Proxies {
        Proxies { http: "http://p:3128".into(), https: "https://u:p%40s@q".into(), none: none.into() }
    }

    #[test]
    fn each_scheme_has_its_proxy_and_loopback_none() {
        let all = proxies("");
        let plain = all.of(false, "reg.example", 80).unwrap().unwrap();
        assert_eq!((plain.authority.as_str(), plain.tls, plain.authorization), ("p:3128", false, None));
        let secure = all.of(true, "reg.example", 443).unwrap().unwrap();
        assert_eq!((secure.authority.as_str(), secure.tls), ("q:443", true));
        assert_eq!(secure.authorization.unwrap(), "Basic dTpwQHM=");
        for name in ["localhost", "127.0.0.1", "::1"] {
            assert!(all.of(true, name, 443).unwrap().is_none(), "{name}");
        }
    }

    #[test]
    fn exceptions_are_hosts_domains_ports_addresses_and_networks() {
        for (rule, name, port, exempt) in [
            ("*", "a.b", 80, true),
            ("example.com", "example.com", 80, true),
            ("example.com", "x.example.com", 80, true),
            ("example.com", "notexample.com", 80, false),
            (".example.com", "example.com", 80, false),
            (".example.com", "x.example.com", 80, true),
            ("example.com:5000", "example.com", 5000, true),
            ("example.com:5000", "example.com", 443, false),
            ("10.0.0.0/8", "10.1.2.3", 80, true),
            ("10.0.0.0/8", "11.1.2.3", 80, false),
            ("x, 10.1.2.3 ,y", "10.1.2.3", 80, true),
            ("EXAMPLE.com", "Example.COM", 80, true),
        ] {
            assert_eq!(proxies(rule).is_exempt(name, port), exempt, "{rule} {name}:{port}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_an_error_without_its_password() {
        for wrong in ["socks5://me:canary@x", "http://me:canary@", "http://me:canary@ x"] {
            let proxies = Proxies { http: wrong.into(), ..Proxies::default() };
            let Err(error) = proxies.of(false, "reg.example", 80) else { panic!("{wrong}") };
            assert!(!error.message().contains("canary"), "{error}");
        }
    }
}
