//! Credentials for a registry, and what registries tell.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{image::Descriptor, platform::Platform};

/// Docker's `AuthConfig`. Secrets never show in a log: `Debug` leaves them out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
    /// `host[:port]` or a URL; empty is Docker Hub.
    pub server_address: String,
    /// A refresh token of an earlier login; used instead of the password.
    pub identity_token: String,
    /// A bearer token that is sent as it is.
    pub registry_token: String,
}

impl RegistryAuth {
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// The registry took the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub status: String,
    /// A token that stands for the credentials from now on; empty where the registry gives none.
    pub identity_token: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("status", &self.status).finish_non_exhaustive()
    }
}

/// One line of `docker search`, as the index sends it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SearchResult {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    pub is_automated: bool,
    pub description: String,
}

/// What a registry has under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    pub descriptor: Descriptor,
    pub platforms: Vec<Platform>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_print_without_their_secrets() {
        let auth = RegistryAuth {
            username: "ann".into(),
            password: "canary-password".into(),
            identity_token: "canary-token".into(),
            registry_token: "canary-bearer".into(),
            ..RegistryAuth::default()
        };
        let shown = format!("{auth:?}");
        assert!(shown.contains("ann") && !shown.contains("canary"), "{shown}");
    }
}
