//! Log drivers and their options, as far as they can be checked without the driver.

use super::{super::host_config::LogConfig, log_remote};
use crate::{
    Error, Result,
    text::{parse_bool, ram_in_bytes},
};

const DRIVERS: [&str; 10] =
    ["none", "json-file", "local", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "gcplogs"];
/// Options that belong to the way of delivery, whatever the driver.
const DELIVERY: [&str; 6] =
    ["mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];
const JSON_FILE: [&str; 8] = ["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
const LOCAL: [&str; 3] = ["max-file", "max-size", "compress"];

/// The engine's driver where none is named, and its options where the driver is the same.
pub(super) fn default(log: &mut LogConfig, engine: &LogConfig) {
    if log.driver.is_empty() {
        log.driver.clone_from(&engine.driver);
    }
    let options = log.config.get_or_insert_default();
    if log.driver == engine.driver {
        for (key, value) in engine.config.iter().flatten() {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Also for the engine's own defaults.
pub fn validate(log: &LogConfig) -> Result<()> {
    let driver = log.driver.as_str();
    if driver == "none" {
        return Ok(());
    }
    if !DRIVERS.contains(&driver) {
        return Err(Error::invalid(format!("error looking up logging plugin {driver}: plugin \"{driver}\" not found")));
    }
    let get = |key: &str| log.config.as_ref().and_then(|options| options.get(key)).map(String::as_str);
    let mode = get("mode").unwrap_or_default();
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!("logger: logging mode not supported: {mode}")));
    }
    if let Some(size) = get("max-buffer-size") {
        if mode != "non-blocking" {
            let text = "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
            return Err(Error::invalid(text));
        }
        ram_in_bytes(size).map_err(|error| error.context("error parsing option max-buffer-size"))?;
    }
    let known: &[&str] = match driver {
        "json-file" => &JSON_FILE,
        "local" => &LOCAL,
        remote => {
            log_remote::validate(remote, &log.config.clone().unwrap_or_default(), &DELIVERY)?;
            switch(get, "cache-disabled")?;
            // Its log is kept here as `local` keeps it.
            return file_options(get, "cache-");
        }
    };
    for key in log.config.iter().flatten().map(|(key, _)| key.as_str()) {
        if !known.contains(&key) && !DELIVERY.contains(&key) {
            return Err(Error::invalid(format!("unknown log opt '{key}' for {driver} log driver")));
        }
    }
    switch(get, "cache-disabled")?;
    file_options(get, "")
}

/// `prefix` stands before the names of the options.
fn file_options<'a>(get: impl Fn(&str) -> Option<&'a str>, prefix: &str) -> Result<()> {
    let get = |key: &str| get(&format!("{prefix}{key}"));
    if let Some(size) = get("max-size").filter(|size| *size != "-1") {
        ram_in_bytes(size).map_err(|error| error.context("invalid value for max-size"))?;
    }
    if let Some(files) = get("max-file") {
        let number: i64 = files.parse().map_err(|_| Error::invalid(format!("invalid value for max-file: {files}")))?;
        if number < 1 {
            return Err(Error::invalid("max-file cannot be less than 1"));
        }
    }
    switch(get, "compress")
}

fn switch<'a>(get: impl Fn(&str) -> Option<&'a str>, key: &str) -> Result<()> {
    match get(key).filter(|text| parse_bool(text).is_none()) {
        Some(text) => Err(Error::invalid(format!("invalid value for {key}: {text}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(driver: &str, key: &str, value: &str) -> bool {
        let config = Some([(key.to_owned(), value.to_owned())].into());
        validate(&LogConfig { driver: driver.into(), config }).is_ok()
    }

    #[test]
    fn a_switch_is_what_go_takes_for_one() {
        for (value, fine) in [("1", true), ("true", true), ("T", true), ("0", true), ("yes", false), ("", false)] {
            assert_eq!(checked("json-file", "compress", value), fine, "{value}");
            assert_eq!(checked("local", "compress", value), fine, "{value}");
            assert_eq!(checked("syslog", "cache-compress", value), fine, "{value}");
            assert_eq!(checked("syslog", "cache-disabled", value), fine, "{value}");
        }
    }

    #[test]
    fn the_cache_of_a_remote_driver_is_checked_as_a_file_is() {
        for (key, value, fine) in [
            ("cache-max-size", "abc", false),
            ("cache-max-size", "1m", true),
            ("cache-max-file", "0", false),
            ("cache-max-file", "3", true),
        ] {
            assert_eq!(checked("journald", key, value), fine, "{key}={value}");
        }
    }
}
