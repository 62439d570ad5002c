//! `POST /auth`: whether a registry takes these credentials. Nothing of them is kept: the client stores them.

use gantry_domain::{
    Result,
    registry::{Login, RegistryAuth},
};

use crate::Engine;

impl Engine {
    pub async fn system_auth(&self, auth: &RegistryAuth) -> Result<Login> {
        self.parts.ports.registry.login(auth).await
    }
}
