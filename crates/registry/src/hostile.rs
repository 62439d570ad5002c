//! Whatever a registry says in a header or a small document: never a panic, and never more work than it is long (T14, T19).
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Uri, header};
use proptest::prelude::*;

use crate::{
    challenge::{self, Challenge},
    endpoint,
    refusal::Refusal,
};

fn headers(values: &[String]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        if let Ok(value) = HeaderValue::try_from(value.as_str()) {
            headers.append(header::WWW_AUTHENTICATE, value);
        }
    }
    headers
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Pieces of challenges in any order.
fn rubble() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("Bearer ".to_owned()),
        Just("Basic".to_owned()),
        Just("realm=".to_owned()),
        Just("scope=".to_owned()),
        Just("error=".to_owned()),
        Just("insufficient_scope".to_owned()),
        Just("error_description=".to_owned()),
        Just("=".to_owned()),
        Just(",".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just(" ".to_owned()),
        "[ -~\u{80}-\u{ff}\u{20ac}]{0,12}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_challenge_comes_out_as_it_was_put(realm in "[ -~]{0,40}", service in "[ -~]{0,40}", scope in "[ -~]{0,40}") {
        let value = format!("Bearer realm={},service={} , scope={}", quoted(&realm), quoted(&service), quoted(&scope));
        prop_assert_eq!(challenge::of(&headers(&[value])), Some(Challenge::Bearer { realm, service, scope }));
    }

    #[test]
    fn rubble_is_no_challenge_or_one_no_longer_than_it(values in prop::collection::vec(rubble(), 0..4)) {
        let length: usize = values.iter().map(String::len).sum();
        let headers = headers(&values);
        if let Some(Challenge::Bearer { realm, service, scope }) = challenge::of(&headers) {
            prop_assert!(realm.len() + service.len() + scope.len() <= length);
        }
        if let Some(refusal) = challenge::denial(&headers) {
            prop_assert!(refusal.text.len() <= length + 100);
        }
    }

    #[test]
    fn a_location_is_a_url_with_a_host_or_an_error(location in "\\PC{0,60}") {
        let base: Uri = "https://reg.example/v2/a/blobs/uploads/".parse().unwrap();
        if let Ok(url) = endpoint::resolve(&base, &location) {
            let authority = url.authority().unwrap().as_str();
            prop_assert!(!authority.is_empty() && !authority.contains('@'), "{}", url);
        }
    }

    #[test]
    fn a_body_of_a_refusal_is_told_or_not(body in prop::collection::vec(any::<u8>(), 0..200), code in "\\PC{0,20}") {
        let _ = Refusal::listed(&body);
        let told = serde_json::json!({"errors": [{"code": code, "message": code, "detail": {"a": [null, 1.5]}}]});
        prop_assert!(Refusal::listed(told.to_string().as_bytes()).is_some_and(|refusal| refusal.code == code));
    }
}

#[test]
fn a_long_challenge_takes_no_time() {
    let began = Instant::now();
    for part in ["a=b,", "a=\"b\",", "=", "\"", "a=\\\"", "realm=\"x", ","] {
        let value = format!("Bearer {}", part.repeat(400_000 / part.len()));
        assert!(matches!(challenge::of(&headers(&[value])), Some(Challenge::Bearer { .. })), "{part}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
