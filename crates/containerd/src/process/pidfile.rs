//! Which process is the containerd of a layout, safe against process ids that were given anew.

use std::{fs, io, path::Path};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::Layout;

/// The live containerd of this layout: named by the pid file, and running with this layout's configuration. Where the
/// file does not lead to it (gantryd was killed before it was written, or had no room for it) all processes are looked
/// through: a second containerd would wait for the first one's database.
pub fn live(layout: &Layout) -> Option<Pid> {
    let config = layout.config();
    let noted = fs::read_to_string(layout.pid_file()).ok().and_then(|text| number(text.trim()));
    noted.filter(|pid| runs_with(*pid, &config)).or_else(|| {
        let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| number(entry.ok()?.file_name().to_str()?));
        processes.filter(|pid| runs_with(*pid, &config)).min_by_key(|pid| pid.as_raw_nonzero())
    })
}

fn number(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

pub fn write(layout: &Layout, pid: u32) -> io::Result<()> {
    let new = layout.pid_file().with_extension("pid.new");
    fs::write(&new, pid.to_string())?;
    fs::rename(new, layout.pid_file())
}

/// A zombie has no command line, so it does not count as live.
fn runs_with(pid: Pid, config: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())) else { return false };
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    words.windows(2).any(|pair| pair == [&b"--config"[..], config.as_os_str().as_encoded_bytes()])
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{process::Command, thread::sleep, time::Duration};

    use super::*;

    #[test]
    fn a_containerd_without_a_pid_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().join("data"), folder.path().join("run"));
        fs::create_dir_all(layout.config().parent().unwrap()).unwrap();
        assert_eq!(live(&layout), None);
        // `sh -c` keeps the words behind its script as they are.
        let mut command = Command::new("sh");
        command.args(["-c", "read _", "containerd", "--config"]).arg(layout.config());
        let mut stand_in = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&stand_in);
        // The kernel shows the words a moment after the program was started.
        let found = || {
            (0..500).find_map(|_| {
                live(&layout).or_else(|| {
                    sleep(Duration::from_millis(10));
                    None
                })
            })
        };
        assert_eq!(found(), Some(pid));
        fs::write(layout.pid_file(), "1").unwrap();
        assert_eq!(live(&layout), Some(pid), "process 1 is another");
        stand_in.kill().unwrap();
        stand_in.wait().unwrap();
        assert_eq!(live(&layout), None);
    }
}
