//! When a registry that is busy, or broken for the moment, is asked once more.

use std::time::Duration;

use http::{StatusCode, header};
use jiff::{Timestamp, fmt::rfc2822};

use crate::{client::Answer, config::RegistryConfig};

/// Waits of one request, all in all. A registry that wants us away for longer says no.
const MAX_WAITS: Duration = Duration::from_secs(60);
/// Whoever waits sees no progress meanwhile.
const MAX_TRIES: u32 = 4;

/// Which refusals a request is repeated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Another place can be asked, or it does not matter.
    Never,
    /// Too many requests. Who asks repeats what else fails, and tells the client.
    Busy,
    /// The registry's own faults too.
    Broken,
}

/// The tries of one request.
pub(crate) struct Tries {
    again: Again,
    left: u32,
    next: Duration,
    budget: Duration,
}

impl Tries {
    pub fn new(again: Again, config: &RegistryConfig) -> Self {
        let left = config.attempts.clamp(1, MAX_TRIES) - 1;
        Self { again, left, next: config.pause, budget: MAX_WAITS }
    }

    /// Waits, or gives an answer back that is to be taken as it is.
    pub async fn outlasted(&mut self, answer: Answer) -> Option<Answer> {
        let told = answer.header(header::RETRY_AFTER).and_then(|told| retry_after(told, Timestamp::now()));
        let wait = if self.again.is_for(answer.status) { self.wait(told.unwrap_or_default()) } else { None };
        let Some(wait) = wait else { return Some(answer) };
        tracing::info!(status = answer.status.as_u16(), ?wait, "a registry is asked again");
        // Its connection is free again when the little there is has been read.
        let _ = answer.body.whole(1 << 16).await;
        tokio::time::sleep(wait).await;
        None
    }

    /// Waits after a failure; whether there is another try.
    pub async fn outlasted_failure(&mut self) -> bool {
        let Some(wait) = self.wait(Duration::ZERO).filter(|_| self.again == Again::Broken) else { return false };
        tokio::time::sleep(wait).await;
        true
    }

    /// How long to wait before the request is sent again.
    fn wait(&mut self, least: Duration) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let wait = self.next.max(least);
        self.budget = self.budget.checked_sub(wait)?;
        self.next *= 2;
        Some(wait)
    }
}

impl Again {
    fn is_for(self, status: StatusCode) -> bool {
        match self {
            Self::Never => false,
            Self::Busy => status == StatusCode::TOO_MANY_REQUESTS,
            Self::Broken => {
                let passing = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
                passing.contains(&status) || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
            }
        }
    }
}

/// Seconds, or a date of HTTP.
fn retry_after(told: &str, now: Timestamp) -> Option<Duration> {
    let told = told.trim();
    if let Ok(seconds) = told.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = rfc2822::parse(told).ok()?.timestamp();
    Duration::try_from(then.duration_since(now)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Fri, 02 Jan 2026 03:04:15 GMT", now), Some(Duration::from_secs(10)));
        for none in ["", "soon", "-1", "1.5", "Fri, 02 Jan 2026 03:04:00 GMT"] {
            assert_eq!(retry_after(none, now), None, "{none}");
        }
    }

    #[test]
    fn what_may_pass_is_asked_again() {
        for (status, busy, broken) in
            [(429, true, true), (408, false, true), (500, false, true), (503, false, true), (501, false, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!((Again::Busy.is_for(status), Again::Broken.is_for(status)), (busy, broken), "{status}");
            assert!(!Again::Never.is_for(status));
        }
        assert!(!Again::Broken.is_for(StatusCode::NOT_FOUND) && !Again::Broken.is_for(StatusCode::OK));
    }
}
