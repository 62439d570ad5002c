//! The health of a container: Docker's `State.Health`, and the rules by which it moves.
//!
//! ```text
//! starting ──── success ────► healthy ──┐
//!     │ ▲ start                  ▲      │ as many failures in a row as `Retries`
//!     │ └──────────┐   success ──┤      │ (those of the start period do not count)
//!     └── failures │             │      ▼
//!         or end ──┼───────────► unhealthy
//! ```

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, HealthConfig};
use crate::GoTime;

/// How many probe results are kept.
pub const LOG_LENGTH: usize = 5;
/// Bytes of a probe's output that are kept.
pub const MAX_OUTPUT: usize = 4096;
/// The exit code of a probe that did not run to its end.
pub const NO_EXIT: i64 = -1;

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;

pub const STARTING: &str = "starting";
pub const HEALTHY: &str = "healthy";
pub const UNHEALTHY: &str = "unhealthy";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    pub failing_streak: i64,
    pub log: Vec<HealthcheckResult>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthcheckResult {
    pub start: GoTime,
    pub end: GoTime,
    pub exit_code: i64,
    pub output: String,
}

impl Config {
    /// The program that tells the container's health; `None` where there is none, `NONE`, or of no known kind.
    pub fn probe(&self) -> Option<Vec<String>> {
        let (kind, words) = self.healthcheck.as_ref()?.test.as_deref()?.split_first()?;
        match kind.as_str() {
            "CMD" => Some(words.to_vec()),
            "CMD-SHELL" => {
                let own = self.shell.clone().filter(|shell| !shell.is_empty());
                let mut command = own.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
                command.extend_from_slice(words);
                Some(command)
            }
            _ => None,
        }
    }
}

impl HealthConfig {
    pub fn probe_timeout(&self) -> Duration {
        time_or(self.timeout, TIMEOUT)
    }

    /// From the end of one probe, or the start of the run, to the next. More often while the container starts.
    pub fn wait(&self, status: &str, started: Timestamp, now: Timestamp) -> Duration {
        if status == STARTING && self.in_start_period(started, now) {
            return time_or(self.start_interval, START_INTERVAL);
        }
        time_or(self.interval, INTERVAL)
    }

    fn in_start_period(&self, started: Timestamp, now: Timestamp) -> bool {
        let age = Duration::try_from(now.duration_since(started)).unwrap_or_default();
        age < time_or(self.start_period, Duration::ZERO)
    }

    fn tries(&self) -> i64 {
        if self.retries > 0 { self.retries } else { RETRIES }
    }
}

impl Health {
    /// A run begins; the log of the run before stays.
    pub fn begin(&mut self) {
        STARTING.clone_into(&mut self.status);
        self.failing_streak = 0;
    }

    /// Nobody probes any more: the container is paused or has ended. dockerd says `unhealthy`, without an event.
    pub fn rest(&mut self) {
        UNHEALTHY.clone_into(&mut self.status);
    }

    /// Takes a probe's result in. Returns whether the status has changed.
    pub fn note(&mut self, result: HealthcheckResult, config: &HealthConfig, started: Timestamp) -> bool {
        let before = self.status.clone();
        if result.exit_code == 0 {
            self.failing_streak = 0;
            HEALTHY.clone_into(&mut self.status);
        } else if before != STARTING || !config.in_start_period(started, result.start.0.unwrap_or_default()) {
            self.failing_streak += 1;
            if self.failing_streak >= config.tries() {
                UNHEALTHY.clone_into(&mut self.status);
            }
        }
        self.log.push(result);
        let surplus = self.log.len().saturating_sub(LOG_LENGTH);
        self.log.drain(..surplus);
        self.status != before
    }
}

/// What a probe writes, as far as it is kept.
#[derive(Debug, Default)]
pub struct ProbeOutput {
    bytes: Vec<u8>,
    cut: bool,
}

impl ProbeOutput {
    pub fn push(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut |= bytes.len() > room;
    }

    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.cut {
            text.push_str("...");
        }
        text
    }
}

fn time_or(nanoseconds: i64, otherwise: Duration) -> Duration {
    match u64::try_from(nanoseconds) {
        Ok(0) | Err(_) => otherwise,
        Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i64, at: Timestamp) -> HealthcheckResult {
        HealthcheckResult { start: GoTime::from(at), end: GoTime::from(at), exit_code, output: String::new() }
    }

    fn config(test: &[&str]) -> Config {
        let test = Some(test.iter().map(|word| (*word).to_owned()).collect());
        Config { healthcheck: Some(HealthConfig { test, ..HealthConfig::default() }), ..Config::default() }
    }

    fn after(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_probe_is_a_command_or_a_line_for_the_shell() {
        assert_eq!(config(&["CMD", "a", "b"]).probe().unwrap_or_default(), ["a", "b"]);
        assert_eq!(config(&["CMD-SHELL", "a b"]).probe().unwrap_or_default(), ["/bin/sh", "-c", "a b"]);
        let own = Config { shell: Some(vec!["/bin/ash".into(), "-ec".into()]), ..config(&["CMD-SHELL", "a"]) };
        assert_eq!(own.probe().unwrap_or_default(), ["/bin/ash", "-ec", "a"]);
        for none in [config(&["NONE"]), config(&[]), config(&["WHAT", "a"]), Config::default()] {
            assert_eq!(none.probe(), None);
        }
    }

    #[test]
    fn three_failures_in_a_row_are_unhealthy_and_one_success_is_healthy() {
        let (mut health, config) = (Health::default(), HealthConfig::default());
        health.begin();
        assert!(!health.note(result(1, after(1)), &config, after(0)));
        assert!(!health.note(result(1, after(2)), &config, after(0)));
        assert!(health.note(result(NO_EXIT, after(3)), &config, after(0)));
        assert_eq!((health.status.as_str(), health.failing_streak), (UNHEALTHY, 3));
        assert!(health.note(result(0, after(4)), &config, after(0)));
        assert_eq!((health.status.as_str(), health.failing_streak), (HEALTHY, 0));
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_until_the_first_success() {
        let config = HealthConfig { start_period: 10_000_000_000, retries: 1, ..HealthConfig::default() };
        let mut health = Health::default();
        health.begin();
        assert!(!health.note(result(1, after(9)), &config, after(0)));
        assert_eq!((health.status.as_str(), health.failing_streak), (STARTING, 0));
        health.note(result(0, after(9)), &config, after(0));
        assert!(health.note(result(1, after(9)), &config, after(0)));
        assert_eq!(health.status, UNHEALTHY);
    }

    #[test]
    fn probes_come_more_often_while_the_container_starts() {
        let config = HealthConfig {
            start_period: 10_000_000_000,
            start_interval: 1_000_000_000,
            interval: 7_000_000_000,
            ..HealthConfig::default()
        };
        assert_eq!(config.wait(STARTING, after(0), after(9)).as_secs(), 1);
        assert_eq!(config.wait(STARTING, after(0), after(10)).as_secs(), 7);
        assert_eq!(config.wait(HEALTHY, after(0), after(1)).as_secs(), 7);
        assert_eq!(HealthConfig::default().wait(STARTING, after(0), after(1)), INTERVAL);
    }

    #[test]
    fn the_last_five_results_are_kept() {
        let mut health = Health::default();
        for second in 0..9 {
            health.note(result(0, after(second)), &HealthConfig::default(), after(0));
        }
        assert_eq!(health.log.len(), LOG_LENGTH);
        assert_eq!(health.log[0].start, GoTime::from(after(4)));
    }

    #[test]
    fn output_is_cut_at_4096_bytes_and_says_so() {
        let mut output = ProbeOutput::default();
        output.push(&[b'x'; 4096]);
        assert_eq!(output.text().len(), 4096);
        output.push(b"y");
        assert_eq!(output.text().len(), 4099);
        assert!(output.text().ends_with("x..."));
    }
}
