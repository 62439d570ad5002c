//! The cgroups of one container, for ending what is left in them without its shim. cgroup v1, hybrid and v2.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gantry_domain::ContainerId;
use rustix::process::{Pid, Signal};

/// The container's cgroup in every hierarchy, named by a process of it and by the path in its spec. Only folders that
/// bear the container's id count: a process that shares a cgroup with others must not take them along.
pub fn of(id: &ContainerId, init: Option<Pid>, cgroups_path: Option<&str>) -> Vec<PathBuf> {
    let memberships = init.map(memberships).unwrap_or_default();
    let mut found = Vec::new();
    for mount in mounts() {
        let by_process = memberships.iter().find(|(controllers, _)| mount.carries(controllers)).map(|(_, path)| path);
        let paths = by_process.map(PathBuf::from).into_iter().chain(cgroups_path.map(folder));
        for path in paths {
            let folder = mount.point.join(path.strip_prefix("/").unwrap_or(&path));
            let ours = folder.file_name().is_some_and(|name| name.to_string_lossy().contains(id.as_str()));
            if ours && folder.is_dir() && !found.contains(&folder) {
                found.push(folder);
            }
        }
    }
    found
}

/// Whether the kernel killed a process in one of these for want of memory, by the count that a cgroup keeps.
pub fn ran_out_of_memory(folders: &[PathBuf]) -> bool {
    let files = folders.iter().flat_map(|folder| ["memory.events", "memory.oom_control"].map(|file| folder.join(file)));
    files.filter_map(|file| fs::read_to_string(file).ok()).any(|text| oom_kills(&text) > 0)
}

fn oom_kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// Where runc puts the `cgroupsPath` of a spec: `/gantry/<id>` as it is, systemd's `a-b.slice:gantry:<id>` as
/// `a.slice/a-b.slice/gantry-<id>.scope`.
fn folder(cgroups_path: &str) -> PathBuf {
    let mut fields = cgroups_path.splitn(3, ':');
    let (Some(slice), Some(prefix), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
        return PathBuf::from(cgroups_path);
    };
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let parents = stem.match_indices('-').map(|(at, _)| format!("{}.slice", &stem[..at]));
    parents.chain([slice.to_owned(), format!("{prefix}-{name}.scope")]).collect()
}

/// Whether the process is in a cgroup of this container; a process id that was given anew is not.
pub fn is_member(id: &ContainerId, pid: Pid) -> bool {
    memberships(pid).iter().any(|(_, path)| path.contains(id.as_str()))
}

/// Sends SIGKILL to everything in these cgroups, frozen or not. True when there was nothing left to kill.
pub fn kill(folders: &[PathBuf]) -> bool {
    let mut empty = true;
    for folder in folders {
        // Version 2 kills atomically; a frozen process of version 1 dies only when thawed.
        let _ = fs::write(folder.join("cgroup.kill"), "1");
        let _ = fs::write(folder.join("freezer.state"), "THAWED");
        for pid in processes(folder) {
            empty = false;
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    empty
}

/// Removes the folders, deepest first; those that are not empty stay.
pub fn remove(folders: &[PathBuf]) {
    for folder in folders {
        for nested in nested(folder).into_iter().rev() {
            let _ = fs::remove_dir(nested);
        }
    }
}

fn processes(folder: &Path) -> Vec<Pid> {
    let lists = nested(folder).into_iter().filter_map(|folder| fs::read_to_string(folder.join("cgroup.procs")).ok());
    lists.flat_map(|text| text.lines().filter_map(pid).collect::<Vec<_>>()).collect()
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.trim().parse().ok()?)
}

/// The folder and all below it, parents first.
fn nested(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next) {
        let below: Vec<PathBuf> = fs::read_dir(folder)
            .map(|entries| {
                entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
            })
            .unwrap_or_default();
        all.extend(below);
        next += 1;
    }
    all
}

/// One mounted hierarchy.
struct Mount {
    point: PathBuf,
    /// Super options with the controllers' names; `None` for version 2.
    options: Option<String>,
}

impl Mount {
    fn carries(&self, controllers: &str) -> bool {
        match &self.options {
            None => controllers.is_empty(),
            Some(options) => {
                !controllers.is_empty()
                    && controllers.split(',').all(|one| options.split(',').any(|option| option == one))
            }
        }
    }
}

fn mounts() -> Vec<Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(mount).collect()
}

/// A line of mountinfo, `36 35 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids`.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let options = match after.next()? {
        "cgroup" => Some(after.nth(1)?.to_owned()),
        "cgroup2" => None,
        _ => return None,
    };
    Some(Mount { point: before.split(' ').nth(4)?.into(), options })
}

/// Controllers and path of each line of `/proc/<pid>/cgroup`.
fn memberships(pid: Pid) -> Vec<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            Some((controllers.to_owned(), path.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hierarchy_is_known_by_its_controllers() {
        let v1 = mount("36 35 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct").unwrap();
        assert!(v1.carries("cpu,cpuacct") && !v1.carries("pids") && !v1.carries(""));
        let v2 = mount("36 35 0:31 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup rw,nsdelegate").unwrap();
        assert!(v2.carries("") && !v2.carries("pids"));
    }

    #[test]
    fn a_cgroup_is_where_runc_put_it() {
        assert_eq!(folder("/gantry/abc"), Path::new("/gantry/abc"));
        assert_eq!(folder("system.slice:gantry:abc"), Path::new("system.slice/gantry-abc.scope"));
        assert_eq!(folder("a-b-c.slice:gantry:x"), Path::new("a.slice/a-b.slice/a-b-c.slice/gantry-x.scope"));
    }

    #[test]
    fn kills_for_want_of_memory_are_counted_on_v1_and_v2() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"), 0);
    }

    #[test]
    fn a_cgroup_that_is_shared_with_others_is_never_taken() {
        let id = ContainerId::random();
        let own = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        assert_eq!(of(&id, Some(own), Some("/")), Vec::<PathBuf>::new());
    }
}
