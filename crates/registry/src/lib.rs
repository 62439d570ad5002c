//! The OCI distribution client. So far it signs in; pull and push will stand on the same parts.
//!
//! A login is three requests: `GET /v2/` without credentials for the challenge, the token realm where the challenge
//! names one, and `GET /v2/` again with what answers the challenge.

#![forbid(unsafe_code)]

mod address;
mod challenge;
mod client;
mod login;
mod tls;
mod token;

#[cfg(test)]
mod stub;

pub use address::RegistryConfig;
pub use login::Registries;
