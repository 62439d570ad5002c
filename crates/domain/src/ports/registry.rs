//! Registries: hosts outside that speak the OCI distribution protocol.

use async_trait::async_trait;

use crate::{
    Result,
    reference::Reference,
    registry::{Distribution, Login, RegistryAuth, SearchResult},
};

/// Registries, by the address that a client typed. Credentials go to that host and its token realm, nowhere else.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Asks the registry whether it takes these credentials. May be repeated; changes nothing here.
    /// `Unauthorized` when it refuses them, `InvalidParameter` for an address that is none, `System` when it cannot be
    /// reached; never longer than a minute.
    async fn login(&self, auth: &RegistryAuth) -> Result<Login>;
    /// Asks the index that the term names (`host/term`), Docker Hub's without, for at most `limit` repositories.
    async fn search(&self, term: &str, limit: u32, auth: &RegistryAuth) -> Result<Vec<SearchResult>>;
    /// What the name leads to in its registry; nothing of it is kept.
    async fn distribution(&self, reference: &Reference, auth: &RegistryAuth) -> Result<Distribution>;
    /// Reads what a URL leads to, redirects followed, without credentials. `InvalidParameter` for one that is none,
    /// `NotFound` where there is nothing.
    async fn fetch(&self, url: &str) -> Result<Fetched>;
}

/// An answer that is on its way.
pub struct Fetched {
    /// Bytes, where the server says so.
    pub length: Option<u64>,
    pub body: super::ByteStream,
}
