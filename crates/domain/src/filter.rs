//! Docker's `filters` parameter: parsed from both JSON forms, and matched in its several ways.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Error, Result};

/// Key → values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(pub BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// `{"k":{"v":true}}` or `{"k":["v"]}`; empty text is no filter. `InvalidParameter` `invalid filter`.
    pub fn parse(json: &str) -> Result<Self> {
        type Maps = Option<BTreeMap<String, Option<BTreeMap<String, Option<bool>>>>>;
        type Lists = Option<BTreeMap<String, Option<BTreeSet<String>>>>;
        if json.is_empty() {
            return Ok(Self::default());
        }
        if let Ok(maps) = serde_json::from_str::<Maps>(json) {
            // Docker looks at the keys only: `false` is there as much as `true`.
            let keys = |map: Option<BTreeMap<_, _>>| map.unwrap_or_default().into_keys().collect();
            return Ok(Self(maps.unwrap_or_default().into_iter().map(|(key, map)| (key, keys(map))).collect()));
        }
        match serde_json::from_str::<Lists>(json) {
            Ok(lists) => {
                let fields = lists.unwrap_or_default().into_iter();
                Ok(Self(fields.map(|(key, list)| (key, list.unwrap_or_default())).collect()))
            }
            Err(error) => Err(Error::invalid("invalid filter").with_source(error)),
        }
    }

    /// `InvalidParameter` `invalid filter 'k'` for a key outside `accepted`.
    pub fn check_keys(&self, accepted: &[&str]) -> Result<()> {
        match self.0.keys().find(|key| !accepted.contains(&key.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// The values to match against; `None` where there are none, so that everything matches.
    fn asked(&self, key: &str) -> Option<&BTreeSet<String>> {
        self.0.get(key).filter(|values| !values.is_empty())
    }

    /// No such key, or one of its values is exactly `source`.
    pub fn exact_match(&self, key: &str, source: &str) -> bool {
        self.asked(key).is_none_or(|values| values.contains(source))
    }

    /// No such key, or one of its values is a prefix of `source` (Docker's `FuzzyMatch`).
    pub fn fuzzy_match(&self, key: &str, source: &str) -> bool {
        self.asked(key).is_none_or(|values| values.iter().any(|value| source.starts_with(value.as_str())))
    }

    /// The values of a key as regular expressions, to be tried on many names.
    pub fn patterns(&self, key: &str) -> Patterns {
        Patterns(self.asked(key).map(|values| values.iter().map(|value| Pattern::new(value)).collect()))
    }

    /// No such key, or every value (`k` or `k=v`) holds for the labels (`MatchKVList`).
    pub fn labels_match(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(key).all(|wanted| label_matches(wanted, labels))
    }

    /// No such key, or no value holds for the labels: `label!`, each value on its own.
    pub fn no_label_matches(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        !self.values(key).any(|unwanted| label_matches(unwanted, labels))
    }

    /// `0/1/true/false`; `InvalidParameter` `invalid filter 'k=[v]'`.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        let Some(values) = self.0.get(key) else { return Ok(default) };
        let said = |words: [&str; 2]| words.iter().any(|word| values.contains(*word));
        match (said(["1", "true"]), said(["0", "false"])) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                Err(Error::invalid(format!("invalid filter '{key}=[{}]'", values.join(" "))))
            }
        }
    }
}

/// `k` or `k=v`.
fn label_matches(wanted: &str, labels: &BTreeMap<String, String>) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|label| label == value),
        None => labels.contains_key(wanted),
    }
}

/// Docker's `Match`; `None` where nothing is asked, so that everything matches.
#[derive(Debug)]
pub struct Patterns(Option<Vec<Pattern>>);

impl Patterns {
    /// Nothing is asked, or a pattern is found in `source`, or equals it.
    pub fn match_text(&self, source: &str) -> bool {
        self.0.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.is_found_in(source)))
    }
}

#[derive(Debug)]
struct Pattern {
    text: String,
    /// `None` for plain text, and for what does not compile: that matches itself alone, as in dockerd.
    regex: Option<regex::Regex>,
    plain: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let plain = !text.contains(|c: char| r"\.+*?()|[]{}^$".contains(c));
        let regex = if plain { None } else { regex::Regex::new(text).ok() };
        Self { text: text.to_owned(), regex, plain }
    }

    fn is_found_in(&self, source: &str) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(source) || source == self.text,
            None if self.plain => source.contains(&self.text),
            None => source == self.text,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn parse(json: &str) -> Filters {
        Filters::parse(json).unwrap()
    }

    #[test]
    fn both_forms_mean_the_same() {
        assert_eq!(parse(r#"{"label":{"a":true,"b":false}}"#), parse(r#"{"label":["a","b"]}"#));
        assert_eq!(parse(""), Filters::default());
        assert_eq!(parse("null"), Filters::default());
        for bad in ["[]", "{", "\"x\"", r#"{"a":1}"#, r#"{"a":{"b":true},"c":["d"]}"#] {
            assert_eq!(Filters::parse(bad).unwrap_err().message(), "invalid filter");
        }
    }

    #[test]
    fn unknown_keys_and_bad_booleans_are_named() {
        let filters = parse(r#"{"nope":["x"],"dangling":["maybe"]}"#);
        assert_eq!(filters.check_keys(&["dangling"]).unwrap_err().message(), "invalid filter 'nope'");
        assert_eq!(filters.bool_or("dangling", true).unwrap_err().message(), "invalid filter 'dangling=[maybe]'");
        assert!(filters.bool_or("absent", true).unwrap());
        assert!(!parse(r#"{"d":["0"]}"#).bool_or("d", true).unwrap());
        let both = parse(r#"{"d":["1","false"]}"#).bool_or("d", true).unwrap_err();
        assert_eq!(both.message(), "invalid filter 'd=[1 false]'");
    }

    #[test]
    fn labels_are_anded() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x=y".to_owned())]);
        assert!(parse(r#"{"label":["a","b=x=y"]}"#).labels_match("label", &labels));
        assert!(!parse(r#"{"label":["a","c"]}"#).labels_match("label", &labels));
        assert!(!parse(r#"{"label":["a=2"]}"#).labels_match("label", &labels));
        assert!(parse("").labels_match("label", &labels));
    }

    #[test]
    fn names_are_patterns_and_bad_patterns_match_themselves_only() {
        let filters = parse(r#"{"name":["^/we.$"],"id":["("]}"#);
        let (names, ids) = (filters.patterns("name"), filters.patterns("id"));
        assert!(names.match_text("/web") && !names.match_text("/webs"));
        assert!(ids.match_text("(") && !ids.match_text("a(b"));
        assert!(parse(r#"{"name":["eb"]}"#).patterns("name").match_text("web"));
        assert!(filters.patterns("absent").match_text("anything"));
        assert!(parse(r#"{"type":["cont"]}"#).fuzzy_match("type", "container"));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in ".*") {
            if let Err(error) = Filters::parse(&text) {
                prop_assert_eq!(error.message(), "invalid filter");
            }
        }

        #[test]
        fn plain_text_is_found_as_its_own_pattern(a in "[a-z/_ -]*", b in "[a-z]+", c in "[a-z]*") {
            let filters = Filters(BTreeMap::from([("name".to_owned(), BTreeSet::from([b.clone()]))]));
            let source = format!("{a}{b}{c}");
            prop_assert!(filters.patterns("name").match_text(&source));
        }
    }
}
