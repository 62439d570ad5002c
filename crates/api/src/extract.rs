//! What handlers take from a request beside query and body: the name in the path, the API's version, the connection,
//! credentials for a registry.

use axum::extract::{FromRequestParts, Path, rejection::PathRejection};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use gantry_domain::{container::validate::ApiVersion, registry::RegistryAuth};
use http::request::Parts;
use serde::Deserialize;

use crate::{app::MAX_VERSION, error::ApiError, server::Client};

/// The one name in the path, decoded.
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let name: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        name.map(|Path(name)| Self(name)).map_err(|error| ApiError::bad_request(error.body_text()))
    }
}

/// The version of the API that the request came in by.
pub struct Version(pub ApiVersion);

impl<S: Send + Sync> FromRequestParts<S> for Version {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<ApiVersion>().copied().unwrap_or(MAX_VERSION)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = std::convert::Infallible;
    /// A request that came by no connection of ours (a test's) has a client that never goes.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(Client::without_connection))
    }
}

/// `X-Registry-Auth`: base64 of Docker's `AuthConfig`, for URLs or not, padded or not. As in dockerd, what cannot be
/// read counts as none.
pub struct Credentials(pub RegistryAuth);

impl<S: Send + Sync> FromRequestParts<S> for Credentials {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let header = parts.headers.get("x-registry-auth").and_then(|value| value.to_str().ok());
        Ok(Self(header.and_then(credentials).unwrap_or_default()))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthHeader {
    username: String,
    password: String,
    /// `user:password` in base64, where the two are not given apart.
    auth: String,
    serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

fn credentials(header: &str) -> Option<RegistryAuth> {
    let found: AuthHeader = serde_json::from_slice(&decode(header)?).ok()?;
    let (mut username, mut password) = (found.username, found.password);
    if username.is_empty()
        && let Some(pair) = decode(&found.auth).and_then(|pair| String::from_utf8(pair).ok())
        && let Some((name, secret)) = pair.split_once(':')
    {
        (username, password) = (name.to_owned(), secret.trim_end_matches('\0').to_owned());
    }
    Some(RegistryAuth {
        username,
        password,
        server_address: found.serveraddress,
        identity_token: found.identitytoken,
        registry_token: found.registrytoken,
    })
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let plain = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    BASE64_URL_SAFE_NO_PAD.decode(plain).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn credentials_come_in_every_base64_and_bad_ones_are_none() {
        let json = br#"{"username":"a?>","password":"p","serveraddress":"h:1","email":"x"}"#;
        for text in [BASE64_STANDARD.encode(json), BASE64_URL_SAFE_NO_PAD.encode(json)] {
            let found = credentials(&text).unwrap();
            assert_eq!((found.username.as_str(), found.server_address.as_str()), ("a?>", "h:1"));
        }
        let pair = format!("{{\"auth\":\"{}\"}}", BASE64_STANDARD.encode("ann:se:cret"));
        let found = credentials(&BASE64_STANDARD.encode(pair)).unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("ann", "se:cret"));
        for wrong in ["", "?", "e30x", &BASE64_STANDARD.encode("[]")] {
            assert!(credentials(wrong).is_none_or(|found| found.is_empty()), "{wrong}");
        }
    }
}
