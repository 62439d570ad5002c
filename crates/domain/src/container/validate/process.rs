//! Checks of `Config`: working directory, stop signal, environment, health check.

use super::super::{Config, HealthConfig};
use crate::{Error, Result, exec::ExecConfig, signal};

pub(super) fn validate(config: &mut Config) -> Result<()> {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return Err(Error::invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            )));
        }
        config.working_dir = super::mounts::clean(&config.working_dir);
    }
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal)?;
    }
    config.env.iter().flatten().try_for_each(|variable| check_env(variable))?;
    config.healthcheck.as_ref().map_or(Ok(()), check_health)
}

/// A NUL would end the variable for the program that starts.
fn check_env(variable: &str) -> Result<()> {
    if variable.is_empty() || variable.starts_with('=') || variable.contains('\0') {
        return Err(Error::invalid(format!("invalid environment variable: {variable}")));
    }
    Ok(())
}

/// The environment and the words of an exec, of which dockerd checks nothing: what no program can be given.
pub fn check_exec(exec: &ExecConfig) -> Result<()> {
    let words = exec.env.iter().chain(&exec.cmd).flatten();
    match words.into_iter().find(|word| word.contains('\0')) {
        Some(word) => Err(Error::invalid(format!("invalid argument or environment variable: {word:?}"))),
        None => Ok(()),
    }
}

fn check_health(health: &HealthConfig) -> Result<()> {
    const MILLISECOND: i64 = 1_000_000;
    let times = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    for (name, time) in times {
        if time != 0 && time < MILLISECOND {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}
