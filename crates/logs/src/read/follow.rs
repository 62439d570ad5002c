//! Waiting at the end of a log: for more of it, for its rotation or truncation, for the signal to stop.

use std::{
    collections::VecDeque,
    fs, io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
    pipe::{PipeFlags, pipe_with},
};

use super::chain::{self, Source};
use crate::time;

/// Stops a reading that follows, when told or dropped.
#[derive(Debug)]
pub struct Stop(#[expect(dead_code, reason = "closing it is the signal")] OwnedFd);

/// What a reading that follows listens to.
#[derive(Debug)]
pub struct StopSignal(OwnedFd);

impl Stop {
    /// The reading goes on to the end of what is there.
    pub fn stop(self) {}
}

/// The two ends of a signal to stop.
pub fn stop_pair() -> io::Result<(Stop, StopSignal)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Stop(write), StopSignal(read)))
}

/// What to do at the end of the newest file known.
pub(super) enum Next {
    /// Read on.
    Again,
    /// Read on from the file's start.
    Truncated,
    /// Rotated: these come next.
    Files(VecDeque<Source>),
    Done,
}

/// What says that the folder has changed.
#[derive(Debug)]
enum News {
    Inotify(OwnedFd),
    /// An event counter, which somebody else raises who watches many folders by one inotify.
    Counter(OwnedFd),
}

impl News {
    fn fd(&self) -> &OwnedFd {
        match self {
            Self::Inotify(fd) | Self::Counter(fd) => fd,
        }
    }

    /// Forgets them: that there was some is all that matters. The folder's other files make some too.
    fn drain(&self) {
        match self {
            Self::Inotify(inotify) => {
                let mut space = [MaybeUninit::uninit(); 4096];
                let mut reader = inotify::Reader::new(inotify, &mut space);
                while reader.next().is_ok() {}
            }
            Self::Counter(counter) => drop(rustix::io::read(counter, &mut [0; 8])),
        }
    }
}

#[derive(Debug)]
pub(super) struct Follow {
    path: PathBuf,
    stop: StopSignal,
    news: News,
    /// Time of the last entry read.
    pub(super) last_time: i64,
    /// The file has another name by now; what it holds is final, and may have been written since the last read.
    rotated: bool,
    stopped: bool,
}

impl Follow {
    /// Watches the log's folder: a new file is seen as well as a longer one.
    pub(super) fn watching(path: &Path, stop: StopSignal) -> io::Result<Self> {
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, folder, flags)?;
        Ok(Self::new(path, stop, News::Inotify(inotify)))
    }

    /// Looks again whenever the event counter is raised.
    pub(super) fn told(path: &Path, stop: StopSignal, counter: OwnedFd) -> Self {
        Self::new(path, stop, News::Counter(counter))
    }

    fn new(path: &Path, stop: StopSignal, news: News) -> Self {
        Self { path: path.to_owned(), stop, news, last_time: i64::MIN, rotated: false, stopped: false }
    }

    pub(super) fn at_end(&mut self, source: Option<&mut Source>, until: Option<i64>) -> io::Result<Next> {
        let inode = source.as_ref().map(|source| source.inode()).transpose()?;
        if self.rotated || source.is_none() {
            let files = chain::newer_than(&self.path, inode, self.last_time)?;
            if !files.is_empty() {
                self.rotated = false;
                return Ok(Next::Files(files));
            }
        } else if let Ok(current) = fs::metadata(&self.path)
            && Some(current.ino()) != inode
        {
            self.rotated = true;
            return Ok(Next::Again);
        }
        if let Some(source) = source
            && source.rewind_if_truncated()?
        {
            return Ok(Next::Truncated);
        }
        if self.stopped {
            return Ok(Next::Done);
        }
        self.wait(until)
    }

    fn wait(&mut self, until: Option<i64>) -> io::Result<Next> {
        let left = until.map(|until| until.saturating_sub(time::now()));
        if left.is_some_and(|left| left < 0) {
            self.stopped = true;
            return Ok(Next::Again);
        }
        let timeout = left.map(|left| Timespec { tv_sec: left / 1_000_000_000, tv_nsec: left % 1_000_000_000 + 1 });
        let timeout = timeout
            .map(|at| if at.tv_nsec > 999_999_999 { Timespec { tv_sec: at.tv_sec + 1, tv_nsec: 0 } } else { at });
        let mut fds = [
            PollFd::from_borrowed_fd(self.news.fd().as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.stop.0.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.stopped = !fds[1].revents().is_empty();
        if !fds[0].revents().is_empty() {
            self.news.drain();
        }
        Ok(Next::Again)
    }
}
