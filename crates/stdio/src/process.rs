//! What the companion asks of the kernel about itself: its session, its signals, a child that compresses.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{FromRawFd as _, OwnedFd},
    path::Path,
    ptr,
};

use gantry_logs::compress::{Compressor, gzip};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    process::{Pid, PidfdFlags, Signal},
};

/// A session of its own, so that Ctrl-C and a hang-up at gantryd's terminal do not reach it, and all signals that can
/// be asked away turned into news on the returned descriptor.
pub(crate) fn detach() -> io::Result<OwnedFd> {
    // Fails only where it is a session's leader already.
    let _ = rustix::process::setsid();
    // SAFETY: the set is initialised by sigemptyset before use; the descriptor is new and ours.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        let listened = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGCHLD, libc::SIGPIPE];
        for signal in listened.into_iter().chain([libc::SIGUSR1, libc::SIGUSR2, libc::SIGXFSZ]) {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
        match libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Whether a SIGTERM is among the news.
pub(crate) fn read_signals(signals: &OwnedFd) -> bool {
    let mut terminate = false;
    let mut news = [0; size_of::<libc::signalfd_siginfo>()];
    while rustix::io::read(signals, &mut news).is_ok_and(|len| len == news.len()) {
        let signal = u32::from_ne_bytes([news[0], news[1], news[2], news[3]]);
        terminate |= signal == libc::SIGTERM as u32;
    }
    terminate
}

/// The socket that gantryd gave as descriptor 0, which becomes `/dev/null`.
pub(crate) fn take_control() -> io::Result<OwnedFd> {
    let stdin = rustix::stdio::stdin();
    let control = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(control)
}

/// A compression that takes longer is given up where somebody waits for it; the plain file stays.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Compresses in a child, so that no container waits for it. It ends with its parent: a successor may rotate at once.
#[derive(Debug, Default)]
pub(crate) struct Forked {
    child: Option<libc::pid_t>,
}

impl Compressor for Forked {
    fn start(&mut self, rotated: &Path) {
        self.settle();
        // SAFETY: there is one thread. The child gives up every descriptor first, so that it holds no container's or
        // client's stream open, and never returns into the parent's code. A parent that was gone before the prctl shows
        // in getppid.
        unsafe {
            let parent = libc::getpid();
            match libc::fork() {
                0 => {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    if libc::getppid() != parent {
                        libc::_exit(1);
                    }
                    libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
                    libc::nice(10);
                    let done = gzip(rotated);
                    libc::_exit(i32::from(done.is_err()));
                }
                // Without a child the file stays as it is, which readers take as well.
                -1 => {}
                child => self.child = Some(child),
            }
        }
    }

    fn settle(&mut self) {
        if let Some(child) = self.child.take() {
            give_time(child);
            // SAFETY: our own child, reaped here and nowhere else.
            unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
        }
    }
}

/// Returns when the child has ended or was told to.
fn give_time(child: libc::pid_t) {
    let Some(pid) = Pid::from_raw(child) else { return };
    let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    if !matches!(poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&PATIENCE)), Ok(1)) {
        // One that has just ended needs no signal.
        let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
    }
}
