//! RFC 3164, RFC 5424 and the form of local syslog, as dockerd has them.

use std::{io, path::Path};

use gantry_wire::ship::Shipment;
use jiff::{Timestamp, tz::TimeZone};

use super::{Driver, WRITE, host_name};
use crate::{address::Address, connection::Connection, line::Line, tls};

const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
const NAMES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "12", "13",
    "14", "15", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const DAEMON: u8 = 3;
const ERROR: u8 = 3;
const INFORMATION: u8 = 6;

pub struct Syslog {
    /// Tried in turn: which kind of socket the local daemon has is seen by connecting.
    ways: Vec<Connection>,
    form: Form,
    zone: TimeZone,
    host: String,
    tag: String,
    facility: u8,
    /// RFC 5425: a message over TLS is preceded by its length.
    counted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Local,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

impl Syslog {
    pub fn new(shipment: &Shipment) -> io::Result<Self> {
        let option = |name: &str| shipment.options.get(name).map(String::as_str).unwrap_or_default();
        let address = option("syslog-address");
        let addresses = if address.is_empty() { local() } else { vec![Address::parse(address, 514)?] };
        let secure = matches!(addresses[..], [Address::Tls(..)]);
        let tls = secure.then(|| tls::config(&shipment.options, "syslog-tls")).transpose()?;
        let form = match option("syslog-format") {
            "rfc3164" => Form::Rfc3164,
            "rfc5424" => Form::Rfc5424,
            "rfc5424micro" => Form::Rfc5424Micro,
            _ => Form::Local,
        };
        Ok(Self {
            ways: addresses.into_iter().map(|address| Connection::new(address, tls.clone())).collect(),
            form,
            zone: TimeZone::system(),
            host: host_name(),
            tag: shipment.container.tag.clone(),
            facility: facility(option("syslog-facility")),
            counted: secure && matches!(form, Form::Rfc5424 | Form::Rfc5424Micro),
        })
    }

    fn message(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        let priority = self.facility << 3 | if line.stderr { ERROR } else { INFORMATION };
        let time = Timestamp::from_nanosecond(i128::from(line.at)).unwrap_or(Timestamp::UNIX_EPOCH);
        let time = time.to_zoned_datetime(self.zone.clone());
        let (host, tag, pid) = (&self.host, &self.tag, std::process::id());
        let head = match self.form {
            Form::Local => format!("<{priority}>{} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S")),
            Form::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S")),
            Form::Rfc5424 | Form::Rfc5424Micro => {
                let seconds = if self.form == Form::Rfc5424 { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S.%6f" };
                let offset = if time.offset().is_zero() { "Z".to_owned() } else { time.strftime("%:z").to_string() };
                format!("<{priority}>1 {}{offset} {host} {tag} {pid} {tag} - ", time.strftime(seconds))
            }
        };
        if self.counted {
            out.extend_from_slice(format!("{} ", head.len() + line.text.len() + 1).as_bytes());
        }
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(line.text);
        out.push(b'\n');
    }
}

impl Driver for Syslog {
    fn send(&mut self, lines: &[Line<'_>]) -> io::Result<usize> {
        let mut failed = io::Error::from(io::ErrorKind::NotConnected);
        for at in 0..self.ways.len() {
            let (mut sent, mut bytes) = (0, Vec::new());
            let most = if self.ways[at].has_datagrams() { 1 } else { WRITE };
            while sent < lines.len() && bytes.len() < most {
                self.message(&lines[sent], &mut bytes);
                sent += 1;
            }
            match self.ways[at].send(&bytes) {
                Ok(()) => return Ok(sent),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

fn local() -> Vec<Address> {
    let there = LOCAL.into_iter().filter(|path| Path::new(path).exists()).chain(LOCAL.into_iter().take(1));
    there.flat_map(|path| [Address::Unixgram(path.into()), Address::Unix(path.into())]).collect()
}

/// By name or number; `daemon` where none is named.
fn facility(text: &str) -> u8 {
    let named = NAMES.iter().position(|name| *name == text).and_then(|at| u8::try_from(at).ok());
    named.or_else(|| text.parse().ok()).unwrap_or(DAEMON)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::tests, *};

    fn said(options: &[(&str, &str)], line: &Line<'_>) -> String {
        let mut syslog = Syslog::new(&tests::shipment("syslog", options)).unwrap();
        (syslog.zone, syslog.host) = (TimeZone::UTC, "host".into());
        let mut bytes = Vec::new();
        syslog.message(line, &mut bytes);
        String::from_utf8(bytes).unwrap().replace(&std::process::id().to_string(), "PID")
    }

    #[test]
    fn each_form_is_dockerds() {
        let line = tests::line("hello");
        let udp = ("syslog-address", "udp://localhost:1");
        assert_eq!(said(&[udp], &line), "<30>Jan  2 03:04:05 tagged[PID]: hello\n");
        let options = [udp, ("syslog-format", "rfc3164"), ("syslog-facility", "local7")];
        assert_eq!(said(&options, &line), "<190>Jan  2 03:04:05 host tagged[PID]: hello\n");
        let error = Line { stderr: true, ..line.clone() };
        let options = [udp, ("syslog-format", "rfc5424"), ("syslog-facility", "1")];
        assert_eq!(said(&options, &error), "<11>1 2026-01-02T03:04:05Z host tagged PID tagged - hello\n");
        let options = [udp, ("syslog-format", "rfc5424micro")];
        assert_eq!(said(&options, &line), "<30>1 2026-01-02T03:04:05.000006Z host tagged PID tagged - hello\n");
    }

    #[test]
    fn a_message_over_tls_says_its_length() {
        let options =
            [("syslog-address", "tcp+tls://h"), ("syslog-format", "rfc5424"), ("syslog-tls-skip-verify", "true")];
        let text = said(&options, &tests::line("x"));
        let (length, rest) = text.split_once(' ').unwrap();
        let pid = std::process::id().to_string().len();
        assert_eq!(length.parse::<usize>().unwrap(), rest.len() + pid - "PID".len());
    }
}
