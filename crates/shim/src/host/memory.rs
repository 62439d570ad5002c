//! Word of the kernel that a container ran out of memory: an eventfd on `memory.oom_control` (cgroup v1), inotify on
//! `memory.events` (v2). Source: the kernel's `Documentation/admin-guide/cgroup-v1/memory.rst`, `cgroup-v2.rst`.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{Mode, OFlags, inotify},
};

#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) fd: OwnedFd,
    folder: PathBuf,
    version: Version,
}

#[derive(Debug)]
enum Version {
    One,
    Two { kills: u64 },
}

impl Watch {
    /// On the memory cgroup that this process is in; `None` where it is in none of its own.
    pub(crate) fn new(pid: i32) -> io::Result<Option<Self>> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        match place(&groups, &mounts) {
            Some((folder, true)) => Self::one(folder).map(Some),
            Some((folder, false)) if folder.join("memory.events").exists() => Self::two(folder).map(Some),
            _ => Ok(None),
        }
    }

    fn one(folder: PathBuf) -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let control = rustix::fs::open(folder.join("memory.oom_control"), flags, Mode::empty())?;
        let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
        fs::write(folder.join("cgroup.event_control"), line)?;
        Ok(Self { fd, folder, version: Version::One })
    }

    fn two(folder: PathBuf) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let file = folder.join("memory.events");
        inotify::add_watch(&fd, &file, inotify::WatchFlags::MODIFY)?;
        let kills = kills(&fs::read_to_string(file)?);
        Ok(Self { fd, folder, version: Version::Two { kills } })
    }

    /// Takes the news. True where a process was killed for want of memory; an end of the cgroup is news as well.
    pub(crate) fn tells_of_a_kill(&mut self) -> bool {
        let mut news = [0; 512];
        let heard = rustix::io::read(&self.fd, &mut news).is_ok_and(|length| length > 0);
        match &mut self.version {
            Version::One => heard && self.folder.join("memory.oom_control").exists(),
            Version::Two { kills: before } => {
                let now = fs::read_to_string(self.folder.join("memory.events")).map_or(0, |text| kills(&text));
                let more = now > *before;
                *before = now.max(*before);
                more
            }
        }
    }
}

fn kills(events: &str) -> u64 {
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// The folder of the memory cgroup, and whether it is of version 1, from `/proc/<pid>/cgroup` and mountinfo.
fn place(groups: &str, mounts: &str) -> Option<(PathBuf, bool)> {
    let mut two = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        if path == "/" {
            continue;
        }
        if controllers.split(',').any(|one| one == "memory") {
            return Some((mount_point(mounts, true)?.join(path.trim_start_matches('/')), true));
        }
        if controllers.is_empty() {
            two = Some(path);
        }
    }
    Some((mount_point(mounts, false)?.join(two?.trim_start_matches('/')), false))
}

/// Of a line like `36 35 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory`.
fn mount_point(mounts: &str, one: bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let found = match after.next()? {
            "cgroup" if one => after.nth(1)?.split(',').any(|option| option == "memory"),
            "cgroup2" => !one,
            _ => false,
        };
        found.then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "36 35 0:31 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                          37 35 0:32 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_memory_cgroup_is_found_in_both_versions() {
        let groups = "5:pids:/gantry/a\n4:memory:/gantry/a\n0::/gantry/a\n";
        assert_eq!(place(groups, MOUNTS), Some(("/sys/fs/cgroup/memory/gantry/a".into(), true)));
        assert_eq!(place("0::/gantry/a\n", MOUNTS), Some(("/sys/fs/cgroup/unified/gantry/a".into(), false)));
        assert_eq!(place("4:memory:/\n0::/\n", MOUNTS), None, "the root's kills are not the container's");
    }

    #[test]
    fn kills_are_counted() {
        assert_eq!(kills("low 0\noom 3\noom_kill 2\n"), 2);
    }
}
