//! The registry port: every registry takes every credential, and has nothing.

use async_trait::async_trait;
use gantry_domain::{
    Error, Result,
    ports::{Fetched, Registry},
    reference::Reference,
    registry::{Distribution, Login, RegistryAuth, SearchResult},
};

use crate::Fakes;

#[async_trait]
impl Registry for Fakes {
    async fn login(&self, _: &RegistryAuth) -> Result<Login> {
        self.calls.pass("registry.login")?;
        Ok(Login { status: "Login Succeeded".into(), identity_token: String::new() })
    }

    async fn search(&self, _: &str, _: u32, _: &RegistryAuth) -> Result<Vec<SearchResult>> {
        self.calls.pass("registry.search")?;
        Ok(Vec::new())
    }

    async fn distribution(&self, reference: &Reference, _: &RegistryAuth) -> Result<Distribution> {
        self.calls.pass("registry.distribution")?;
        Err(Error::not_found(format!("manifest for {} not found: manifest unknown", reference.familiar())))
    }

    async fn fetch(&self, url: &str) -> Result<Fetched> {
        self.calls.pass("registry.fetch")?;
        Err(Error::not_found(format!("failed to GET {url} with status 404 Not Found: ")))
    }
}
