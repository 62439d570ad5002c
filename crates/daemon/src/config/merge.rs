//! Flags over file over defaults.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::options::by_key;

/// Flags over file; runtimes of both are put together.
pub fn merged(
    flags: &BTreeMap<&'static str, Value>,
    file: BTreeMap<&'static str, Value>,
) -> BTreeMap<&'static str, Value> {
    let mut given = file;
    for (key, value) in flags {
        match (given.get_mut(key), value) {
            (Some(Value::Object(in_file)), Value::Object(flags)) if *key == "runtimes" => {
                in_file.extend(flags.clone());
            }
            _ => {
                given.insert(key, value.clone());
            }
        }
    }
    given
}

/// Effective values by key.
pub struct Values<'a> {
    pub given: &'a BTreeMap<&'static str, Value>,
}

impl Values<'_> {
    /// The value of a key of the table: what was given, or its default.
    pub fn get(&self, key: &str) -> Value {
        match self.given.get(key) {
            Some(value) => value.clone(),
            None => by_key(key).map_or(Value::Null, |row| row.kind.default_value()),
        }
    }

    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    pub fn flag(&self, key: &str) -> bool {
        self.get(key).as_bool().unwrap_or_default()
    }

    pub fn number(&self, key: &str) -> i64 {
        self.get(key).as_i64().unwrap_or_default()
    }

    pub fn text(&self, key: &str) -> String {
        self.get(key).as_str().unwrap_or_default().to_owned()
    }

    pub fn list(&self, key: &str) -> Vec<String> {
        let value = self.get(key);
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    pub fn map(&self, key: &str) -> BTreeMap<String, String> {
        let Value::Object(object) = self.get(key) else { return BTreeMap::new() };
        object.into_iter().map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned())).collect()
    }
}
