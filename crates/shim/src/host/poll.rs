//! epoll, and what its tokens stand for.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
};

/// Where news come from. The number tells one of several apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Before the children: a kill for want of memory is told before the exit that it causes.
    Memory,
    Listener,
    Connection(u32),
    Publisher,
    Master(u32),
    Output(u32),
    Input(u32),
    Gate,
    /// Last of a round: what a process wrote is read before its exit is looked at.
    Children,
}

impl Source {
    fn token(self) -> u64 {
        let (kind, number) = match self {
            Self::Memory => (0, 0),
            Self::Listener => (1, 0),
            Self::Connection(number) => (2, number),
            Self::Publisher => (3, 0),
            Self::Master(number) => (4, number),
            Self::Output(number) => (5, number),
            Self::Input(number) => (6, number),
            Self::Gate => (7, 0),
            Self::Children => (8, 0),
        };
        kind << 32 | u64::from(number)
    }

    fn of(token: u64) -> Self {
        let number = (token & u64::from(u32::MAX)) as u32;
        match token >> 32 {
            0 => Self::Memory,
            1 => Self::Listener,
            2 => Self::Connection(number),
            3 => Self::Publisher,
            4 => Self::Master(number),
            5 => Self::Output(number),
            6 => Self::Input(number),
            7 => Self::Gate,
            _ => Self::Children,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
}

/// What is listened for; `None` where epoll does not know the descriptor, for it tells of a hang-up unasked.
pub(crate) type Interest = Option<EventFlags>;

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Brings epoll from `known` to `wanted`.
    pub(crate) fn set(&self, fd: impl AsFd, source: Source, known: &mut Interest, wanted: Interest) -> io::Result<()> {
        if *known == wanted {
            return Ok(());
        }
        let data = EventData::new_u64(source.token());
        match (*known, wanted) {
            (None, Some(flags)) => epoll::add(&self.epoll, fd, data, flags)?,
            (Some(_), Some(flags)) => epoll::modify(&self.epoll, fd, data, flags)?,
            (Some(_), None) => epoll::delete(&self.epoll, fd)?,
            (None, None) => {}
        }
        *known = wanted;
        Ok(())
    }

    /// Listens for something to read, for as long as the descriptor is open.
    pub(crate) fn add(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        self.set(fd, source, &mut None, Some(EventFlags::IN))
    }

    /// One round of news, in the order of `Source`.
    pub(crate) fn wait(&self, patience: Option<Duration>) -> io::Result<Vec<(Source, EventFlags)>> {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
        // Rounded up, or a timer that is nearly due would be waited for in a tight loop.
        let timeout = patience.map(|patience| patience + Duration::from_millis(1));
        let timeout = timeout.and_then(|patience| Timespec::try_from(patience).ok());
        let count = match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Err(Errno::INTR) => 0,
            result => result?,
        };
        let mut news: Vec<_> =
            events[..count].iter().map(|event| (Source::of(event.data.u64()), event.flags)).collect();
        news.sort_by_key(|(source, _)| *source);
        Ok(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_source() {
        let sources = [Source::Memory, Source::Connection(7), Source::Input(u32::MAX), Source::Children];
        assert!(sources.into_iter().all(|source| Source::of(source.token()) == source));
        assert!(Source::Memory < Source::Children && Source::Output(3) < Source::Children);
    }
}
