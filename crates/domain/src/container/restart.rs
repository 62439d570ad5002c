//! Restart policies: whether a container that ended runs again, and when.

use std::time::Duration;

use super::host_config::RestartPolicy;
use crate::Result;

/// First wait; doubled each time up to `MAX_BACKOFF`, and back to it after a run of `RESET_AFTER`.
pub const MIN_BACKOFF: Duration = Duration::from_millis(100);
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);
pub const RESET_AFTER: Duration = Duration::from_secs(10);

/// Checks name and retry count in dockerd's words.
pub fn validate(_policy: &RestartPolicy) -> Result<()> {
    todo!()
}

/// After an exit: whether to run again. `manually_stopped` is a stop or kill that was asked for.
pub fn should_restart(_policy: &RestartPolicy, _exit_code: u32, _manually_stopped: bool, _restart_count: u32) -> bool {
    todo!()
}

/// When the engine comes up: whether a container that is not running is to be started.
pub fn should_start_at_boot(
    _policy: &RestartPolicy,
    _exit_code: Option<u32>,
    _was_running: bool,
    _manually_stopped: bool,
) -> bool {
    todo!()
}

/// The wait before the next run, from the wait before the last one and how long that run lived.
pub fn next_backoff(_last: Option<Duration>, _ran_for: Duration) -> Duration {
    todo!()
}
