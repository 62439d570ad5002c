//! Credentials for a registry, and what a registry says to them.

use std::fmt;

/// Docker's `AuthConfig`. Secrets never show in a log: `Debug` leaves them out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
    /// `host[:port]` or a URL; empty is Docker Hub.
    pub server_address: String,
    /// A refresh token of an earlier login; used instead of the password.
    pub identity_token: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_print_without_their_secrets() {
        let auth = RegistryAuth {
            username: "ann".into(),
            password: "canary-password".into(),
            identity_token: "canary-token".into(),
            ..RegistryAuth::default()
        };
        let shown = format!("{auth:?}");
        assert!(shown.contains("ann") && !shown.contains("canary"), "{shown}");
    }
}
