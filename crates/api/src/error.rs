//! The one table from a kind of error to a status, and the body that every Docker client reads.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use gantry_domain::{Error, ErrorKind};
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

pub type Result<T, E = ApiError> = std::result::Result<T, E>;

/// An error on its way to the client.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
}

/// Body of every answer that is an error.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorResponse {
    /// The text that the Docker client prints.
    pub message: String,
}

/// Docker's classes of errors and their status.
pub fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::InvalidParameter => StatusCode::BAD_REQUEST,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::System | ErrorKind::DataLoss | ErrorKind::Cancelled => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
    /// Unknown path, or a method that the path does not have: dockerd never answers 405.
    pub fn page_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "page not found")
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = status_of(error.kind());
        // The source is for the log, once, here.
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), error = ?error, "request failed");
        } else {
            tracing::debug!(status = status.as_u16(), error = ?error, "request refused");
        }
        Self::new(status, error.message())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        crate::reply::json(self.status, &ErrorResponse { message: self.message })
    }
}

/// What is answered when a handler panics; the request is lost, the daemon is not.
pub fn panicked(payload: Box<dyn std::any::Any + Send>) -> Response {
    let what = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(
        panic = what,
        trace = %std::backtrace::Backtrace::force_capture(),
        "a request panicked"
    );
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error: the request panicked").into_response()
}

/// `http.Error` of Go, for clients older than the JSON errors.
pub fn plain(status: StatusCode, message: &str) -> Response {
    let mut response = Response::new(Body::from(format!("{message}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn error_body_is_message_and_newline_with_the_bare_content_type() {
        let response = ApiError::from(Error::conflict("a \"b\" <c>")).into_response();
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(&body[..], b"{\"message\":\"a \\\"b\\\" <c>\"}\n");
    }
}
