//! Word to the service manager: ready, reloading, stopping. Without one this does nothing.

use sd_notify::NotifyState;

pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// The manager waits for `ready` after this.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the clock for the service manager"),
    }
}

pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "word to the service manager");
    }
}
