//! An element of an nftables set or map: as text for `nft`, and as the kernel's bytes for netlink.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::IpProtocol;

/// Bytes of an interface's name in the kernel, with its closing zero.
const IFNAMSIZ: usize = 16;

/// One field of a concatenation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    Protocol(IpProtocol),
    Ip(IpAddr),
    Port(u16),
    Interface(String),
}

/// A key, and data where `set` is a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Element {
    pub set: String,
    pub key: Vec<Field>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<Field>,
}

impl Element {
    /// The key as the kernel wants it: each field in network order, padded to 32 bits.
    pub fn key_bytes(&self) -> Vec<u8> {
        concatenate(&self.key)
    }
    /// The same for the data; empty for an element of a set.
    pub fn data_bytes(&self) -> Vec<u8> {
        concatenate(&self.data)
    }
}

/// `key` or `key : data` in nft's language.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_fields(f, &self.key)?;
        if !self.data.is_empty() {
            f.write_str(" : ")?;
            write_fields(f, &self.data)?;
        }
        Ok(())
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[Field]) -> fmt::Result {
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            f.write_str(" . ")?;
        }
        match field {
            Field::Protocol(protocol) => write!(f, "{}", protocol.0)?,
            Field::Ip(ip) => write!(f, "{ip}")?,
            Field::Port(port) => write!(f, "{port}")?,
            Field::Interface(name) => write!(f, "\"{name}\"")?,
        }
    }
    Ok(())
}

fn concatenate(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    for field in fields {
        match field {
            Field::Protocol(protocol) => bytes.push(protocol.0),
            Field::Ip(IpAddr::V4(ip)) => bytes.extend(ip.octets()),
            Field::Ip(IpAddr::V6(ip)) => bytes.extend(ip.octets()),
            Field::Port(port) => bytes.extend(port.to_be_bytes()),
            Field::Interface(name) => {
                let mut padded = [0; IFNAMSIZ];
                for (to, from) in padded[..IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
                    *to = from;
                }
                bytes.extend(padded);
            }
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element() -> Element {
        Element {
            set: "dnat4".into(),
            key: vec![Field::Protocol(IpProtocol::TCP), Field::Ip([10, 0, 0, 2].into()), Field::Port(80)],
            data: vec![Field::Ip([172, 17, 0, 2].into()), Field::Port(8080)],
        }
    }

    /// The bytes that `nft --debug=mnl` of 1.0.6 sends for the same element.
    #[test]
    fn a_concatenation_is_padded_as_nft_pads_it() {
        assert_eq!(element().key_bytes(), [6, 0, 0, 0, 10, 0, 0, 2, 0, 80, 0, 0]);
        assert_eq!(element().data_bytes(), [172, 17, 0, 2, 0x1f, 0x90, 0, 0]);
    }

    #[test]
    fn an_interface_takes_sixteen_bytes() {
        let key = vec![Field::Interface("docker0".into()), Field::Port(80)];
        let element = Element { set: "own".into(), key, data: Vec::new() };
        assert_eq!(element.key_bytes(), *b"docker0\0\0\0\0\0\0\0\0\0\0\x50\0\0");
        assert_eq!(element.to_string(), "\"docker0\" . 80");
    }

    #[test]
    fn an_element_reads_as_nft_reads_it() {
        assert_eq!(element().to_string(), "6 . 10.0.0.2 . 80 : 172.17.0.2 . 8080");
    }
}
