//! `WWW-Authenticate`: how a registry wants to be convinced.

use std::collections::BTreeMap;

use http::{HeaderMap, StatusCode, header};

use crate::refusal::Refusal;

/// One challenge; each header carries one, as registries send them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: String, scope: String },
}

/// What to answer: a token where the registry names a realm for it, else the credentials themselves.
pub(crate) fn of(headers: &HeaderMap) -> Option<Challenge> {
    let all: Vec<Challenge> = headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter_map(parse)
        .collect();
    all.iter().find(|one| matches!(one, Challenge::Bearer { .. })).or(all.first()).cloned()
}

/// What a bearer challenge tells besides: that the token was not enough (RFC 6750, 3.1).
pub(crate) fn denial(headers: &HeaderMap) -> Option<Refusal> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    values.filter_map(|value| value.trim().split_once(' ')).find_map(|(scheme, rest)| {
        let mut parameters = parameters(rest);
        let (code, class, default) = match parameters.get("error").map(String::as_str) {
            _ if !scheme.eq_ignore_ascii_case("bearer") => return None,
            Some("insufficient_scope") => ("DENIED", "denied", "requested access to the resource is denied"),
            Some("invalid_token") => ("UNAUTHORIZED", "unauthorized", "authentication required"),
            _ => return None,
        };
        let said = parameters.remove("error_description").filter(|text| !text.is_empty());
        let text = format!("{class}: {}", said.as_deref().unwrap_or(default));
        Some(Refusal { status: StatusCode::UNAUTHORIZED, code: code.to_owned(), text })
    })
}

fn parse(value: &str) -> Option<Challenge> {
    let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let mut parameters = parameters(rest);
            let mut take = |name: &str| parameters.remove(name).unwrap_or_default();
            Some(Challenge::Bearer { realm: take("realm"), service: take("service"), scope: take("scope") })
        }
        _ => None,
    }
}

/// `a="b c", d=e`: quoted strings with `\` escapes, or bare tokens.
fn parameters(mut rest: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let (value, remaining) = value(after.trim_start());
        found.insert(name, value);
        rest = remaining;
    }
    found
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_challenge_goes_before_basic_and_keeps_its_parameters() {
        let both = headers(&[
            "Basic realm=\"x\"",
            "bearer realm=\"https://auth.example/token\", service=reg.example,scope=\"a:b,c \\\"d\\\"\"",
        ]);
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: "reg.example".into(),
            scope: "a:b,c \"d\"".into(),
        };
        assert_eq!(of(&both), Some(expected));
    }

    #[test]
    fn unknown_and_broken_challenges_do_no_harm() {
        assert_eq!(of(&headers(&["Negotiate", "Basic"])), Some(Challenge::Basic));
        assert_eq!(of(&headers(&["Digest realm=\"a\""])), None);
        for broken in ["Bearer realm=\"never ends", "Bearer =,=,=", "Bearer realm=\"\\", "Bearer"] {
            assert!(matches!(of(&headers(&[broken])), Some(Challenge::Bearer { .. })), "{broken}");
        }
    }
}
