//! Which process is the containerd of a layout, safe against process ids that were given anew.

use std::{fs, io, path::Path};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::Layout;

/// The live containerd of this layout: named by the pid file, and running with this layout's configuration.
pub fn live(layout: &Layout) -> Option<Pid> {
    let text = fs::read_to_string(layout.pid_file()).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?)?;
    runs_with(pid, &layout.config()).then_some(pid)
}

pub fn write(layout: &Layout, pid: u32) -> io::Result<()> {
    let new = layout.pid_file().with_extension("pid.new");
    fs::write(&new, pid.to_string())?;
    fs::rename(new, layout.pid_file())
}

/// A zombie has no command line, so it does not count as live.
fn runs_with(pid: Pid, config: &Path) -> bool {
    fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))
        .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes()))
}

/// A descriptor that becomes readable when the process has ended.
pub fn pidfd(pid: Pid) -> io::Result<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>> {
    let fd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    // SAFETY: an OwnedFd keeps the same open descriptor for as long as the AsyncFd owns it.
    let fd = unsafe { tokio::io::unix::AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) };
    fd.map_err(Into::into)
}

/// Kills a process and waits for its end.
pub async fn kill(pid: Pid) -> io::Result<()> {
    let fd = match pidfd(pid) {
        Ok(fd) => fd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        Err(error) => return Err(error),
    };
    match rustix::process::pidfd_send_signal(&fd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    fd.readable().await.map(drop)
}
