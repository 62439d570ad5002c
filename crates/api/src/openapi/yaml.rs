//! JSON as YAML in block style; strings keep JSON's quotes, which YAML understands.

use std::fmt::Write as _;

use serde_json::Value;

pub fn write(text: &mut String, value: &Value) {
    block(text, value, 0);
}

fn block(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                indent(text, depth);
                push(text, &plain_or_quoted(key));
                text.push(':');
                nested(text, member, depth + 1);
            }
        }
        Value::Array(items) => {
            for item in items {
                indent(text, depth);
                text.push('-');
                nested(text, item, depth + 1);
            }
        }
        scalar => push(text, &format!("{scalar}\n")),
    }
}

fn nested(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            text.push('\n');
            block(text, value, depth);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(text, value, depth);
        }
        value => push(text, &format!(" {value}\n")),
    }
}

fn plain_or_quoted(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.{}".contains(c))
        && !matches!(key.to_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n");
    if plain { key.to_owned() } else { Value::from(key).to_string() }
}

fn indent(text: &mut String, depth: usize) {
    (0..depth).for_each(|_| text.push_str("  "));
}

fn push(text: &mut String, part: &str) {
    // Writing to a String cannot fail.
    let _ = write!(text, "{part}");
}
