//! `HEALTHCHECK [--interval=30s …] CMD …` and `HEALTHCHECK NONE`.

use crate::{Error, Result, container::HealthConfig};

pub fn parse(text: &str) -> Result<HealthConfig> {
    let mut health = HealthConfig::default();
    let mut rest = text.trim();
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        set(&mut health, flag)?;
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    health.test = Some(match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => vec!["NONE".into()],
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" if command.trim().is_empty() => {
            return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
        }
        "CMD" => match super::exec_form(command.trim()) {
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec!["CMD-SHELL".into(), command.trim().into()],
        },
        _ => return Err(Error::invalid(format!("Unknown type \"{kind}\" in HEALTHCHECK (try CMD)"))),
    });
    Ok(health)
}

fn set(health: &mut HealthConfig, flag: &str) -> Result<()> {
    let (name, value) =
        flag.split_once('=').ok_or_else(|| Error::invalid(format!("Missing a value on flag: {flag}")))?;
    let slot = match name {
        "interval" => &mut health.interval,
        "timeout" => &mut health.timeout,
        "start-period" => &mut health.start_period,
        "start-interval" => &mut health.start_interval,
        "retries" => {
            health.retries = value
                .parse()
                .ok()
                .filter(|retries| *retries >= 0)
                .ok_or_else(|| Error::invalid(format!("--retries cannot be negative or no number ({value})")))?;
            return Ok(());
        }
        _ => return Err(Error::invalid(format!("Unknown flag: {name}"))),
    };
    *slot = duration(value).ok_or_else(|| Error::invalid(format!("time: invalid duration \"{value}\"")))?;
    if *slot > 0 && *slot < 1_000_000 {
        return Err(Error::invalid(format!("Interval \"{name}\" cannot be less than 1ms")));
    }
    Ok(())
}

/// Go's durations: `1h30m`, `1.5s`, `250ms`; nanoseconds.
fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total) = (text, 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[digits..unit_end])?;
        total += number * unit.1;
        rest = &rest[unit_end..];
    }
    Some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_their_flags() {
        let health = parse("--interval=1m30s --retries=2 CMD curl -f http://x").expect("valid");
        assert_eq!((health.interval, health.retries), (90_000_000_000, 2));
        assert_eq!(health.test.expect("set"), ["CMD-SHELL", "curl -f http://x"]);
        assert_eq!(parse("cmd [\"a\", \"b\"]").expect("valid").test.expect("set"), ["CMD", "a", "b"]);
        assert_eq!(parse("none").expect("valid").test.expect("set"), ["NONE"]);
        for bad in ["", "CMD", "RUN x", "--interval=x CMD y", "--interval=1us CMD y", "--what=1 CMD y", "NONE x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
