//! What handlers take from a request beside query and body: the name in the path, the API's version, the connection.

use axum::extract::{FromRequestParts, Path, rejection::PathRejection};
use gantry_domain::container::validate::ApiVersion;
use http::request::Parts;

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
