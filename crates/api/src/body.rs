//! Request bodies: small ones whole within a size and a time, large ones as a stream.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};
use gantry_domain::{Error, ports::ByteStream};
use http::{HeaderMap, StatusCode, header};

use crate::{
    app::MAX_JSON_BODY,
    error::{ApiError, Result},
};

/// A body that is not complete by then never will be.
const TIME: Duration = Duration::from_secs(60);

/// The whole body, at most `MAX_JSON_BODY` bytes.
pub async fn read(request: Request) -> Result<Bytes> {
    let whole = collect(request.into_body(), MAX_JSON_BODY);
    match tokio::time::timeout(TIME, whole).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the request body did not end in time")),
    }
}

async fn collect(body: Body, limit: usize) -> Result<Bytes> {
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| ApiError::bad_request(format!("reading the request body: {error}")))?;
        if whole.len() + chunk.len() > limit {
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large"));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// A body of any length, as it comes; a client that hangs up in the middle is an error in the stream.
pub struct Upload(pub ByteStream);

impl<S: Send + Sync> FromRequest<S> for Upload {
    type Rejection = ApiError;
    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let stream = request.into_body().into_data_stream();
        Ok(Self(Box::pin(stream.map_err(|error| Error::cancelled(format!("reading the request body: {error}"))))))
    }
}

/// dockerd's guard on start: a body of more than seven bytes, or of unknown length.
pub fn has_more_than(headers: &HeaderMap, bytes: u64) -> bool {
    match headers.get(header::CONTENT_LENGTH) {
        Some(length) => {
            length.to_str().ok().and_then(|text| text.parse().ok()).is_none_or(|length: u64| length > bytes)
        }
        None => headers.contains_key(header::TRANSFER_ENCODING),
    }
}
