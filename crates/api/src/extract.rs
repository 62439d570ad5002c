//! What handlers take from a request beside query and body: the name in the path, the API's version, the connection.

use axum::extract::{FromRequestParts, Path, rejection::PathRejection};
use gantry_domain::container::validate::ApiVersion;
use http::{StatusCode, request::Parts};

use crate::{app::MAX_VERSION, error::ApiError};

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

impl<S: Send + Sync> FromRequestParts<S> for crate::server::Client {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "this connection cannot carry a stream"))
    }
}
