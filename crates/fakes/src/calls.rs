//! The record of calls, and the failures and panics that a test orders.

use std::{collections::VecDeque, time::Duration};

use gantry_domain::{Error, Result};
use parking_lot::Mutex;

/// What a call that was picked out does instead of its work.
enum Order {
    Fail(Error),
    Panic,
}

#[derive(Default)]
struct State {
    made: Vec<&'static str>,
    next: Vec<(&'static str, Order)>,
    always: Vec<(&'static str, Error)>,
    hung: Vec<&'static str>,
    slow: Vec<(&'static str, Duration)>,
    /// Calls still to pass before one fails.
    countdown: Option<usize>,
    failed: VecDeque<&'static str>,
}

/// Calls in the order in which they were made, by port and method: `runtime.create_task`.
#[derive(Default)]
pub struct Calls(Mutex<State>);

impl Calls {
    /// The next call of this name fails.
    pub fn fail_next(&self, call: &'static str, error: Error) {
        self.0.lock().next.push((call, Order::Fail(error)));
    }

    /// The next call of this name panics.
    pub fn panic_next(&self, call: &'static str) {
        self.0.lock().next.push((call, Order::Panic));
    }

    /// Every call of this name fails until `heal`.
    pub fn fail_always(&self, call: &'static str, error: Error) {
        self.0.lock().always.push((call, error));
    }

    /// Calls of this name never end, until `heal`; those that hung by then hang on.
    pub fn hang(&self, call: &'static str) {
        self.0.lock().hung.push(call);
    }

    /// Calls of this name take so long, until `heal`.
    pub fn slow(&self, call: &'static str, time: Duration) {
        self.0.lock().slow.push((call, time));
    }

    /// After `passed` more calls, of whatever name, the next one fails.
    pub fn fail_after(&self, passed: usize) {
        self.0.lock().countdown = Some(passed);
    }

    /// Nothing is ordered to fail any more.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        state.next.clear();
        state.always.clear();
        state.hung.clear();
        state.slow.clear();
        state.countdown = None;
    }

    /// The calls that failed by order, oldest first.
    pub fn failed(&self) -> Vec<&'static str> {
        self.0.lock().failed.iter().copied().collect()
    }

    /// Every call since the last `forget`.
    pub fn made(&self) -> Vec<&'static str> {
        self.0.lock().made.clone()
    }

    pub fn count(&self, call: &str) -> usize {
        self.0.lock().made.iter().filter(|made| **made == call).count()
    }

    pub fn forget(&self) {
        let mut state = self.0.lock();
        state.made.clear();
        state.failed.clear();
    }

    /// One call that may be ordered to hang.
    pub(crate) async fn pass_in_time(&self, call: &'static str) -> Result<()> {
        self.pass(call)?;
        if self.0.lock().hung.contains(&call) {
            return std::future::pending().await;
        }
        let time = self.0.lock().slow.iter().find(|(name, _)| *name == call).map(|(_, time)| *time);
        if let Some(time) = time {
            tokio::time::sleep(time).await;
        }
        Ok(())
    }

    /// One call: recorded, then let through or not.
    pub(crate) fn pass(&self, call: &'static str) -> Result<()> {
        let mut state = self.0.lock();
        state.made.push(call);
        if let Some(at) = state.next.iter().position(|(name, _)| *name == call) {
            let (_, order) = state.next.remove(at);
            state.failed.push_back(call);
            drop(state);
            match order {
                Order::Fail(error) => return Err(error),
                Order::Panic => panic!("{call} was ordered to panic"),
            }
        }
        let always = state.always.iter().find(|(name, _)| *name == call).map(|(_, error)| error.clone());
        if let Some(error) = always {
            state.failed.push_back(call);
            return Err(error);
        }
        match state.countdown {
            Some(0) => {
                state.countdown = None;
                state.failed.push_back(call);
                Err(Error::system(format!("ordered failure of {call}")))
            }
            Some(left) => {
                state.countdown = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }
}
