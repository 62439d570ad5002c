//! Restart policies: whether a container that ended runs again, and when.

use std::time::Duration;

use super::host_config::RestartPolicy;
use crate::{Error, Result};

/// First wait; doubled each time up to `MAX_BACKOFF`, and back to it after a run of `RESET_AFTER`.
pub const MIN_BACKOFF: Duration = Duration::from_millis(100);
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);
pub const RESET_AFTER: Duration = Duration::from_secs(10);

/// Checks name and retry count in dockerd's words.
pub fn validate(policy: &RestartPolicy) -> Result<()> {
    let count = policy.maximum_retry_count;
    let why = match policy.name.as_str() {
        // Records of old clients carry any count with an empty name.
        "" => return Ok(()),
        "always" | "unless-stopped" | "no" if count < 0 => {
            "maximum retry count can only be used with 'on-failure' and cannot be negative".to_owned()
        }
        "always" | "unless-stopped" | "no" if count != 0 => {
            "maximum retry count can only be used with 'on-failure'".to_owned()
        }
        "on-failure" if count < 0 => "maximum retry count cannot be negative".to_owned(),
        "always" | "unless-stopped" | "no" | "on-failure" => return Ok(()),
        other => {
            format!("unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'")
        }
    };
    Err(Error::invalid(format!("invalid restart policy: {why}")))
}

/// After an exit: whether to run again. `manually_stopped` is a stop or kill that was asked for.
pub fn should_restart(policy: &RestartPolicy, exit_code: u32, manually_stopped: bool, restart_count: u32) -> bool {
    if manually_stopped {
        return false;
    }
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let most = policy.maximum_retry_count;
            exit_code != 0 && (most <= 0 || i64::from(restart_count) < most)
        }
        _ => false,
    }
}

/// When the engine comes up: whether a container that is not running is to be started. `exit_code` is `None` when it
/// never ended; `was_running` when it was meant to run as the engine last knew.
pub fn should_start_at_boot(
    policy: &RestartPolicy,
    exit_code: Option<u32>,
    was_running: bool,
    manually_stopped: bool,
) -> bool {
    if exit_code.is_none() && !was_running {
        return false; // never started: a policy does not start what nobody has
    }
    match policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !manually_stopped,
        "on-failure" => was_running && !manually_stopped && exit_code != Some(0),
        _ => false,
    }
}

/// The wait before the next run, from the wait before the last one and how long that run lived.
pub fn next_backoff(last: Option<Duration>, ran_for: Duration) -> Duration {
    match last {
        Some(last) if ran_for < RESET_AFTER && !last.is_zero() => (last * 2).min(MAX_BACKOFF),
        _ => MIN_BACKOFF,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn policy(name: &str, count: i64) -> RestartPolicy {
        RestartPolicy { name: name.into(), maximum_retry_count: count }
    }

    #[test]
    fn bad_policies_are_refused_in_dockers_words() {
        for (name, count, text) in [
            ("always", 1, "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
            (
                "no",
                -1,
                "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative",
            ),
            ("on-failure", -1, "invalid restart policy: maximum retry count cannot be negative"),
            (
                "often",
                0,
                "invalid restart policy: unknown policy 'often'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            ),
        ] {
            assert_eq!(validate(&policy(name, count)).unwrap_err().message(), text);
        }
        for (name, count) in [("", 7), ("no", 0), ("always", 0), ("unless-stopped", 0), ("on-failure", 3)] {
            validate(&policy(name, count)).unwrap();
        }
    }

    #[test]
    fn on_failure_counts_its_tries() {
        let three = policy("on-failure", 3);
        assert!(should_restart(&three, 1, false, 2));
        assert!(!should_restart(&three, 1, false, 3));
        assert!(!should_restart(&three, 0, false, 0));
        assert!(should_restart(&policy("on-failure", 0), 1, false, 1000));
    }

    #[test]
    fn what_was_stopped_by_hand_stays_down() {
        for name in ["always", "unless-stopped", "on-failure"] {
            assert!(!should_restart(&policy(name, 0), 1, true, 0));
        }
    }

    #[test]
    fn at_boot_always_overrides_a_stop_by_hand() {
        assert!(should_start_at_boot(&policy("always", 0), Some(0), false, true));
        assert!(!should_start_at_boot(&policy("unless-stopped", 0), Some(0), false, true));
        assert!(should_start_at_boot(&policy("unless-stopped", 0), None, true, false));
        assert!(!should_start_at_boot(&policy("always", 0), None, false, false), "never started");
        assert!(!should_start_at_boot(&policy("", 0), Some(1), true, false));
    }

    #[test]
    fn the_wait_doubles_to_a_minute_and_starts_over_after_a_long_run() {
        let (mut wait, mut waits) = (None, Vec::new());
        for _ in 0..11 {
            wait = Some(next_backoff(wait, Duration::from_secs(1)));
            waits.extend(wait);
        }
        assert_eq!(waits[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(waits[10], MAX_BACKOFF);
        assert_eq!(next_backoff(wait, RESET_AFTER), MIN_BACKOFF);
    }
}
