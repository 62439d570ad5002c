//! `docker login`: whether a registry takes these credentials.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use gantry_domain::{
    Error, ErrorKind, Result,
    ports::{Fetched, Registry},
    reference::Reference,
    registry::{Distribution, Login, RegistryAuth, SearchResult},
};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use rustls::ClientConfig;

use crate::{
    address::{self, Host},
    again::Again,
    challenge::{self, Challenge},
    client::{Answer, Client, Question},
    config::RegistryConfig,
    hosts, tls, token,
};

/// Registries, as the configuration allows them to be reached.
#[derive(Debug, Default)]
pub struct Registries {
    config: ArcSwap<RegistryConfig>,
}

impl Registries {
    pub fn new(config: RegistryConfig) -> Self {
        Self { config: ArcSwap::from_pointee(config) }
    }

    /// What holds now.
    pub fn config(&self) -> Arc<RegistryConfig> {
        self.config.load_full()
    }

    /// Takes a new configuration; what runs goes on with the old one.
    pub fn configure(&self, config: RegistryConfig) {
        self.config.store(Arc::new(config));
    }
}

#[async_trait]
impl Registry for Registries {
    async fn login(&self, auth: &RegistryAuth) -> Result<Login> {
        let config = self.config.load_full();
        let authority = address::authority(&auth.server_address)?;
        let host = Host::find(&authority, &config).await?;
        let identity_token = sign_in(&host, auth, &config).await?;
        Ok(Login { status: "Login Succeeded".into(), identity_token })
    }

    async fn search(&self, term: &str, limit: u32, auth: &RegistryAuth) -> Result<Vec<SearchResult>> {
        self.search_index(term, limit, auth).await
    }

    async fn distribution(&self, reference: &Reference, auth: &RegistryAuth) -> Result<Distribution> {
        self.inspect(reference, auth).await
    }

    async fn fetch(&self, url: &str) -> Result<Fetched> {
        self.fetch_url(url).await
    }
}

/// HTTPS first; plain HTTP only for an insecure registry that HTTPS did not reach.
async fn sign_in(host: &Host, auth: &RegistryAuth, config: &Arc<RegistryConfig>) -> Result<String> {
    let tls = trust(host, config).await?;
    match Endpoint::new(host, Some(tls), config)?.sign_in(auth).await {
        Err(error) if host.insecure && error.kind() == ErrorKind::System => {
            tracing::debug!(registry = host.authority, %error, "no login by HTTPS, trying plain HTTP");
            Endpoint::new(host, None, config)?.sign_in(auth).await
        }
        done => done,
    }
}

/// Reads the authorities and the registry's folder.
pub(crate) async fn trust(host: &Host, config: &RegistryConfig) -> Result<Arc<ClientConfig>> {
    let (authority, certificates, verify) = (host.authority.clone(), config.certificates.clone(), !host.insecure);
    tokio::task::spawn_blocking(move || tls::client(&hosts::folder(&authority, &certificates), verify))
        .await
        .map_err(|error| Error::system(format!("reading certificates: {error}")))?
}

/// `https://host/v2/` or its plain twin.
struct Endpoint<'a> {
    client: Client,
    url: Uri,
    config: &'a RegistryConfig,
}

impl<'a> Endpoint<'a> {
    fn new(host: &'a Host, tls: Option<Arc<ClientConfig>>, config: &'a RegistryConfig) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/v2/", host.authority)
            .parse()
            .map_err(|error| Error::invalid(format!("unable to parse server address: {error}")))?;
        Ok(Self { client: Client::new(host.clone(), tls, config.proxies.clone()), url, config })
    }

    async fn sign_in(&self, auth: &RegistryAuth) -> Result<String> {
        let first = self.ask(None).await?;
        let Some(challenge) = challenge::of(&first.headers).filter(|_| first.status == StatusCode::UNAUTHORIZED) else {
            return self.accepted(&first).map(|()| String::new());
        };
        let (authorization, identity_token) =
            self.answer(&challenge, auth).await.map_err(|error| error.context(format!("Get \"{}\"", self.url)))?;
        self.accepted(&self.ask(Some(authorization)).await?)?;
        Ok(identity_token)
    }

    async fn answer(&self, challenge: &Challenge, auth: &RegistryAuth) -> Result<(HeaderValue, String)> {
        match challenge {
            Challenge::Basic => match basic(auth)? {
                Some(value) => Ok((value, auth.identity_token.clone())),
                None => Err(Error::new(ErrorKind::Unauthorized, "no basic auth credentials")),
            },
            Challenge::Bearer { realm, service, scope } => {
                let wanted = token::Wanted {
                    realm,
                    service,
                    scope,
                    registry: &self.client.host,
                    config: self.config,
                    offline: true,
                    again: Again::Broken,
                };
                let granted = wanted.fetch(auth).await?;
                Ok((secret(format!("Bearer {}", granted.token))?, granted.identity_token))
            }
        }
    }

    async fn ask(&self, authorization: Option<HeaderValue>) -> Result<Answer> {
        let question = Question::new(Method::GET, self.url.clone()).with(header::AUTHORIZATION, authorization);
        self.client.ask(question).await
    }

    fn accepted(&self, answer: &Answer) -> Result<()> {
        if answer.status == StatusCode::OK {
            return Ok(());
        }
        let text = format!("login attempt to {} failed with status: {}", self.url, answer.status_text());
        Err(Error::new(refusal(answer.status), text))
    }
}

/// The kind of an answer that is not the one hoped for.
pub(crate) fn refusal(status: StatusCode) -> ErrorKind {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Unauthorized,
        _ => ErrorKind::System,
    }
}

/// `Basic …`; none where a name or a password is missing.
pub(crate) fn basic(auth: &RegistryAuth) -> Result<Option<HeaderValue>> {
    if auth.username.is_empty() || auth.password.is_empty() {
        return Ok(None);
    }
    let pair = BASE64_STANDARD.encode(format!("{}:{}", auth.username, auth.password));
    secret(format!("Basic {pair}")).map(Some)
}

/// A header that no log shows.
pub(crate) fn secret(text: String) -> Result<HeaderValue> {
    let mut value =
        HeaderValue::try_from(text).map_err(|_| Error::system("the registry's token cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
