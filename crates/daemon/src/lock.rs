//! One gantryd for each root: a lock that is taken before anything else and kept for life; and the pid file.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

/// How long the next gantryd waits for one that is just going.
pub const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

const NAME: &str = "gantry.lock";

/// Holds the root until dropped. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct RootLock {
    _file: File,
}

/// Takes the lock on a data root, making the folder where it is not.
pub async fn acquire(data_root: &Path, patience: Duration) -> Result<RootLock, String> {
    make_folder(data_root)?;
    let path = data_root.join(NAME);
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} {}: {error}", path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed("open", &error))?;
    let deadline = Instant::now() + patience;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(format!(
                    "another gantryd ({}) uses the data root {}; stop it, or give this one its own --data-root and \
                     --exec-root",
                    holder(&mut file),
                    data_root.display()
                ));
            }
            Err(error) => return Err(failed("lock", &error)),
        }
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(std::process::id().to_string().as_bytes()));
    written.map_err(|error| failed("write", &error))?;
    Ok(RootLock { _file: file })
}

/// Whether a gantryd has this root now.
pub fn is_held(data_root: &Path) -> bool {
    let Ok(file) = File::open(data_root.join("gantry.lock")) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)) {
        Ok(_) if !text.is_empty() => format!("process {}", text.trim()),
        _ => "its process is not named".to_owned(),
    }
}

/// A folder that only root enters, with what leads to it.
pub fn make_folder(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| format!("mkdir {}: {error}", parent.display()))?;
    }
    match std::fs::DirBuilder::new().mode(0o710).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(format!("mkdir {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The pid file; it goes with the value.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes our process id, unless the file names an engine that lives.
    pub fn write(path: &Path) -> Result<Self, String> {
        let ours = std::process::id();
        let named = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
        // After a crash the number may by now be anybody's: only an engine's name counts, and of one that was killed and
        // not yet waited for the name is all that is left.
        let engine =
            |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_living_engine(&stat));
        if let Some(pid) = named.filter(|&pid| pid != ours).filter(engine) {
            return Err(format!(
                "failed to start daemon, ensure docker is not running or delete {}: process with PID {pid} is still \
                 running",
                path.display()
            ));
        }
        let failed = |error: std::io::Error| format!("pidfile {}: {error}", path.display());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(path, ours.to_string()).map_err(failed)?;
        Ok(Self { path: path.to_owned() })
    }
}

/// `pid (name) state …`
fn is_living_engine(stat: &str) -> bool {
    let parts = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "));
    parts.is_some_and(|(name, rest)| matches!(name, "gantryd" | "dockerd") && !rest.starts_with(['Z', 'X']))
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_was_killed_and_not_waited_for_is_none() {
        assert!(is_living_engine("7 (gantryd) S 1 7 7 0"));
        assert!(is_living_engine("7 (dockerd) R 1"));
        for other in ["7 (gantryd) Z 1 7", "7 (dockerd) X 1", "7 (bash) S 1", "7 (gantryd", ""] {
            assert!(!is_living_engine(other), "{other}");
        }
    }

    #[tokio::test]
    async fn a_second_gantryd_waits_and_then_names_the_first() {
        let root = tempfile::tempdir().expect("a folder");
        let held = acquire(root.path(), Duration::ZERO).await.expect("free");
        let error = acquire(root.path(), Duration::from_millis(120)).await.expect_err("held");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        acquire(root.path(), Duration::ZERO).await.expect("free again");
    }

    #[tokio::test]
    async fn a_lock_that_is_let_go_meanwhile_is_taken() {
        let root = tempfile::tempdir().expect("a folder");
        let held = acquire(root.path(), Duration::ZERO).await.expect("free");
        let path = root.path().to_owned();
        let second = tokio::spawn(async move { acquire(&path, PATIENCE).await });
        tokio::task::yield_now().await;
        drop(held);
        assert!(second.await.expect("no panic").is_ok());
    }

    #[test]
    fn a_pid_file_of_a_dead_or_foreign_process_is_replaced() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("run/gantryd.pid");
        for content in [None, Some("1"), Some("999999999"), Some("text")] {
            if let Some(content) = content {
                std::fs::write(&path, content).expect("written");
            }
            let file = PidFile::write(&path).expect("replaced");
            assert_eq!(std::fs::read_to_string(&path).ok(), Some(std::process::id().to_string()));
            drop(file);
            assert!(!path.exists());
        }
    }
}
