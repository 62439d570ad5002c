//! Query parameters and form bodies with Docker's ideas of booleans, numbers and times.

use std::collections::HashMap;

use axum::extract::{FromRequest, Request};
use gantry_domain::{Error, ErrorKind, filter::Filters, platform::Platform};
use http::{Method, header};
use jiff::Timestamp;
use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};

use crate::{
    body,
    error::{ApiError, Result},
};

/// Pairs in one request. A repeated key counts each time.
const MAX_PAIRS: usize = 10_000;

/// Parameters of the query, and of a form body where there is one. Unknown ones are ignored; `bool` follows Docker's
/// rule, `Vec` takes a repeated key, everything else the first value.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Query<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let mut pairs = Vec::new();
        let query = request.uri().query().unwrap_or_default().to_owned();
        if is_form(&request) {
            // Go puts the body's values first.
            parse_pairs(&body::read(request).await?, &mut pairs);
        }
        parse_pairs(query.as_bytes(), &mut pairs);
        read(&pairs).map(Self)
    }
}

/// Only the query: for handlers that read the body themselves.
pub struct UriQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> axum::extract::FromRequestParts<S> for UriQuery<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self> {
        let mut pairs = Vec::new();
        parse_pairs(parts.uri.query().unwrap_or_default().as_bytes(), &mut pairs);
        read(&pairs).map(Self)
    }
}

fn is_form(request: &Request) -> bool {
    let form = |value: &http::HeaderValue| {
        value.to_str().is_ok_and(|text| text.trim_start().starts_with("application/x-www-form-urlencoded"))
    };
    *request.method() != Method::GET && request.headers().get(header::CONTENT_TYPE).is_some_and(form)
}

fn parse_pairs(text: &[u8], pairs: &mut Vec<(String, String)>) {
    match serde_html_form::from_bytes::<Vec<(String, String)>>(text) {
        Ok(parsed) => pairs.extend(parsed),
        Err(error) => tracing::debug!(%error, "a query that is none"),
    }
}

fn read<T: DeserializeOwned>(pairs: &[(String, String)]) -> Result<T> {
    if pairs.len() > MAX_PAIRS {
        return Err(ApiError::bad_request(format!("more than {MAX_PAIRS} parameters")));
    }
    T::deserialize(Pairs(pairs)).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Docker's `BoolValue`: everything is true but these.
pub fn is_true(text: &str) -> bool {
    !matches!(text.trim().to_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

/// Unix seconds with an optional fraction, as `since` and `until` of logs and events. Empty and `0` are none.
pub fn timestamp(text: &str) -> gantry_domain::Result<Option<Timestamp>> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let invalid = || Error::invalid(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| invalid())?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i32 = digits.parse().map_err(|_| invalid())?;
    if seconds == 0 && nanos == 0 {
        return Ok(None);
    }
    Timestamp::new(seconds, nanos).map(Some).map_err(|_| invalid())
}

/// As `timestamp`, where a zero that was written is the beginning of all time: the bounds of events.
pub fn moment(text: &str) -> gantry_domain::Result<Option<Timestamp>> {
    Ok(timestamp(text)?.or_else(|| (!text.is_empty()).then_some(Timestamp::UNIX_EPOCH)))
}

/// `limit` of a list of containers; for one that is no number dockerd answers 500.
pub fn limit(text: Option<&str>) -> gantry_domain::Result<i64> {
    match text {
        None | Some("") => Ok(0),
        Some(text) => gantry_domain::text::go_int(text).map_err(|error| error.with_kind(ErrorKind::System)),
    }
}

/// Go's `strconv` of an integer that must be one; empty is absent.
pub fn int(text: Option<&str>) -> gantry_domain::Result<Option<i64>> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| Error::invalid(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
    }
}

/// Filters of a query; absent is none.
pub fn filters(text: Option<&str>) -> gantry_domain::Result<Filters> {
    Filters::parse(text.unwrap_or_default())
}

/// `os/arch[/variant]`, as create, pull and import take it.
pub fn platform(text: Option<&str>) -> gantry_domain::Result<Option<Platform>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let parts: Vec<_> = text.split('/').collect();
    let well_formed = parts.len() <= 3
        && parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)));
    let lower = |index: usize| parts.get(index).map(|part| part.to_lowercase()).unwrap_or_default();
    match parts.len() {
        _ if !well_formed => {
            Err(Error::invalid(format!("{text:?}: components must match \"^[a-zA-Z0-9_-]+$\": invalid argument")))
        }
        // One word is an operating system or an architecture.
        1 if lower(0) == "linux" => Ok(Some(Platform { os: "linux".into(), ..Platform::host() })),
        1 => Ok(Some(Platform { os: "linux".into(), architecture: lower(0), ..Platform::default() })),
        _ => Ok(Some(Platform {
            os: lower(0),
            architecture: normal_architecture(&lower(1)),
            variant: lower(2),
            ..Platform::default()
        })),
    }
}

fn normal_architecture(name: &str) -> String {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" => "386",
        other => other,
    }
    .to_owned()
}

/// `{"os":…,"architecture":…}`, as save, load, history and inspect take it.
pub fn json_platform(text: Option<&str>) -> gantry_domain::Result<Option<Platform>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let platform: Platform =
        serde_json::from_str(text).map_err(|error| Error::invalid(format!("failed to parse platform: {error}")))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Error::invalid("both OS and Architecture must be provided"));
    }
    Ok(Some(platform))
}

pub fn json_platforms(given: &[String]) -> gantry_domain::Result<Vec<Platform>> {
    let parsed: gantry_domain::Result<Vec<_>> = given.iter().map(|text| json_platform(Some(text))).collect();
    Ok(parsed?.into_iter().flatten().collect())
}

struct Pairs<'a>(&'a [(String, String)]);

type DeError = de::value::Error;

impl<'de> Deserializer<'de> for Pairs<'de> {
    type Error = DeError;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let mut keys: HashMap<&str, Values<'de>> = HashMap::new();
        for (key, value) in self.0 {
            keys.entry(key).or_insert_with(|| Values(Vec::new())).0.push(value);
        }
        visitor.visit_map(MapDeserializer::new(keys.into_iter()))
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// All values of one key.
struct Values<'a>(Vec<&'a str>);

impl<'de> IntoDeserializer<'de, DeError> for Values<'de> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Values<'de> {
    type Error = DeError;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_borrowed_str(self.0.first().copied().unwrap_or_default())
    }
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_bool(self.0.first().is_some_and(|text| is_true(text)))
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_some(self)
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        SeqDeserializer::<_, DeError>::new(self.0.into_iter().map(StrDeserializer::new)).deserialize_seq(visitor)
    }
    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(serde::Deserialize, Default, Debug, PartialEq)]
    #[serde(default)]
    struct Sample {
        all: bool,
        size: Option<bool>,
        t: Option<String>,
        names: Vec<String>,
    }

    fn sample(query: &str) -> Sample {
        let mut pairs = Vec::new();
        parse_pairs(query.as_bytes(), &mut pairs);
        read(&pairs).unwrap()
    }

    #[test]
    fn booleans_are_dockers() {
        for yes in ["1", "True", "yes", "on", " TRUE ", "2", "x"] {
            assert!(is_true(yes), "{yes}");
        }
        for no in ["", "0", "no", "False", "none", " 0 "] {
            assert!(!is_true(no), "{no}");
        }
    }

    #[test]
    fn keys_may_repeat_and_strangers_are_ignored() {
        let parsed = sample("all=True&names=a&x=1&names=b%2Fc&t=&size=no");
        assert_eq!(
            parsed,
            Sample { all: true, size: Some(false), t: Some(String::new()), names: vec!["a".into(), "b/c".into()] }
        );
        assert_eq!(sample(""), Sample::default());
    }

    #[test]
    fn a_body_of_many_keys_is_refused_and_not_searched() {
        let body: String = (0..1_000_000).map(|i| format!("k{i}=&")).collect();
        let mut pairs = Vec::new();
        parse_pairs(body.as_bytes(), &mut pairs);
        assert!(read::<Sample>(&pairs).is_err());
        assert!(read::<Sample>(&pairs[..MAX_PAIRS]).is_ok());
    }

    #[test]
    fn times_are_seconds_with_an_optional_fraction() {
        assert_eq!(timestamp("").unwrap(), None);
        assert_eq!(timestamp("0").unwrap(), None);
        assert_eq!((moment("").unwrap(), moment("0").unwrap()), (None, Some(Timestamp::UNIX_EPOCH)));
        assert_eq!(timestamp("1136073845.000000001").unwrap().unwrap().to_string(), "2006-01-01T00:04:05.000000001Z");
        assert_eq!(timestamp("1136073845.5").unwrap().unwrap().to_string(), "2006-01-01T00:04:05.5Z");
        assert!(timestamp("2006-01-02T15:04:05").is_err());
    }

    #[test]
    fn platforms_come_as_text_and_as_json() {
        assert_eq!(platform(Some("linux/arm64/v8")).unwrap().unwrap().to_string(), "linux/arm64/v8");
        assert_eq!(platform(None).unwrap(), None);
        assert!(platform(Some("a/b/c/d")).is_err());
        let parsed = json_platform(Some(r#"{"os":"linux","architecture":"arm64"}"#)).unwrap().unwrap();
        assert_eq!(parsed.to_string(), "linux/arm64");
        assert!(json_platform(Some("linux/arm64")).is_err());
    }

    #[tokio::test]
    async fn a_form_body_counts_as_parameters() {
        let request = http::Request::builder()
            .method("POST")
            .uri("/x?all=0&names=q")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(axum::body::Body::from("all=1&names=b"))
            .unwrap();
        let Query(parsed) = Query::<Sample>::from_request(request, &()).await.unwrap();
        assert!(parsed.all);
        assert_eq!(parsed.names, ["b", "q"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_time_or_an_error(text in ".{0,30}") {
            let _ = (timestamp(&text), moment(&text));
        }

        #[test]
        fn a_time_is_its_seconds_and_its_fraction(second in 0i64..200_000_000_000, nano in 0i32..1_000_000_000) {
            let at = Timestamp::new(second, nano).ok().filter(|at| *at != Timestamp::UNIX_EPOCH);
            let text = format!("{second}.{nano:09}");
            proptest::prop_assert_eq!(timestamp(&text).ok(), Some(at));
            // Zeros behind it, and digits beyond what a nanosecond is, change nothing.
            proptest::prop_assert_eq!(timestamp(text.trim_end_matches('0')).ok(), Some(at));
            proptest::prop_assert_eq!(timestamp(&format!("{text}999")).ok(), Some(at));
            proptest::prop_assert_eq!(moment(&text).ok(), Some(Some(at.unwrap_or(Timestamp::UNIX_EPOCH))));
        }

        #[test]
        fn what_is_no_number_is_refused(text in "[a-z +]{1,6}[0-9.]{0,4}") {
            proptest::prop_assume!(text != "+" || !text.starts_with('+'));
            proptest::prop_assert!(timestamp(&text).is_err() || text.starts_with('+'));
        }
    }
}
