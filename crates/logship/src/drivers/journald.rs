//! systemd's journal, by its native protocol: a datagram of fields for each line.

use std::io;

use gantry_wire::ship::Shipment;
use jiff::Timestamp;

use super::Driver;
use crate::{address::Address, connection::Connection, line::Line};

const SOCKET: &str = "/run/systemd/journal/socket";

pub struct Journald {
    connection: Connection,
    /// What is the same in each entry, ready to send.
    common: Vec<u8>,
    ordinal: u64,
}

impl Journald {
    pub fn new(shipment: &Shipment) -> Self {
        let of = &shipment.container;
        let epoch = format!("{}-{}", of.id, shipment.run);
        let mut common = Vec::new();
        for (name, value) in &of.attributes {
            let name = field_name(name);
            if !name.is_empty() {
                field(&mut common, &name, value.as_bytes());
            }
        }
        for (name, value) in [
            ("CONTAINER_ID", of.id.get(..12).unwrap_or(&of.id)),
            ("CONTAINER_ID_FULL", &of.id),
            ("CONTAINER_NAME", &of.name),
            ("CONTAINER_TAG", &of.tag),
            ("IMAGE_NAME", &of.image_name),
            ("SYSLOG_IDENTIFIER", &of.tag),
            ("CONTAINER_LOG_EPOCH", &epoch),
        ] {
            field(&mut common, name, value.as_bytes());
        }
        Self { connection: Connection::new(Address::Unixgram(SOCKET.into()), None), common, ordinal: 0 }
    }

    fn entry(&self, line: &Line<'_>) -> Vec<u8> {
        let mut entry = self.common.clone();
        let time = Timestamp::from_nanosecond(i128::from(line.at)).unwrap_or(Timestamp::UNIX_EPOCH);
        field(&mut entry, "PRIORITY", if line.stderr { b"3" } else { b"6" });
        field(&mut entry, "SYSLOG_TIMESTAMP", time.to_string().as_bytes());
        field(&mut entry, "CONTAINER_LOG_ORDINAL", (self.ordinal + 1).to_string().as_bytes());
        if let Some(part) = &line.part {
            if !part.last {
                field(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
            field(&mut entry, "CONTAINER_PARTIAL_ID", part.id.as_bytes());
            field(&mut entry, "CONTAINER_PARTIAL_ORDINAL", part.ordinal.to_string().as_bytes());
            field(&mut entry, "CONTAINER_PARTIAL_LAST", part.last.to_string().as_bytes());
        }
        field(&mut entry, "MESSAGE", line.text);
        entry
    }
}

impl Driver for Journald {
    fn send(&mut self, lines: &[Line<'_>]) -> io::Result<usize> {
        let entry = self.entry(&lines[0]);
        self.connection.send(&entry)?;
        self.ordinal += 1;
        Ok(1)
    }
}

/// One with a newline in it says its length.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend((value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// In the letters that the journal takes, and without an underscore at the beginning, which is its own.
fn field_name(name: &str) -> String {
    let letters = name.chars().map(|letter| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' => letter.to_ascii_uppercase(),
        _ => '_',
    });
    letters.skip_while(|letter| *letter == '_').collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::tests, *};

    #[test]
    fn an_entry_has_dockerds_fields() {
        let journald = Journald::new(&tests::shipment("journald", &[]));
        let text = String::from_utf8(journald.entry(&Line { stderr: true, ..tests::line("oops") })).unwrap();
        for field in [
            "CONTAINER_ID=0123456789ab\n",
            "CONTAINER_NAME=web\n",
            "CONTAINER_TAG=tagged\n",
            "SYSLOG_IDENTIFIER=tagged\n",
            "COM_EXAMPLE_X=y\n",
            "PRIORITY=3\n",
            "SYSLOG_TIMESTAMP=2026-01-02T03:04:05.000006Z\n",
            "MESSAGE=oops\n",
        ] {
            assert!(text.contains(field), "{field} {text}");
        }
    }

    #[test]
    fn a_value_with_a_newline_says_its_length() {
        let mut out = Vec::new();
        field(&mut out, "A", b"x\ny");
        assert_eq!(out, b"A\n\x03\0\0\0\0\0\0\0x\ny\n");
        assert_eq!(field_name("_com.example-9"), "COM_EXAMPLE_9");
    }
}
