//! Registries: hosts outside that speak the OCI distribution protocol.

use async_trait::async_trait;

use crate::{
    Result,
    registry::{Login, RegistryAuth},
};

/// Registries, by the address that a client typed. Credentials go to that host and its token realm, nowhere else.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Asks the registry whether it takes these credentials. May be repeated; changes nothing here.
    /// `Unauthorized` when it refuses them, `InvalidParameter` for an address that is none, `System` when it cannot be
    /// reached; never longer than a minute.
    async fn login(&self, auth: &RegistryAuth) -> Result<Login>;
}
