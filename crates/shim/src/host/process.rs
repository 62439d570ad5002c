//! Processes: forking this one, starting another, signals as events. All that is unsafe is here.

use std::{
    io,
    mem::MaybeUninit,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
    ptr,
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal},
};

pub(crate) enum Forked {
    Child,
    Parent(Pid),
}

/// Splits this process in two.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the shim has one thread, so the child finds no lock held and no state half changed.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Pid::from_raw(pid).map_or(Forked::Child, Forked::Parent)),
    }
}

/// Does work that may take long in a child, which holds no descriptor of ours open meanwhile. Its exit code is the
/// work's error number. It is reaped like every other child.
pub(crate) fn aside(work: impl FnOnce() -> io::Result<()>) -> io::Result<Pid> {
    match fork()? {
        Forked::Parent(pid) => Ok(pid),
        Forked::Child => {
            close_from(3);
            let error = work().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
            // SAFETY: ends the child without the parent's atexit handlers and buffers.
            unsafe { libc::_exit(error) }
        }
    }
}

/// Closes every descriptor from this number on.
pub(crate) fn close_from(first: u32) {
    // SAFETY: called where no descriptor beyond the standard ones is owned by a value that lives on.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Starts a program that ends with the shim: half a `runc create` without a shim would be nobody's.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Pid> {
    // What systemd passed is for its own service, and not for a container's.
    command.env_remove("NOTIFY_SOCKET");
    // SAFETY: system calls that touch no memory but what is on the stack.
    unsafe {
        command.pre_exec(|| {
            // Ours is blocked for `signals`, and would be the container's otherwise.
            let mut none = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
            heed_all_signals();
            Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
        });
    }
    command.spawn().map(|child| Pid::from_child(&child))
}

/// What whoever started containerd ignored is not the container's to ignore. glibc keeps two signals to itself, so the
/// kernel is asked.
fn heed_all_signals() {
    /// The kernel's `struct sigaction` of zeros: SIG_DFL, no flags, an empty mask.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=64 {
        // SAFETY: reads the structure above, whose set has eight bytes. SIGKILL and SIGSTOP are refused.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), ptr::null_mut::<u64>(), 8usize) };
    }
}

/// Turns all signals that can be asked away into news on the returned descriptor; none ends or interrupts the shim.
pub(crate) fn signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; the descriptor is new and ours.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        let listened = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE];
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

/// Takes the news; what they say is found out by waiting for children.
pub(crate) fn drain(signals: &OwnedFd) {
    let mut news = [0; 4 * size_of::<libc::signalfd_siginfo>()];
    while rustix::io::read(signals, &mut news).is_ok_and(|length| length > 0) {}
}

/// A group of its own, with nothing to read and nowhere to write: containerd waits for the end of the pipe that was our
/// output. No session of its own: the kernel's scheduler puts a new session last on a machine that is busy (autogroup),
/// and no signal of containerd's terminal gets here anyway.
pub(crate) fn detach() -> io::Result<()> {
    // Fails only where it leads its group already.
    let _ = rustix::process::setpgid(None, None);
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Sends a signal to a child that was not reaped yet, so that its number is still its own. Real-time signals count too.
pub(crate) fn signal(pid: i32, signal: u32) -> io::Result<()> {
    let signal = i32::try_from(signal).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // Zero and less mean groups of processes, and never one of a container's.
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: takes two numbers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
