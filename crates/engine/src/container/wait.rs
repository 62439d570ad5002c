//! `POST /containers/{id}/wait`: registered at once, answered at an exit.

use super::{ContainerWait, WaitCondition, WaitResult, owner::Progress};
use crate::Engine;
use gantry_domain::Result;

impl Engine {
    /// Registers the waiter and returns it; the caller sends its headers before it awaits.
    pub async fn container_wait(&self, name: &str, condition: WaitCondition) -> Result<ContainerWait> {
        let handle = self.parts.container(name)?;
        let mut progress = handle.progress();
        let at_first = progress.borrow_and_update().clone();
        Ok(Box::pin(async move {
            let seen = progress.wait_for(|now| is_met(condition, &at_first, now)).await;
            // The sender lives in the handle that this future holds: it cannot be gone.
            let seen = seen.map(|now| now.clone()).unwrap_or(at_first);
            drop(handle);
            // A removal that went well is no error, whatever came before it: the client prints what stands here.
            WaitResult { status_code: i64::from(seen.code), error: seen.error.filter(|_| !seen.removed) }
        }))
    }
}

fn is_met(condition: WaitCondition, at_first: &Progress, now: &Progress) -> bool {
    match condition {
        WaitCondition::NotRunning => !now.running || now.exits > at_first.exits || now.removed,
        WaitCondition::NextExit => now.exits > at_first.exits || now.removed,
        WaitCondition::Removed => now.removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_the_next_exit_is_not_met_by_the_last_one() {
        let first = Progress { exits: 1, ..Progress::default() };
        assert!(!is_met(WaitCondition::NextExit, &first, &first));
        assert!(is_met(WaitCondition::NextExit, &first, &Progress { exits: 2, ..Progress::default() }));
    }

    #[test]
    fn a_wait_on_a_stopped_container_is_met_at_once() {
        assert!(is_met(WaitCondition::NotRunning, &Progress::default(), &Progress::default()));
    }

    #[test]
    fn an_exit_of_a_restarting_container_wakes_the_waiter() {
        let first = Progress { running: true, ..Progress::default() };
        assert!(is_met(
            WaitCondition::NotRunning,
            &first,
            &Progress { running: true, exits: 1, ..Progress::default() }
        ));
    }
}
