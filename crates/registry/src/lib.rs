//! The OCI distribution client: signing in, reading and writing repositories, searching.
//!
//! ```text
//! Registries ─► Repository ─► Endpoint (one a place: mirror, hosts.toml, the registry) ─► Client ─► connection
//!                                └─ challenge, token                                        └─ proxy, TLS
//! ```

#![forbid(unsafe_code)]

mod address;
mod again;
mod challenge;
mod client;
mod config;
mod connect;
mod endpoint;
mod fetch;
mod hosts;
mod inspect;
mod login;
mod proxy;
mod refusal;
mod repository;
mod search;
mod tls;
mod token;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod stub;

pub use config::RegistryConfig;
pub use login::Registries;
pub use proxy::Proxies;
pub use repository::{Blob, Document, Repository, Sent, Upload};
