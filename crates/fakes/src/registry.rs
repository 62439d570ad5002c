//! The registry port: every registry takes every credential.

use async_trait::async_trait;
use gantry_domain::{
    Result,
    ports::Registry,
    registry::{Login, RegistryAuth},
};

use crate::Fakes;

#[async_trait]
impl Registry for Fakes {
    async fn login(&self, _: &RegistryAuth) -> Result<Login> {
        self.calls.pass("registry.login")?;
        Ok(Login { status: "Login Succeeded".into(), identity_token: String::new() })
    }
}
