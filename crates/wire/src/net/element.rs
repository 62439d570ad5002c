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
    /// Address and length of a prefix: an interval, and the only field of its key.
    Net(IpAddr, u8),
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
    /// The key as the kernel wants it, of an interval the first one: each field in network order, padded to 32 bits.
    pub fn key_bytes(&self) -> Vec<u8> {
        concatenate(&self.key)
    }
    /// The first key behind an interval, which ends it in the kernel; `None` where the key is no interval, or one that
    /// goes on to the last address.
    pub fn end_bytes(&self) -> Option<Vec<u8>> {
        let [Field::Net(ip, prefix)] = self.key[..] else { return None };
        let behind = match ip {
            IpAddr::V4(ip) => {
                let size = 1u32.checked_shl(32 - u32::from(prefix))?;
                IpAddr::V4(u32::from(ip).checked_add(size)?.into())
            }
            IpAddr::V6(ip) => {
                let size = 1u128.checked_shl(128 - u32::from(prefix))?;
                IpAddr::V6(u128::from(ip).checked_add(size)?.into())
            }
        };
        Some(concatenate(&[Field::Ip(behind)]))
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
            Field::Net(ip, prefix) => write!(f, "{ip}/{prefix}")?,
        }
    }
    Ok(())
}

fn concatenate(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    for field in fields {
        match field {
            Field::Protocol(protocol) => bytes.push(protocol.0),
            Field::Ip(IpAddr::V4(ip)) | Field::Net(IpAddr::V4(ip), _) => bytes.extend(ip.octets()),
            Field::Ip(IpAddr::V6(ip)) | Field::Net(IpAddr::V6(ip), _) => bytes.extend(ip.octets()),
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
    fn a_prefix_is_an_interval_up_to_the_first_address_behind_it() {
        let net = |ip: [u8; 4], prefix| {
            let key = vec![Field::Net(ip.into(), prefix)];
            Element { set: "outward4".into(), key, data: Vec::new() }
        };
        assert_eq!(net([10, 1, 0, 0], 24).key_bytes(), [10, 1, 0, 0]);
        assert_eq!(net([10, 1, 0, 0], 24).end_bytes(), Some(vec![10, 1, 1, 0]));
        assert_eq!(net([255, 255, 255, 0], 24).end_bytes(), None);
        assert_eq!(net([0, 0, 0, 0], 0).end_bytes(), None);
        assert_eq!(net([10, 1, 0, 0], 24).to_string(), "10.1.0.0/24");
        assert_eq!(element().end_bytes(), None);
    }

    #[test]
    fn an_element_reads_as_nft_reads_it() {
        assert_eq!(element().to_string(), "6 . 10.0.0.2 . 80 : 172.17.0.2 . 8080");
    }
}
