//! GELF 1.1: JSON over UDP, compressed and in chunks, or over TCP with a zero behind each.

use std::{
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use gantry_wire::ship::Shipment;
use serde_json::{Map, Value, json};

use super::{Driver, WRITE, host_name};
use crate::{address::Address, connection::Connection, line::Line};

/// Bytes of a datagram that crosses most networks in one piece, with the twelve of a chunk's header.
const DATAGRAM: usize = 1420;
const HEADER: usize = 12;
const MAX_CHUNKS: usize = 128;

pub struct Gelf {
    connection: Connection,
    packing: Packing,
    /// What is the same in each message.
    common: Map<String, Value>,
    number: u64,
}

enum Packing {
    None,
    Gzip(Compression),
    Zlib(Compression),
}

impl Gelf {
    pub fn new(shipment: &Shipment) -> io::Result<Self> {
        let option = |name: &str| shipment.options.get(name).map(String::as_str).unwrap_or_default();
        let address = Address::parse(option("gelf-address"), 12201)?;
        // -1 is zlib's default; without a word the fastest.
        let level = match option("gelf-compression-level").parse::<i64>() {
            Ok(-1) => Compression::default(),
            Ok(level) => Compression::new(u32::try_from(level).unwrap_or(1)),
            Err(_) => Compression::fast(),
        };
        let packing = match (&address, option("gelf-compression-type")) {
            (Address::Tcp(..), _) | (_, "none") => Packing::None,
            (_, "zlib") => Packing::Zlib(level),
            _ => Packing::Gzip(level),
        };
        let of = &shipment.container;
        let mut common = Map::new();
        let mut put = |key: &str, value: &str| common.insert(key.to_owned(), Value::from(value));
        put("version", "1.1");
        put("host", &host_name());
        put("_container_id", &of.id);
        put("_container_name", &of.name);
        put("_image_id", &of.image_id);
        put("_image_name", &of.image_name);
        put("_command", &of.command);
        put("_tag", &of.tag);
        put("_created", &of.created);
        for (key, value) in &of.attributes {
            put(&format!("_{key}"), value);
        }
        Ok(Self { connection: Connection::new(address, None), packing, common, number: seed() })
    }

    fn message(&self, line: &Line<'_>) -> io::Result<Vec<u8>> {
        let mut message = self.common.clone();
        message.insert("short_message".into(), String::from_utf8_lossy(line.text).into());
        // Seconds, with three places.
        message.insert("timestamp".into(), json!((line.at / 1_000_000) as f64 / 1000.0));
        message.insert("level".into(), json!(if line.stderr { 3 } else { 6 }));
        let bytes = serde_json::to_vec(&message)?;
        match self.packing {
            Packing::None => Ok(bytes),
            Packing::Gzip(level) => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
            Packing::Zlib(level) => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
        }
    }

    fn send_datagram(&mut self, message: &[u8]) -> io::Result<()> {
        if message.len() <= DATAGRAM {
            return self.connection.send(message);
        }
        let pieces: Vec<&[u8]> = message.chunks(DATAGRAM - HEADER).collect();
        if pieces.len() > MAX_CHUNKS {
            // Nobody would take it; a line is never that long.
            return Ok(());
        }
        self.number = self.number.wrapping_add(1);
        for (at, piece) in pieces.iter().enumerate() {
            let mut chunk = vec![0x1e, 0x0f];
            chunk.extend(self.number.to_be_bytes());
            chunk.extend([at as u8, pieces.len() as u8]);
            chunk.extend_from_slice(piece);
            self.connection.send(&chunk)?;
        }
        Ok(())
    }
}

impl Driver for Gelf {
    fn send(&mut self, lines: &[Line<'_>]) -> io::Result<usize> {
        // A message without text is none to a server.
        let empty = lines.iter().take_while(|line| line.text.is_empty()).count();
        if empty > 0 {
            return Ok(empty);
        }
        if self.connection.has_datagrams() {
            let message = self.message(&lines[0])?;
            return self.send_datagram(&message).map(|()| 1);
        }
        let (mut sent, mut bytes) = (0, Vec::new());
        while sent < lines.len() && bytes.len() < WRITE {
            if !lines[sent].text.is_empty() {
                bytes.extend(self.message(&lines[sent])?);
                bytes.push(0);
            }
            sent += 1;
        }
        self.connection.send(&bytes).map(|()| sent)
    }
}

/// Numbers of chunked messages begin at different places for different containers.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64).rotate_left(24) ^ u64::from(std::process::id())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{io::Read as _, net::UdpSocket};

    use super::{super::tests, *};

    #[test]
    fn a_long_line_comes_in_chunks() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp://{}", server.local_addr().unwrap());
        let options = [("gelf-address", address.as_str()), ("gelf-compression-type", "none")];
        let mut gelf = Gelf::new(&tests::shipment("gelf", &options)).unwrap();
        let text = "x".repeat(5000);
        assert_eq!(gelf.send(&[tests::line(&text)]).unwrap(), 1);
        let (mut whole, mut buffer) = (Vec::new(), [0; 2048]);
        loop {
            let length = server.recv(&mut buffer).unwrap();
            assert_eq!((&buffer[..2], length <= DATAGRAM), (&[0x1e, 0x0f][..], true));
            whole.extend_from_slice(&buffer[HEADER..length]);
            if buffer[10] + 1 == buffer[11] {
                break;
            }
        }
        let message: Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(message["short_message"], text);
    }

    #[test]
    fn a_message_has_what_dockerds_has() {
        let gelf = Gelf::new(&tests::shipment("gelf", &[("gelf-address", "udp://127.0.0.1:9")])).unwrap();
        let packed = gelf.message(&tests::line("hello")).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        let message: Value = serde_json::from_str(&text).unwrap();
        for (key, value) in [
            ("version", json!("1.1")),
            ("short_message", json!("hello")),
            ("timestamp", json!(1_767_323_045.0)),
            ("level", json!(6)),
            ("_container_name", json!("web")),
            ("_tag", json!("tagged")),
            ("_com.example.x", json!("y")),
        ] {
            assert_eq!(message[key], value, "{key}");
        }
        assert_eq!(message.as_object().unwrap().len(), 13);
    }
}
