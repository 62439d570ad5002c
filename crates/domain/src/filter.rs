//! Docker's `filters` parameter: parsed from both JSON forms, and matched in its several ways.

use std::collections::{BTreeMap, BTreeSet};

use crate::Result;

/// Key → values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(pub BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// `{"k":{"v":true}}` or `{"k":["v"]}`; empty text is no filter. `InvalidParameter` `invalid filter`.
    pub fn parse(_json: &str) -> Result<Self> {
        todo!()
    }
    /// `InvalidParameter` `invalid filter 'k'` for a key outside `accepted`.
    pub fn check_keys(&self, _accepted: &[&str]) -> Result<()> {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn contains(&self, _key: &str) -> bool {
        todo!()
    }
    pub fn values(&self, _key: &str) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
    /// No such key, or one of its values is exactly `source`.
    pub fn exact_match(&self, _key: &str, _source: &str) -> bool {
        todo!()
    }
    /// No such key, or one of its values is a prefix of `source` (Docker's `FuzzyMatch`).
    pub fn fuzzy_match(&self, _key: &str, _source: &str) -> bool {
        todo!()
    }
    /// No such key, or one of its values, as a regular expression, is found in `source`, or equals it (`Match`).
    pub fn pattern_match(&self, _key: &str, _source: &str) -> bool {
        todo!()
    }
    /// No such key, or every value (`k` or `k=v`) holds for the labels (`MatchKVList`).
    pub fn labels_match(&self, _key: &str, _labels: &BTreeMap<String, String>) -> bool {
        todo!()
    }
    /// `0/1/true/false`; `InvalidParameter` `invalid filter 'k=[v]'`.
    pub fn bool_or(&self, _key: &str, _default: bool) -> Result<bool> {
        todo!()
    }
}
