//! The forward protocol: msgpack over a stream, a message for each line; with acknowledgements, many lines at once.

use std::{collections::BTreeMap, io};

use gantry_wire::ship::Shipment;
use rmp::{decode, encode};

use super::{Driver, WRITE, is_true};
use crate::{address::Address, connection::Connection, line::Line, tls};

/// Type of `EventTime` among msgpack's extensions.
const EVENT_TIME: i8 = 0;

pub struct Fluentd {
    connection: Connection,
    tag: String,
    common: BTreeMap<String, String>,
    nanoseconds: bool,
    acknowledged: bool,
    number: u64,
}

impl Fluentd {
    pub fn new(shipment: &Shipment) -> io::Result<Self> {
        let text = shipment.options.get("fluentd-address").map(String::as_str).unwrap_or_default();
        let address = Address::parse(if text.is_empty() { "tcp://127.0.0.1" } else { text }, 24224)?;
        let tls = matches!(address, Address::Tls(..)).then(|| tls::config(&BTreeMap::new(), "")).transpose()?;
        let of = &shipment.container;
        let mut common = of.attributes.clone();
        common.insert("container_id".into(), of.id.clone());
        common.insert("container_name".into(), format!("/{}", of.name));
        Ok(Self {
            connection: Connection::new(address, tls),
            tag: of.tag.clone(),
            common,
            nanoseconds: is_true(shipment.options.get("fluentd-sub-second-precision")),
            acknowledged: is_true(shipment.options.get("fluentd-request-ack")),
            number: 0,
        })
    }

    fn time(&self, at: i64, out: &mut Vec<u8>) -> io::Result<()> {
        let (seconds, nanoseconds) = (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000));
        if self.nanoseconds {
            encode::write_ext_meta(out, 8, EVENT_TIME).map_err(io::Error::other)?;
            out.extend((seconds as u32).to_be_bytes());
            out.extend((nanoseconds as u32).to_be_bytes());
        } else {
            encode::write_sint(out, seconds).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn record(&self, line: &Line<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let mut fields: Vec<(&str, String)> =
            self.common.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        fields.push(("source", if line.stderr { "stderr" } else { "stdout" }.to_owned()));
        if let Some(part) = &line.part {
            fields.push(("partial_message", "true".to_owned()));
            fields.push(("partial_id", part.id.clone()));
            fields.push(("partial_ordinal", part.ordinal.to_string()));
            fields.push(("partial_last", part.last.to_string()));
        }
        encode::write_map_len(out, fields.len() as u32 + 1).map_err(io::Error::other)?;
        for (key, value) in fields {
            encode::write_str(out, key).map_err(io::Error::other)?;
            encode::write_str(out, &value).map_err(io::Error::other)?;
        }
        encode::write_str(out, "log").map_err(io::Error::other)?;
        // As bytes of a string, valid or not: what the container wrote is not changed.
        encode::write_str_len(out, line.text.len() as u32).map_err(io::Error::other)?;
        out.extend_from_slice(line.text);
        Ok(())
    }

    fn send_messages(&mut self, lines: &[Line<'_>]) -> io::Result<usize> {
        let (mut sent, mut bytes) = (0, Vec::new());
        while sent < lines.len() && bytes.len() < WRITE {
            encode::write_array_len(&mut bytes, 4).map_err(io::Error::other)?;
            encode::write_str(&mut bytes, &self.tag).map_err(io::Error::other)?;
            self.time(lines[sent].at, &mut bytes)?;
            self.record(&lines[sent], &mut bytes)?;
            encode::write_map_len(&mut bytes, 0).map_err(io::Error::other)?;
            sent += 1;
        }
        self.connection.send(&bytes).map(|()| sent)
    }

    fn send_acknowledged(&mut self, lines: &[Line<'_>]) -> io::Result<usize> {
        self.number += 1;
        let chunk = format!("{}-{:x}-{}", self.tag, lines[0].at, self.number);
        let mut bytes = Vec::new();
        encode::write_array_len(&mut bytes, 3).map_err(io::Error::other)?;
        encode::write_str(&mut bytes, &self.tag).map_err(io::Error::other)?;
        encode::write_array_len(&mut bytes, lines.len() as u32).map_err(io::Error::other)?;
        for line in lines {
            encode::write_array_len(&mut bytes, 2).map_err(io::Error::other)?;
            self.time(line.at, &mut bytes)?;
            self.record(line, &mut bytes)?;
        }
        encode::write_map_len(&mut bytes, 1).map_err(io::Error::other)?;
        encode::write_str(&mut bytes, "chunk").map_err(io::Error::other)?;
        encode::write_str(&mut bytes, &chunk).map_err(io::Error::other)?;
        self.connection.send(&bytes)?;
        match read_ack(self.connection.answers()?) {
            Ok(ack) if ack == chunk => Ok(lines.len()),
            Ok(other) => {
                self.connection.close();
                Err(io::Error::other(format!("acknowledged {other:?} instead of {chunk:?}")))
            }
            Err(error) => {
                self.connection.close();
                Err(error)
            }
        }
    }
}

impl Driver for Fluentd {
    fn send(&mut self, lines: &[Line<'_>]) -> io::Result<usize> {
        if self.acknowledged { self.send_acknowledged(lines) } else { self.send_messages(lines) }
    }
}

/// `{"ack": "…"}`.
fn read_ack(mut from: &mut dyn io::Read) -> io::Result<String> {
    decode::read_map_len(&mut from).map_err(io::Error::other)?;
    let mut text = || {
        let length = decode::read_str_len(&mut from).map_err(io::Error::other)?.min(1024);
        let mut bytes = vec![0; length as usize];
        from.read_exact(&mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match (text()?.as_str(), text()?) {
        ("ack", chunk) => Ok(chunk),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::tests, *};

    #[test]
    fn a_record_names_the_container_and_its_part() {
        let fluentd = Fluentd::new(&tests::shipment("fluentd", &[("fluentd-sub-second-precision", "true")])).unwrap();
        let part = Some(crate::line::Part { id: "p".into(), ordinal: 2, last: true });
        let mut bytes = Vec::new();
        fluentd.record(&Line { part, ..tests::line("end") }, &mut bytes).unwrap();
        assert_eq!(decode::read_map_len(&mut &bytes[..]).unwrap(), 9);
        for text in ["container_id", "/web", "partial_ordinal", "com.example.x", "stdout"] {
            assert!(bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{text}");
        }
        let mut time = Vec::new();
        fluentd.time(1_000_000_002, &mut time).unwrap();
        assert_eq!(time, [0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
    }

    #[test]
    fn an_acknowledgement_is_read() {
        let mut bytes = Vec::new();
        encode::write_map_len(&mut bytes, 1).unwrap();
        encode::write_str(&mut bytes, "ack").unwrap();
        encode::write_str(&mut bytes, "chunk-1").unwrap();
        assert_eq!(read_ack(&mut &bytes[..]).unwrap(), "chunk-1");
    }
}
