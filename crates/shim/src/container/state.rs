//! What a container's state allows, and the words for what it does not; they are the Go shim's.

use crate::proto::task::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Created,
    /// The runtime is starting it: its exit is told after its start.
    Starting,
    Running,
    Pausing,
    Paused,
    Stopped,
}

type Rule = Result<(), &'static str>;

impl State {
    pub(super) fn status(self) -> Status {
        match self {
            Self::Created | Self::Starting => Status::Created,
            Self::Running => Status::Running,
            Self::Pausing => Status::Pausing,
            Self::Paused => Status::Paused,
            Self::Stopped => Status::Stopped,
        }
    }

    pub(super) fn is_frozen(self) -> bool {
        matches!(self, Self::Pausing | Self::Paused)
    }

    pub(super) fn may_start(self) -> Rule {
        match self {
            Self::Created => Ok(()),
            Self::Starting | Self::Running => Err("cannot start a running process"),
            Self::Pausing | Self::Paused => Err("cannot start a paused process"),
            Self::Stopped => Err("cannot start a stopped process"),
        }
    }

    pub(super) fn may_delete(self) -> Rule {
        match self {
            Self::Created | Self::Stopped => Ok(()),
            Self::Starting | Self::Running => Err("cannot delete a running process"),
            Self::Pausing | Self::Paused => Err("cannot delete a paused process"),
        }
    }

    pub(super) fn may_pause(self) -> Rule {
        match self {
            Self::Running => Ok(()),
            Self::Created | Self::Starting => Err("cannot pause task in created state"),
            Self::Pausing | Self::Paused => Err("cannot pause a paused container"),
            Self::Stopped => Err("cannot pause a stopped container"),
        }
    }

    pub(super) fn may_resume(self) -> Rule {
        match self {
            Self::Paused => Ok(()),
            Self::Created | Self::Starting => Err("cannot resume task in created state"),
            Self::Running | Self::Pausing => Err("cannot resume a running process"),
            Self::Stopped => Err("cannot resume a stopped container"),
        }
    }

    pub(super) fn may_exec(self) -> Rule {
        match self {
            Self::Created | Self::Starting | Self::Running => Ok(()),
            Self::Pausing | Self::Paused => Err("cannot exec in a paused state"),
            Self::Stopped => Err("cannot exec in a stopped state"),
        }
    }

    pub(super) fn may_update(self) -> Rule {
        match self {
            Self::Stopped => Err("cannot update a stopped container"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [State; 6] =
        [State::Created, State::Starting, State::Running, State::Pausing, State::Paused, State::Stopped];

    #[test]
    fn each_step_is_allowed_where_it_makes_sense_and_nowhere_else() {
        let allowed =
            |rule: fn(State) -> Rule| ALL.into_iter().filter(|state| rule(*state).is_ok()).collect::<Vec<_>>();
        assert_eq!(allowed(State::may_start), [State::Created]);
        assert_eq!(allowed(State::may_delete), [State::Created, State::Stopped]);
        assert_eq!(allowed(State::may_pause), [State::Running]);
        assert_eq!(allowed(State::may_resume), [State::Paused]);
        assert_eq!(allowed(State::may_exec), [State::Created, State::Starting, State::Running]);
        assert!(!allowed(State::may_update).contains(&State::Stopped));
    }
}
