//! Starting containerd, and starting it again.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use gantry_domain::{Error, Result};
use rustix::process::Pid;
use tokio::process::{Child, Command};

use super::{ANSWER_PATIENCE, Layout, START_PATIENCE, answers, pidfile};

const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// One that has lived this long is started again without a pause.
const STEADY: Duration = Duration::from_secs(30);
/// The log is put aside at a start when it has grown beyond this many bytes.
const LOG_LIMIT: u64 = 16 << 20;

/// The containerd that is being watched.
pub enum Running {
    /// Our child, to be reaped.
    Child(Child),
    /// An earlier gantryd's.
    Adopted(Pid),
}

/// Adopts a live containerd of this layout, or starts one; it answers when this returns.
pub async fn ensure(layout: &Layout) -> Result<Running> {
    if let Some(pid) = pidfile::live(layout) {
        if answers(&layout.socket(), ANSWER_PATIENCE).await.is_ok() {
            tracing::info!(pid = pid.as_raw_nonzero().get(), "adopted the running containerd");
            return Ok(Running::Adopted(pid));
        }
        // It holds the lock on its database, so a second one could not start beside it.
        tracing::warn!(pid = pid.as_raw_nonzero().get(), "containerd runs but does not answer, starting it again");
        pidfile::kill(pid).await?;
    }
    start(layout).await.map(Running::Child)
}

async fn start(layout: &Layout) -> Result<Child> {
    layout.write().map_err(|error| Error::from(error).context("preparing containerd's folders"))?;
    let mut child = spawn(layout).map_err(|error| Error::from(error).context("failed to start containerd"))?;
    let pid = child.id().unwrap_or_default();
    if let Err(error) = pidfile::write(layout, pid) {
        let _ = child.kill().await;
        return Err(Error::from(error).context("noting containerd's process"));
    }
    let socket = layout.socket();
    tokio::select! {
        answered = answers(&socket, START_PATIENCE) => {
            if let Err(error) = answered {
                // Its database stays locked as long as it lives.
                let _ = child.kill().await;
                return Err(error);
            }
        }
        ended = child.wait() => {
            let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            return Err(Error::unavailable(format!(
                "containerd ended while starting ({how}), see {}",
                layout.log().display()
            )));
        }
    }
    tracing::info!(pid, "containerd started");
    Ok(child)
}

fn spawn(layout: &Layout) -> io::Result<Child> {
    // A socket left by a dead one would be taken for an answer that is slow to come.
    remove_file(&layout.socket())?;
    let log = open_log(&layout.log())?;
    let mut command = Command::new(&layout.binary);
    command
        .arg("--config")
        .arg(layout.config())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(false)
        // What systemd passed is for gantryd: containerd must not report its own readiness in gantryd's name.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID");
    // SAFETY: setsid is async-signal-safe and touches no memory; nothing else runs between fork and exec.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
    }
    command.spawn()
}

fn open_log(path: &Path) -> io::Result<fs::File> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Watches containerd and starts it again for as long as it is not aborted.
pub async fn keep(layout: Layout, mut running: Running) {
    loop {
        let began = Instant::now();
        ended(&mut running).await;
        tracing::warn!(lived = ?began.elapsed(), "containerd has died, starting it again");
        running = again(&layout, began.elapsed() >= STEADY).await;
    }
}

async fn again(layout: &Layout, was_steady: bool) -> Running {
    let mut pause = FIRST_BACK_OFF;
    if !was_steady {
        tokio::time::sleep(pause).await;
    }
    loop {
        match ensure(layout).await {
            Ok(running) => return running,
            Err(error) => tracing::error!(%error, retry_in = ?pause, "containerd could not be started again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_BACK_OFF);
    }
}

async fn ended(running: &mut Running) {
    let watched = match running {
        Running::Child(child) => child.wait().await.map(drop),
        Running::Adopted(pid) => match pidfile::pidfd(*pid) {
            Ok(fd) => fd.readable().await.map(drop),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Err(error) => Err(error),
        },
    };
    if let Err(error) = watched {
        tracing::error!(%error, "cannot watch containerd");
        tokio::time::sleep(LONGEST_BACK_OFF).await;
    }
}
