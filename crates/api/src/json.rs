//! JSON bodies by Docker's rules: the content type, the end, what follows it, and Go's lenient decoding.

mod lenient;

use axum::extract::{FromRequest, Request};
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;

pub use lenient::Node;

use crate::{
    body,
    error::{ApiError, Result},
};

/// A JSON body; an absent one is the zero value, as in dockerd's `ReadJSON`.
pub struct Json<T>(pub T);

/// A JSON body that must be there (create); the tree is kept for those who need to see which keys were sent.
pub struct JsonTree(pub Node);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for Json<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let headers = request.headers().clone();
        let bytes = body::read(request).await?;
        check_content_type(&headers, bytes.is_empty() && !is_chunked(&headers))?;
        if bytes.is_empty() && !is_chunked(&headers) {
            return Ok(Self(T::default()));
        }
        parse(&bytes)?.read().map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonTree {
    type Rejection = ApiError;
    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let headers = request.headers().clone();
        let bytes = body::read(request).await?;
        check_content_type(&headers, bytes.is_empty() && !is_chunked(&headers))?;
        parse(&bytes).map(Self)
    }
}

fn is_chunked(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
}

/// No Content-Type is fine as long as there is no body.
fn check_content_type(headers: &HeaderMap, no_body: bool) -> Result<()> {
    let given = match headers.get(header::CONTENT_TYPE) {
        None if no_body => return Ok(()),
        None => "",
        Some(value) => value.to_str().unwrap_or("\u{fffd}"),
    };
    let mime = given.split(';').next().unwrap_or_default().trim();
    if mime.is_empty() {
        return Err(ApiError::bad_request(format!("malformed Content-Type header ({given}): mime: no media type")));
    }
    if !mime.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&byte)) {
        return Err(ApiError::bad_request(format!(
            "malformed Content-Type header ({given}): mime: expected slash after first token"
        )));
    }
    if !mime.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::bad_request(format!(
            "unsupported Content-Type header ({given}): must be 'application/json'"
        )));
    }
    Ok(())
}

/// The one JSON value of a body.
fn parse(bytes: &[u8]) -> Result<Node> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Node>();
    let node = match values.next() {
        None => return Err(ApiError::bad_request("invalid JSON: got EOF while reading request body")),
        Some(Err(error)) => return Err(ApiError::bad_request(format!("invalid JSON: {error}"))),
        Some(Ok(node)) => node,
    };
    if bytes[values.byte_offset()..].iter().any(|byte| !byte.is_ascii_whitespace()) {
        return Err(ApiError::bad_request("unexpected content after JSON"));
    }
    Ok(node)
}

impl Node {
    /// Decodes as Go's `encoding/json` would; 400 names the field.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_path_to_error::deserialize(self).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            ApiError::bad_request(match path.as_str() {
                "." => format!("invalid JSON: {inner}"),
                path => format!("invalid JSON: {inner} in field {path}"),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use gantry_domain::container::{Config, HostConfig};

    fn body(content_type: Option<&str>, bytes: &str) -> Request {
        let mut request = http::Request::builder().method("POST");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        request.body(axum::body::Body::from(bytes.to_owned())).unwrap()
    }

    async fn refusal(content_type: Option<&str>, bytes: &str) -> String {
        Json::<Config>::from_request(body(content_type, bytes), &()).await.map(|_| ()).unwrap_err().message
    }

    #[tokio::test]
    async fn body_rules_speak_dockers_words() {
        assert_eq!(
            refusal(Some("text/plain"), "{}").await,
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        assert_eq!(refusal(None, "{}").await, "malformed Content-Type header (): mime: no media type");
        let json = Some("application/json; charset=utf-8");
        assert_eq!(refusal(json, " ").await, "invalid JSON: got EOF while reading request body");
        assert_eq!(refusal(json, "{} {}").await, "unexpected content after JSON");
        assert!(refusal(json, "{").await.starts_with("invalid JSON: "));
        assert!(refusal(json, r#"{"Hostname": 5}"#).await.ends_with("in field Hostname"));
    }

    #[tokio::test]
    async fn an_absent_body_is_the_zero_value() {
        let Json(config) = Json::<Config>::from_request(body(None, ""), &()).await.unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn names_match_without_case_and_the_last_duplicate_wins() {
        let node = parse(br#"{"hostname":"a","HOSTNAME":"b","attachStdin":true,"Unknown":{"x":[1]}}"#).unwrap();
        let config: Config = node.read().unwrap();
        assert_eq!((config.hostname.as_str(), config.attach_stdin), ("b", true));
    }

    #[test]
    fn null_is_the_zero_value_everywhere() {
        let node = parse(br#"{"Hostname":null,"Env":null,"Labels":{"a":null},"Cmd":[null,"x"],"ExposedPorts":null}"#);
        let node = node.unwrap();
        let config: Config = node.read().unwrap();
        assert_eq!(config.labels.unwrap()["a"], "");
        assert_eq!(config.env, None);
        let host = parse(br#"{"PortBindings":{"80/tcp":null,"81/tcp":[null]},"ConsoleSize":[5],"Init":null}"#).unwrap();
        let host: HostConfig = host.read().unwrap();
        let ports = host.port_bindings.unwrap();
        assert_eq!(ports["80/tcp"], None);
        assert_eq!(ports["81/tcp"].as_ref().unwrap().len(), 1);
        assert_eq!(host.console_size, [5, 0]);
    }

    #[test]
    fn a_command_may_be_a_string() {
        let config: Config = parse(br#"{"Cmd":"ls -l","Entrypoint":["/x"]}"#).unwrap().read().unwrap();
        assert_eq!(config.cmd.unwrap(), ["ls -l"]);
    }

    #[test]
    fn a_body_without_config_keys_is_told_apart() {
        assert!(!parse(br#"{"HostConfig":{}}"#).unwrap().has_field_of::<Config>());
        assert!(parse(br#"{"image":"x"}"#).unwrap().has_field_of::<Config>());
        assert!(!parse(b"[]").unwrap().has_field_of::<Config>());
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes()).is_err());
    }
}
