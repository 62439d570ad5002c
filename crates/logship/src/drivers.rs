//! The drivers: what each of them makes of a line, and how it sends it.

use std::io;

use gantry_wire::ship::Shipment;

use crate::line::Line;

mod fluentd;
mod gelf;
mod journald;
mod syslog;

/// Bytes that are written to a stream at once.
const WRITE: usize = 64 << 10;

pub trait Driver: Send {
    /// Sends lines from the front, and returns how many. After an error none of them counts as sent.
    fn send(&mut self, lines: &[Line<'_>]) -> io::Result<usize>;
}

/// Connects when the first line comes.
pub fn open(shipment: &Shipment) -> io::Result<Box<dyn Driver>> {
    Ok(match shipment.driver.as_str() {
        "syslog" => Box::new(syslog::Syslog::new(shipment)?),
        "gelf" => Box::new(gelf::Gelf::new(shipment)?),
        "fluentd" => Box::new(fluentd::Fluentd::new(shipment)?),
        "journald" => Box::new(journald::Journald::new(shipment)),
        other => return Err(io::Error::other(format!("no driver {other}"))),
    })
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn is_true(text: Option<&String>) -> bool {
    text.is_some_and(|text| matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_wire::ship::Subject;

    /// Of a container that is called web.
    pub fn shipment(driver: &str, options: &[(&str, &str)]) -> Shipment {
        let container = Subject {
            id: "0123456789abcdef".repeat(4),
            name: "web".into(),
            image_id: "sha256:00".into(),
            image_name: "busybox".into(),
            command: "sh -c x".into(),
            created: "2026-01-02T03:04:05Z".into(),
            tag: "tagged".into(),
            attributes: [("com.example.x".to_owned(), "y".to_owned())].into(),
        };
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Shipment { driver: driver.into(), options, container, ..Shipment::default() }
    }

    pub fn line(text: &str) -> Line<'_> {
        Line { stderr: false, at: 1_767_323_045_000_006_000, text: text.as_bytes(), part: None }
    }
}
