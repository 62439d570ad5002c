//! Durations and sizes in the words that the docker CLI prints.

use jiff::Timestamp;

use crate::{
    Error, Result,
    container::{ContainerRecord, Status},
};

/// go-units `HumanDuration`: `5 minutes`, `About an hour`, `Less than a second`.
pub fn human_duration(seconds: f64) -> String {
    let (whole, minutes) = (seconds as i64, (seconds / 60.0) as i64);
    let hours = (seconds / 3600.0 + 0.5) as i64;
    match (whole, minutes, hours) {
        (..1, _, _) => "Less than a second".into(),
        (1, _, _) => "1 second".into(),
        (..60, _, _) => format!("{whole} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", (seconds / 3600.0) as i64 / 24 / 365),
    }
}

/// `Up 5 minutes (healthy)`, `Exited (0) 3 days ago`, `Created`, …
pub fn status(record: &ContainerRecord, status: Status, health: Option<&str>, now: Timestamp) -> String {
    let run = record.run.as_ref();
    let exit = run.and_then(|run| run.exit);
    let since = |at: Timestamp| human_duration(now.duration_since(at).as_secs_f64());
    let up = || since(run.and_then(|run| run.started.0).unwrap_or(now));
    let ended = |word: &str| match exit {
        Some(exit) => {
            let at = run.and_then(|run| run.times().finished.0).unwrap_or(exit.at);
            format!("{word} ({}) {} ago", exit.code, since(at))
        }
        None => String::new(),
    };
    match status {
        Status::Running => match health {
            Some("starting") => format!("Up {} (health: starting)", up()),
            Some(health @ ("healthy" | "unhealthy")) => format!("Up {} ({health})", up()),
            _ => format!("Up {}", up()),
        },
        Status::Paused => format!("Up {} (Paused)", up()),
        Status::Restarting => ended("Restarting"),
        Status::Removing => "Removal In Progress".into(),
        Status::Dead => "Dead".into(),
        Status::Created => "Created".into(),
        Status::Exited => ended("Exited"),
    }
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Bytes from `10m`, `1.5GiB`, `512` (go-units `RAMInBytes`, binary units).
pub fn ram_in_bytes(text: &str) -> crate::Result<i64> {
    let bad_size = || Error::invalid(format!("invalid size: '{text}'"));
    let split = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(bad_size)?;
    let (number, suffix) = text.split_at(split + 1);
    // One blank may stand between number and unit, no more.
    let number = number.strip_suffix(' ').unwrap_or(number);
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(bad_size());
    }
    let size: f64 = number.parse().map_err(|_| bad_size())?;
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        other => return Err(Error::invalid(format!("invalid suffix: '{other}'"))),
    };
    Ok((size * (1u64 << shift) as f64) as i64)
}

/// A duration as Go prints it: `1m30s`, `1.5s`, `250ms`.
pub fn go_duration(duration: std::time::Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, name) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
    let below_minute = if name == "s" { nanos % 60_000_000_000 } else { nanos };
    let number = fraction(below_minute, unit);
    match (hours, minutes) {
        (0, 0) => format!("{number}{name}"),
        (0, _) => format!("{minutes}m{number}s"),
        _ => format!("{hours}h{minutes}m{number}s"),
    }
}

/// `nanos / unit` with as many decimals as it takes.
fn fraction(nanos: u128, unit: u128) -> String {
    let (whole, rest) = (nanos / unit, nanos % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
}

/// Go's `strconv.Atoi`; `InvalidParameter` in its words.
pub fn go_int(text: &str) -> Result<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let why = if is_number { "value out of range" } else { "invalid syntax" };
    text.parse().map_err(|_| Error::invalid(format!("strconv.Atoi: parsing {text:?}: {why}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        GoTime,
        container::{Exit, Run},
    };

    #[test]
    fn integers_are_refused_in_gos_words() {
        assert_eq!((go_int("-7").unwrap(), go_int("+7").unwrap()), (-7, 7));
        for (text, why) in
            [("x", "invalid syntax"), ("", "invalid syntax"), ("99999999999999999999", "value out of range")]
        {
            assert_eq!(go_int(text).unwrap_err().message(), format!("strconv.Atoi: parsing {text:?}: {why}"));
        }
    }

    #[test]
    fn durations_in_go_units_words() {
        const DAY: f64 = 86400.0;
        for (seconds, words) in [
            (0.4, "Less than a second"),
            (1.9, "1 second"),
            (59.0, "59 seconds"),
            (61.0, "About a minute"),
            (3599.0, "59 minutes"),
            (3600.0, "About an hour"),
            (2.0 * 3600.0, "2 hours"),
            (47.0 * 3600.0, "47 hours"),
            (2.0 * DAY, "2 days"),
            (14.0 * DAY, "2 weeks"),
            (60.0 * DAY, "2 months"),
            (730.0 * DAY, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), words);
        }
    }

    #[test]
    fn each_state_reads_as_docker_prints_it() {
        let now = Timestamp::from_second(10_000).unwrap();
        let at = |ago: i64| Timestamp::from_second(10_000 - ago).unwrap();
        let run = Run {
            started: GoTime(Some(at(300))),
            exit: Some(Exit { code: 3, at: at(2), oom_killed: false }),
            ..Run::default()
        };
        let record = ContainerRecord { run: Some(run), ..ContainerRecord::default() };
        for (state, health, words) in [
            (Status::Running, None, "Up 5 minutes"),
            (Status::Running, Some("starting"), "Up 5 minutes (health: starting)"),
            (Status::Running, Some("healthy"), "Up 5 minutes (healthy)"),
            (Status::Paused, Some("healthy"), "Up 5 minutes (Paused)"),
            (Status::Restarting, None, "Restarting (3) 2 seconds ago"),
            (Status::Exited, None, "Exited (3) 2 seconds ago"),
            (Status::Removing, None, "Removal In Progress"),
            (Status::Dead, None, "Dead"),
            (Status::Created, None, "Created"),
        ] {
            assert_eq!(status(&record, state, health, now), words);
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in
            [("512", 512), ("10m", 10 << 20), ("1.5GiB", 3 << 29), ("2 kB", 2048), ("7b", 7), ("1T", 1 << 40)]
        {
            assert_eq!(ram_in_bytes(text).unwrap(), bytes, "{text}");
        }
        for (text, error) in [
            ("", "invalid size: ''"),
            ("-3m", "invalid size: '-3m'"),
            ("m", "invalid size: 'm'"),
            ("3mm", "invalid suffix: 'mm'"),
            ("3x", "invalid suffix: 'x'"),
        ] {
            assert_eq!(ram_in_bytes(text).unwrap_err().message(), error);
        }
    }

    #[test]
    fn durations_read_as_gos() {
        use std::time::Duration;
        for (nanos, words) in [
            (0, "0s"),
            (999, "999ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), words);
        }
    }
}
