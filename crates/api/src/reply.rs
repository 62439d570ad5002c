//! Answers: JSON as Go's `WriteJSON` prints it, and answers without a body.

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer as _};

pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// JSON and a newline; the content type is exactly `application/json`, which Go's client compares byte for byte.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    written(status, |body| value.serialize(body))
}

/// 200 with a JSON array of what is made only when its turn comes.
pub fn list<T: Serialize>(items: impl Iterator<Item = T>) -> Response {
    written(StatusCode::OK, |body| body.collect_seq(items))
}

fn written(
    status: StatusCode,
    write: impl FnOnce(&mut serde_json::Serializer<&mut Vec<u8>>) -> serde_json::Result<()>,
) -> Response {
    let mut body = Vec::with_capacity(256);
    if let Err(error) = write(&mut serde_json::Serializer::new(&mut body)) {
        tracing::error!(%error, "an answer could not be written as JSON");
        return crate::error::plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
    }
    body.push(b'\n');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// 200 with JSON.
pub fn ok<T: Serialize + ?Sized>(value: &T) -> Response {
    json(StatusCode::OK, value)
}

/// 201 with JSON.
pub fn created<T: Serialize + ?Sized>(value: &T) -> Response {
    json(StatusCode::CREATED, value)
}

/// A status and no body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// 204.
pub fn no_content() -> Response {
    empty(StatusCode::NO_CONTENT)
}

/// 204 when something changed, 304 when it already was so.
pub fn outcome(outcome: gantry_domain::container::state::Outcome) -> Response {
    use gantry_domain::container::state::Outcome;
    match outcome {
        Outcome::Changed => no_content(),
        Outcome::Unchanged => empty(StatusCode::NOT_MODIFIED),
    }
}
