//! daemon.json: read, its nested proxies laid flat, unknown keys and keys that are also flags told in dockerd's words.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use crate::{
    cli::CommandLine,
    options::{by_key, value},
};

/// The values of the file by key. A file that is absent is empty, unless it was named.
pub fn read(line: &CommandLine) -> Result<BTreeMap<&'static str, Value>, String> {
    let content = match std::fs::read(&line.config_file) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !line.config_file_named => Vec::new(),
        Err(error) => {
            return Err(unable(
                &line.config_file,
                format!("open {}: {}", line.config_file.display(), gantry_domain::error::go_words(error.to_string())),
            ));
        }
    };
    parse(&content, &line.given).map_err(|why| unable(&line.config_file, why))
}

fn unable(path: &Path, why: impl std::fmt::Display) -> String {
    format!("unable to configure the Docker daemon with file {}: {why}", path.display())
}

/// What is wrong with flags and file together, as dockerd tells it where there is a file. What gantryd refuses of its own
/// is told in its own words.
pub fn merged(line: &CommandLine, why: String) -> String {
    if why.starts_with("gantryd ") || !line.config_file.exists() {
        return why;
    }
    unable(&line.config_file, format!("merged configuration validation from file and command line flags failed: {why}"))
}

/// Checks the file's content against the flags that were given.
pub fn parse(content: &[u8], flags: &BTreeMap<&'static str, Value>) -> Result<BTreeMap<&'static str, Value>, String> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content).trim_ascii();
    if content.is_empty() {
        return Ok(BTreeMap::new());
    }
    let object: Option<Value> =
        serde_json::from_slice(content).map_err(|error| format!("invalid JSON: {}", go_syntax(content, &error)))?;
    let object = match object {
        None => Map::new(),
        Some(Value::Object(object)) => object,
        Some(other) => {
            let found = value::json_name(&other);
            return Err(format!(
                "invalid JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
            ));
        }
    };
    let flat = flattened(object)?;

    let unknown: Vec<&str> = flat.keys().map(String::as_str).filter(|key| by_key(key).is_none()).collect();
    if !unknown.is_empty() {
        return Err(format!("the following directives don't match any configuration option: {}", unknown.join(", ")));
    }
    let conflicts = conflicts(&flat, flags);
    if !conflicts.is_empty() {
        return Err(format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            conflicts.join(", ")
        ));
    }
    if flat.contains_key("host-gateway-ip") && flat.contains_key("host-gateway-ips") {
        return Err("host-gateway-ip and host-gateway-ips must not both be specified in the config file".into());
    }
    flat.iter()
        .filter_map(|(key, value)| by_key(key).map(|row| (row, value)))
        .map(|(row, value)| value::from_file(row, value).map(|value| (row.key, value)))
        .collect::<Result<_, _>>()
        .map_err(|why| format!("invalid JSON: {why}"))
}

/// What Go's decoder says of the character that serde stops at; in other words than ours where there is none.
fn go_syntax(content: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let line = content.split(|&byte| byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let rest = line.get(error.column().saturating_sub(1)..).unwrap_or_default();
    let Some(found) = String::from_utf8_lossy(rest).chars().next() else { return error.to_string() };
    let found = match found {
        '\'' => "'\\''".to_owned(),
        found => format!("'{}'", found.escape_default().to_string().replace("\\\"", "\"")),
    };
    let text = error.to_string();
    let place = match text.split(" at line ").next().unwrap_or_default() {
        "expected value" => "looking for beginning of value",
        "key must be a string" | "trailing comma" => "looking for beginning of object key string",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "trailing characters" => "after top-level value",
        _ => return text,
    };
    format!("invalid character {found} {place}")
}

/// `proxies` is the one group whose keys dockerd treats as its own.
fn flattened(object: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut flat = Map::new();
    for (key, value) in object {
        match (key.as_str(), value) {
            ("proxies", Value::Object(proxies)) => flat.extend(proxies),
            ("proxies", _) => {
                return Err(
                    "json: cannot unmarshal value into Go struct field Config.proxies of type config.Proxies".into()
                );
            }
            (_, value) => {
                flat.insert(key, value);
            }
        }
    }
    Ok(flat)
}

/// Keys that are also flags. Runtimes may come from both and are put together.
fn conflicts(file: &Map<String, Value>, flags: &BTreeMap<&'static str, Value>) -> Vec<String> {
    flags
        .iter()
        .filter(|(key, _)| **key != "runtimes")
        .filter_map(|(key, flag)| {
            let in_file = file.get(*key).or_else(|| match *key {
                "host-gateway-ips" => file.get("host-gateway-ip"),
                _ => None,
            })?;
            let shown = |value: &Value| match *key {
                "http-proxy" | "https-proxy" => masked(&value::printed(value)),
                _ => value::printed(value),
            };
            Some(format!("{key}: (from flag: {}, from file: {})", shown(flag), shown(in_file)))
        })
        .collect()
}

/// A URL without the name and password in it.
pub fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://xxxxx:xxxxx{}", &rest[at..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with_flags(content: &str, flags: &[(&'static str, Value)]) -> Result<BTreeMap<&'static str, Value>, String> {
        parse(content.as_bytes(), &flags.iter().cloned().collect())
    }

    #[test]
    fn an_empty_file_is_no_configuration() {
        assert_eq!(with_flags(" \n", &[]), Ok(BTreeMap::new()));
        assert_eq!(with_flags("\u{feff}{}", &[]), Ok(BTreeMap::new()));
    }

    #[test]
    fn unknown_keys_are_named() {
        assert_eq!(
            with_flags(r#"{"nope": 1, "debug": true}"#, &[]),
            Err("the following directives don't match any configuration option: nope".into())
        );
    }

    #[test]
    fn a_key_that_is_also_a_flag_is_refused_with_both_values() {
        assert_eq!(
            with_flags(r#"{"hosts": ["unix:///a"]}"#, &[("hosts", json!(["fd://"]))]),
            Err("the following directives are specified both as a flag and in the configuration file: hosts: (from \
                 flag: [fd://], from file: [unix:///a])"
                .into())
        );
    }

    #[test]
    fn a_proxys_password_is_not_in_the_error() {
        let flags = [("http-proxy", json!("http://me:secret@one:3128"))];
        let error = with_flags(r#"{"proxies": {"http-proxy": "http://you:hidden@two:3128/x"}}"#, &flags);
        let error = error.expect_err("conflict");
        assert!(!error.contains("secret") && !error.contains("hidden"), "{error}");
        assert!(error.contains("from file: http://xxxxx:xxxxx@two:3128/x"), "{error}");
    }

    #[test]
    fn runtimes_may_come_from_both() {
        let flags = [("runtimes", json!({"a": {"path": "/a"}}))];
        assert!(with_flags(r#"{"runtimes": {"b": {"path": "/b"}}}"#, &flags).is_ok());
    }

    #[test]
    fn a_missing_file_is_an_error_only_where_it_was_named() {
        let line = |named| CommandLine {
            config_file: "/nonexistent/daemon.json".into(),
            config_file_named: named,
            validate: false,
            given: BTreeMap::new(),
        };
        assert_eq!(read(&line(false)), Ok(BTreeMap::new()));
        assert_eq!(
            read(&line(true)),
            Err("unable to configure the Docker daemon with file /nonexistent/daemon.json: open \
                 /nonexistent/daemon.json: no such file or directory"
                .into())
        );
    }
}
