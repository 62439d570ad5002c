//! Identifiers: 64 lower-case hexadecimal digits for containers, execs and networks; `sha256:<hex>` for content.

use rand::RngExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// 256 random bits as 64 hexadecimal digits.
pub fn random_hex() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    hex::encode(bytes)
}

/// Whether `text` is a full id: 64 lower-case hexadecimal digits.
pub fn is_full_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(|error| serde::de::Error::custom(error.message()))
            }
        }

        impl $name {
            /// A new random id. Docker retries one whose short form is all digits; so does this.
            pub fn random() -> Self {
                loop {
                    let id = random_hex();
                    if id[..12].bytes().any(|b| !b.is_ascii_digit()) {
                        return Self(id);
                    }
                }
            }
            /// Takes a full id; anything else is `InvalidParameter`.
            pub fn parse(text: &str) -> Result<Self> {
                if is_full_id(text) { Ok(Self(text.to_owned())) } else { Err(Error::invalid(format!("invalid id: {text}"))) }
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// The first 12 digits, as `docker ps` shows.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

hex_id!(
    /// A container's id; containerd knows the container by the same one.
    ContainerId
);
hex_id!(
    /// The id of one exec in a container.
    ExecId
);
hex_id!(
    /// A network's id.
    NetworkId
);

/// A content digest, `sha256:` and 64 hexadecimal digits. Parsed strictly: it becomes part of paths and keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Digest(String);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| serde::de::Error::custom(error.message()))
    }
}

impl Digest {
    /// Only `sha256:` digests are taken; other algorithms and malformed text are `InvalidParameter`.
    pub fn parse(text: &str) -> Result<Self> {
        match text.strip_prefix("sha256:") {
            Some(hex) if is_full_id(hex) => Ok(Self(text.to_owned())),
            _ => Err(Error::invalid(format!("invalid checksum digest format: {text}"))),
        }
    }
    /// From the 32 bytes of a SHA-256.
    pub fn from_sha256(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(bytes)))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The 64 digits without the algorithm.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
    /// The first 12 digits.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
