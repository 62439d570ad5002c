//! The end of a task whose shim no longer answers (T53): processes, shim, mounts, bundle, and containerd's memory of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use containerd_client::services::v1::DeleteTaskRequest;
use gantry_domain::{ContainerId, Error, Result, container::Exit};
use rustix::{
    mount::UnmountFlags,
    process::{Pid, Signal},
};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::{ContainerdRuntime, cgroup, kernel_log};
use crate::client::Client;

/// How long killed processes may take to end; one in an uninterruptible sleep takes longer, and is then said.
const DEATH: Duration = Duration::from_secs(3);
/// How long containerd may take to clean up after the dead shim, before that is done here.
const CLEANING: Duration = Duration::from_secs(6);
const CALL: Duration = Duration::from_secs(2);
/// By SIGKILL.
const KILLED: u32 = 137;
const PAUSE: Duration = Duration::from_millis(20);

/// What of the bundle's spec is needed here.
#[derive(Deserialize)]
struct Spec {
    linux: Option<Linux>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    cgroups_path: Option<String>,
}

impl ContainerdRuntime {
    pub(super) async fn abandon(&self, id: &ContainerId) -> Result<()> {
        let bundle = self.bundle(&self.folders.state, id);
        let init = pid_file(&bundle.join("init.pid")).filter(|pid| cgroup::is_member(id, *pid));
        let cgroups = cgroup::of(id, init, cgroups_path(&bundle).as_deref());
        let shims = shims(id, &self.client);
        tracing::warn!(container = %id, shims = shims.len(), "giving up a task that does not answer");

        let all_ended = end(init, &cgroups, &shims).await;
        let forgotten = self.forget(id).await;
        self.clear(id, &bundle)?;
        cgroup::remove(&cgroups);
        if !all_ended {
            return Err(Error::system(format!("processes of container {id} do not end after SIGKILL")));
        }
        forgotten
    }

    /// Completes what containerd tells of the end of a container's first process: its word that the memory ran out is
    /// an event of its own, which may come later or never. Asked while the cgroup is there, before the task is deleted.
    pub(super) async fn with_memory(&self, id: &ContainerId, exit: Exit) -> Exit {
        if exit.code != KILLED {
            return exit;
        }
        let (id, bundle) = (id.clone(), self.bundle(&self.folders.state, id));
        let asked = tokio::task::spawn_blocking(move || {
            let cgroups = cgroup::of(&id, None, cgroups_path(&bundle).as_deref());
            if cgroups.is_empty() {
                // Not to be counted any more: where systemd keeps the cgroups it has removed this one by now.
                return age(&bundle).is_some_and(|age| kernel_log::tells_of_oom_kill(&id, age));
            }
            cgroup::ran_out_of_memory(&cgroups)
        });
        Exit { oom_killed: exit.oom_killed || asked.await.unwrap_or_default(), ..exit }
    }

    /// In containerd's state or root folder.
    fn bundle(&self, folder: &Path, id: &ContainerId) -> PathBuf {
        folder.join("io.containerd.runtime.v2.task").join(self.client.namespace()).join(id.as_str())
    }

    /// Waits until containerd no longer knows the task. It notices the death of the shim by itself; asking it to
    /// delete the task helps where it has not.
    async fn forget(&self, id: &ContainerId) -> Result<()> {
        let end = Instant::now() + CLEANING;
        loop {
            let gone = match timeout(CALL, self.find_task(id)).await {
                // The last of its cleaning is a shim program too, and works on the bundle.
                Ok(Ok(None)) if shims(id, &self.client).is_empty() => return Ok(()),
                Ok(Ok(None)) => Error::system(format!("containerd is still cleaning up container {id}")),
                Ok(Ok(Some(_))) => Error::system(format!("containerd still holds the task of container {id}")),
                Ok(Err(error)) => error,
                Err(_) => Error::unavailable("containerd does not answer"),
            };
            if Instant::now() >= end {
                return Err(gone);
            }
            let request = DeleteTaskRequest { container_id: id.to_string() };
            let _ = timeout(CALL, self.client.tasks().delete(request)).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Removes what a clean deletion would have removed. Absent is fine.
    fn clear(&self, id: &ContainerId, bundle: &Path) -> Result<()> {
        let rootfs = bundle.join("rootfs");
        // Several mounts may lie over one another; the end of it is "not a mount point".
        while rustix::mount::unmount(&rootfs, UnmountFlags::DETACH).is_ok() {}
        remove_bundle(bundle)?;
        remove_tree(&self.bundle(&self.folders.root, id))?;
        remove_tree(&self.folders.runc.join(self.client.namespace()).join(id.as_str()))?;
        Ok(())
    }
}

/// Kills until nothing is left, shim last: a living shim would otherwise be missed as the one who reaps.
async fn end(init: Option<Pid>, cgroups: &[PathBuf], shims: &[Pid]) -> bool {
    let deadline = Instant::now() + DEATH;
    if let Some(init) = init {
        let _ = rustix::process::kill_process(init, Signal::KILL);
    }
    let mut ended = cgroup::kill(cgroups);
    for shim in shims {
        let _ = rustix::process::kill_process(*shim, Signal::KILL);
    }
    while !(ended && shims.iter().all(|shim| is_gone(*shim))) {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
        ended = cgroup::kill(cgroups);
    }
    true
}

/// Gone, or only waiting for its parent to take note.
fn is_gone(pid: Pid) -> bool {
    fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).map_or(true, |line| line.is_empty())
}

/// How long ago containerd made the bundle of this run.
fn age(bundle: &Path) -> Option<Duration> {
    fs::metadata(bundle.join("config.json")).ok()?.modified().ok()?.elapsed().ok()
}

fn pid_file(path: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(path).ok()?.trim().parse().ok()?)
}

fn cgroups_path(bundle: &Path) -> Option<String> {
    let spec: Spec = serde_json::from_slice(&fs::read(bundle.join("config.json")).ok()?).ok()?;
    spec.linux?.cgroups_path
}

/// Processes that are shims of this container, known by their command line: id, namespace, and our containerd.
fn shims(id: &ContainerId, client: &Client) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            is_shim(&fs::read(entry.path().join("cmdline")).ok()?, id, client.socket(), client.namespace())
                .then_some(pid)
        })
        .collect()
}

fn is_shim(cmdline: &[u8], id: &ContainerId, socket: &Path, namespace: &str) -> bool {
    let words: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
    let has = |flag: &str, value: &[u8]| words.windows(2).any(|pair| pair[0] == flag.as_bytes() && pair[1] == value);
    let program = words.first().map(|word| String::from_utf8_lossy(word)).unwrap_or_default();
    program.contains("containerd-shim")
        && has("-namespace", namespace.as_bytes())
        && has("-id", id.as_str().as_bytes())
        && has("-address", socket.as_os_str().as_encoded_bytes())
}

/// Everything but the root file system, whose folder goes only if it is empty: were it still mounted, its files would
/// be the container's.
fn remove_bundle(bundle: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(bundle) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let removed = if path.is_symlink() || !path.is_dir() { fs::remove_file(&path) } else { fs::remove_dir(&path) };
        absent_is_ok(removed)?;
    }
    absent_is_ok(fs::remove_dir(bundle))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    absent_is_ok(fs::remove_dir_all(path))
}

fn absent_is_ok(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_shim_of_this_container_and_this_containerd_counts() {
        let id = ContainerId::random();
        let line = |id: &str, socket: &str| {
            ["/usr/bin/containerd-shim-runc-v2", "-namespace", "gantry", "-id", id, "-address", socket].join("\0")
        };
        let socket = Path::new("/run/x.sock");
        assert!(is_shim(line(id.as_str(), "/run/x.sock").as_bytes(), &id, socket, "gantry"));
        assert!(!is_shim(line(id.as_str(), "/run/x.sock").as_bytes(), &id, socket, "gantry-1.1"));
        assert!(!is_shim(line(id.as_str(), "/run/other.sock").as_bytes(), &id, socket, "gantry"));
        assert!(!is_shim(line(ContainerId::random().as_str(), "/run/x.sock").as_bytes(), &id, socket, "gantry"));
    }

    #[test]
    fn files_of_a_root_that_is_still_mounted_are_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundle");
        fs::create_dir_all(bundle.join("rootfs/etc")).unwrap();
        fs::write(bundle.join("config.json"), "{}").unwrap();
        assert!(remove_bundle(&bundle).is_err());
        assert!(bundle.join("rootfs/etc").is_dir());
    }
}
