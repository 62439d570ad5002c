//! Checks of single options, in dockerd's words where it has some.

use serde_json::Value;

use crate::{
    config::{Environment, LogFormat, LogLevel, merge::Values},
    options::{Effect, ROWS, value},
};

/// Options that ask for what gantryd cannot do, and that would be dangerous to ignore.
pub fn refusals(values: &Values) -> Result<(), String> {
    for row in ROWS {
        let Effect::Refused { asks, why } = row.effect else { continue };
        let value = values.get(row.key);
        if !values.is_given(row.key) || !asks(&value) {
            continue;
        }
        if row.key == "ip6tables" && !values.flag("iptables") {
            continue;
        }
        return Err(match why.starts_with("DEPRECATED") {
            true => why.to_owned(),
            false => format!("gantryd does not start with {} = {}: {why}", row.key, value::printed(&value)),
        });
    }
    Ok(())
}

/// Options that were given and tune nothing.
pub fn notes(values: &Values) -> Vec<String> {
    let mut notes: Vec<String> = ROWS
        .iter()
        .filter(|row| values.is_given(row.key) && values.get(row.key) != row.kind.default_value())
        .filter_map(|row| match row.effect {
            Effect::TunesNothing(why) => Some(format!("{} has no effect: {why}", row.key)),
            _ => None,
        })
        .collect();
    if values.is_given("live-restore") && !values.flag("live-restore") {
        notes.push("live-restore=false has no effect: containers always outlive gantryd".into());
    }
    if let Value::Object(features) = values.get("features") {
        let unknown = features.iter().filter(|(name, _)| name.as_str() != "cdi");
        let note = |(name, value): (&String, &Value)| {
            format!("the feature {name}={value} has no effect: gantryd does not know it")
        };
        notes.extend(unknown.map(note));
    }
    notes
}

pub fn log_level(values: &Values) -> Result<LogLevel, String> {
    let text = values.text("log-level");
    let level = match text.to_lowercase().as_str() {
        "panic" | "fatal" | "error" => LogLevel::Error,
        "warn" | "warning" => LogLevel::Warn,
        "info" | "" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => return Err(format!("invalid logging level: {text}")),
    };
    Ok(if values.flag("debug") && level != LogLevel::Trace { LogLevel::Debug } else { level })
}

pub fn log_format(values: &Values) -> Result<LogFormat, String> {
    match values.text("log-format").as_str() {
        "text" | "" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("invalid log format: {other}")),
    }
}

/// `DOCKER_MIN_API_VERSION`.
pub fn min_api_version(environment: &Environment) -> Result<Option<(u32, u32)>, String> {
    let Some(text) = &environment.docker_min_api_version else { return Ok(None) };
    let invalid = |why: String| format!("invalid DOCKER_MIN_API_VERSION: {why}");
    if text.is_empty() {
        return Err(invalid("value is empty".into()));
    }
    if text.starts_with(['v', 'V']) {
        return Err(invalid("API version must be provided without \"v\" prefix".into()));
    }
    let version = text
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)))
        .ok_or_else(|| invalid(format!("not a version: {text}")))?;
    let (min, max) = (gantry_api::MIN_VERSION, gantry_api::MAX_VERSION);
    if version < (min.0, min.1) {
        return Err(invalid(format!("minimum supported API version is {}.{}: {text}", min.0, min.1)));
    }
    if version > (max.0, max.1) {
        return Err(invalid(format!("maximum supported API version is {}.{}: {text}", max.0, max.1)));
    }
    Ok(Some(version))
}
