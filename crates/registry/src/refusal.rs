//! What a registry says when it does not do what was asked: status, code and text of the distribution specification.

use gantry_domain::{Error, ErrorKind};
use http::StatusCode;
use serde::Deserialize;

use crate::{
    challenge,
    client::{Answer, status_text},
};

/// Error texts are small.
const MAX_TEXT: u64 = 64 << 10;

/// A refusal as the registry put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    /// `MANIFEST_UNKNOWN`; empty where the body is none of the specification's.
    pub code: String,
    /// `manifest unknown: manifest unknown`
    pub text: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    errors: Vec<OneError>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OneError {
    code: String,
    message: String,
}

impl Refusal {
    pub async fn read(answer: Answer) -> Self {
        let status = answer.status;
        let scope = challenge::denial(&answer.headers);
        let body = answer.body.whole(MAX_TEXT).await.unwrap_or_default();
        let listed = Self::listed(&body);
        let found = match scope {
            Some(denied) => denied,
            None => listed.unwrap_or_else(|| Self::bare(status)),
        };
        Self { status, ..found }
    }

    /// The first of the body's errors leads; it tells what class of refusal it is.
    pub fn listed(body: &[u8]) -> Option<Self> {
        let errors = serde_json::from_slice::<Body>(body).ok()?.errors;
        let first = errors.first()?;
        let texts: Vec<String> = errors.iter().map(OneError::text).collect();
        let text = if texts.len() == 1 { texts.concat() } else { format!("errors:\n{}\n", texts.join("\n")) };
        Some(Self { status: StatusCode::OK, code: first.code.clone(), text })
    }

    fn bare(status: StatusCode) -> Self {
        let (code, text) = match status {
            StatusCode::UNAUTHORIZED => ("UNAUTHORIZED", "unauthorized: authentication required".to_owned()),
            StatusCode::FORBIDDEN => ("DENIED", "denied: requested access to the resource is denied".to_owned()),
            StatusCode::TOO_MANY_REQUESTS => ("TOOMANYREQUESTS", "toomanyrequests: too many requests".to_owned()),
            status => ("", format!("received unexpected HTTP status: {}", status_text(status))),
        };
        Self { status, code: code.to_owned(), text }
    }

    /// Of the registry's fault (or of what lies between) more may come when asked again.
    pub fn kind(&self) -> ErrorKind {
        match self.status {
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
            StatusCode::FORBIDDEN => ErrorKind::Forbidden,
            StatusCode::REQUEST_TIMEOUT => ErrorKind::System,
            StatusCode::TOO_MANY_REQUESTS => ErrorKind::Unavailable,
            status if status.is_client_error() => ErrorKind::InvalidParameter,
            _ => ErrorKind::System,
        }
    }

    pub fn is_denied(&self) -> bool {
        matches!(self.code.as_str(), "DENIED" | "UNAUTHORIZED")
            || matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
    }

    pub fn error(&self) -> Error {
        Error::new(self.kind(), self.text.clone())
    }
}

impl OneError {
    fn text(&self) -> String {
        let code = self.code.to_lowercase().replace('_', " ");
        if self.message.is_empty() { code } else { format!("{code}: {}", self.message) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn errors_of_the_specification_are_told_in_dockers_words() {
        let one =
            Refusal::listed(br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#);
        assert_eq!(one.unwrap().text, "manifest unknown: manifest unknown");
        let two = Refusal::listed(br#"{"errors":[{"code":"DENIED","message":"no"},{"code":"UNAUTHORIZED"}]}"#).unwrap();
        assert_eq!((two.code.as_str(), two.text.as_str()), ("DENIED", "errors:\ndenied: no\nunauthorized\n"));
        for wrong in [&b"<html>"[..], b"{}", b"{\"errors\":[]}", b"{\"errors\":{}}", b""] {
            assert_eq!(Refusal::listed(wrong), None);
        }
    }
}
