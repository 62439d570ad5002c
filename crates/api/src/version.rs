//! The outside of the API: version prefix, paths made fit for the router, and the headers of every answer.
//!
//! It stands around the router, not in it, because the prefix is taken off before routing.

use std::sync::Arc;

use axum::{Router, body::Body, response::IntoResponse, response::Response};
use gantry_domain::container::validate::ApiVersion;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, uri::PathAndQuery};
use tower::ServiceExt as _;

use crate::{
    app::{App, MAX_VERSION, text},
    error::{ApiError, plain},
    path::Templates,
};

/// The whole API as a function from request to answer; cheap to clone.
#[derive(Clone)]
pub struct Api {
    router: Router,
    templates: Arc<Templates>,
    app: App,
}

impl Api {
    pub fn new(app: App) -> Self {
        let routes = crate::routes::all();
        let templates = Arc::new(Templates::new(routes.iter().map(|route| (route.method.clone(), route.path))));
        Self { router: crate::route::router(routes, app.clone()), templates, app }
    }

    /// Answers one request.
    pub async fn call(&self, mut request: Request<Body>) -> Response {
        let mut response = match self.prepare(&mut request) {
            Ok(()) if request.method() == Method::OPTIONS => crate::reply::empty(StatusCode::OK),
            Ok(()) => {
                let Ok(response) = self.router.clone().oneshot(request).await;
                response
            }
            Err(refusal) => refusal.into_response(),
        };
        add_headers(response.headers_mut(), &self.app);
        response
    }

    /// Takes the version off the path and leaves it in the extensions.
    fn prepare(&self, request: &mut Request<Body>) -> Result<(), Refusal> {
        let (version, rest) = split_version(request.uri().path());
        let version = match version {
            Some(typed) => check(typed, self.app.about.min_version)?,
            None => MAX_VERSION,
        };
        let path = self.templates.fit(request.method(), rest);
        if path != request.uri().path() {
            let uri = with_path(request.uri(), &path).ok_or(Refusal::Json(ApiError::page_not_found()))?;
            *request.uri_mut() = uri;
        }
        request.extensions_mut().insert(version);
        Ok(())
    }
}

enum Refusal {
    Json(ApiError),
    /// Versions before 1.24 had no JSON errors.
    Plain(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Json(error) => error.into_response(),
            Self::Plain(message) => plain(StatusCode::BAD_REQUEST, &message),
        }
    }
}

/// `/v1.47/info` → (`1.47`, `/info`); anything else is a bare path.
fn split_version(path: &str) -> (Option<&str>, &str) {
    let Some(tail) = path.strip_prefix("/v") else { return (None, path) };
    let Some(slash) = tail.find('/') else { return (None, path) };
    let version = &tail[..slash];
    if version.is_empty() || !version.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return (None, path);
    }
    (Some(version), &tail[slash..])
}

fn check(typed: &str, min: ApiVersion) -> Result<ApiVersion, Refusal> {
    let mut parts = typed.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = ApiVersion(parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let refuse = |message: String| {
        if version < ApiVersion(1, 24) {
            Refusal::Plain(message)
        } else {
            Refusal::Json(ApiError::bad_request(message))
        }
    };
    if version < min {
        return Err(refuse(format!(
            "client version {typed} is too old. Minimum supported API version is {}, please upgrade your client to a \
             newer version",
            text(min)
        )));
    }
    if version > MAX_VERSION {
        return Err(refuse(format!(
            "client version {typed} is too new. Maximum supported API version is {}",
            text(MAX_VERSION)
        )));
    }
    Ok(version)
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

/// The headers of every answer, errors included; clients negotiate by them.
pub fn add_headers(headers: &mut HeaderMap, app: &App) {
    let server = format!("Docker/{} (linux)", app.about.version);
    if let Ok(server) = HeaderValue::from_str(&server) {
        headers.insert(header::SERVER, server);
    }
    if let Ok(version) = HeaderValue::from_str(&text(MAX_VERSION)) {
        headers.insert("api-version", version);
    }
    headers.insert("ostype", HeaderValue::from_static("linux"));
    let experimental = if app.engine.settings().experimental { "true" } else { "false" };
    headers.insert("docker-experimental", HeaderValue::from_static(experimental));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(refusal: Refusal) -> (bool, String) {
        match refusal {
            Refusal::Json(error) => (true, error.message),
            Refusal::Plain(text) => (false, text),
        }
    }

    #[test]
    fn the_prefix_is_split_off_only_where_it_is_a_version() {
        assert_eq!(split_version("/v1.47/info"), (Some("1.47"), "/info"));
        assert_eq!(split_version("/version"), (None, "/version"));
        assert_eq!(split_version("/volumes/x"), (None, "/volumes/x"));
        assert_eq!(split_version("/v1.47"), (None, "/v1.47"));
    }

    #[test]
    fn a_version_out_of_range_is_refused_in_dockers_words() {
        let min = crate::app::MIN_VERSION;
        assert_eq!(check("1.24", min).ok(), Some(ApiVersion(1, 24)));
        let (json, text) = message(check("1.99", min).expect_err("too new"));
        assert!(json);
        assert_eq!(text, "client version 1.99 is too new. Maximum supported API version is 1.51");
        let (json, text) = message(check("1.12", min).expect_err("too old"));
        assert!(!json);
        assert_eq!(
            text,
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
    }
}
