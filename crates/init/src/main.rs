//! `gantry-init -- program args…`: PID 1 of a container that runs the program, passes signals on to it, reaps what
//! nobody waits for, and ends with the program's status (128+n when a signal ended it).
//!
//! Static, and without Rust's runtime (`no_main`): it must work in an image with nothing in it, and stay small.

#![no_main]

use std::{
    ffi::{CStr, c_char, c_int},
    mem::MaybeUninit,
    ptr,
};

/// Faults of this process itself, which cannot be left blocked, and what a background process group gets from a
/// terminal, which would stop PID 1 while it hands the terminal over.
const NOT_FORWARDED: [c_int; 9] = [
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// C's entry point.
///
/// # Safety
/// `argv` holds `argc` strings and a null pointer, as the C library calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let mut first = 1;
    // SAFETY: indexes below argc are valid strings; `argv[argc]` is null, which ends the program's arguments.
    unsafe {
        if argc > 1 && CStr::from_ptr(*argv.add(1)) == c"--" {
            first = 2;
        }
        if argc <= first {
            say(&[b"gantry-init: no program given"]);
            return 125;
        }
        run(argv.add(first as usize))
    }
}

/// Starts the program and stays until it ends; the exit status is the answer.
///
/// # Safety
/// `argv` is a null-terminated list of strings, not empty.
unsafe fn run(argv: *const *const c_char) -> c_int {
    let mut old = MaybeUninit::<libc::sigset_t>::uninit();
    let mut forwarded = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are initialised by the calls that fill them before they are read; fork has no other thread
    // to leave behind.
    unsafe {
        libc::sigfillset(forwarded.as_mut_ptr());
        for signal in NOT_FORWARDED {
            libc::sigdelset(forwarded.as_mut_ptr(), signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, forwarded.as_ptr(), old.as_mut_ptr());
        libc::signal(libc::SIGTTIN, libc::SIG_IGN);
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        if libc::getpid() != 1 {
            // Someone shares their pid namespace (`--pid host`): orphans still come to us.
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        }
        match libc::fork() {
            -1 => {
                say(&[b"gantry-init: fork: ", error()]);
                125
            }
            0 => become_program(argv, old.as_ptr()),
            child => forward_and_reap(child, forwarded.as_ptr()),
        }
    }
}

/// The child's side of the fork: a process group of its own with the terminal, the signals as they were, the program.
///
/// # Safety
/// As for `run`; `mask` is initialised.
unsafe fn become_program(argv: *const *const c_char, mask: *const libc::sigset_t) -> ! {
    // SAFETY: plain system calls on values that the caller vouches for; never returns into the parent's code.
    unsafe {
        libc::setpgid(0, 0);
        if libc::isatty(0) == 1 {
            libc::tcsetpgrp(0, libc::getpgrp());
        }
        libc::signal(libc::SIGTTIN, libc::SIG_DFL);
        libc::signal(libc::SIGTTOU, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut());
        libc::execvp(*argv, argv);
        let missing = *libc::__errno_location() == libc::ENOENT;
        say(&[b"gantry-init: exec ", CStr::from_ptr(*argv).to_bytes(), b" failed: ", error()]);
        libc::_exit(if missing { 127 } else { 126 })
    }
}

/// Waits for signals: `SIGCHLD` is answered by reaping, the rest goes to the program.
///
/// # Safety
/// `set` is initialised, and its signals are blocked.
unsafe fn forward_and_reap(child: libc::pid_t, set: *const libc::sigset_t) -> c_int {
    loop {
        let mut status = 0;
        let mut ended = None;
        // SAFETY: waitpid writes the status it is given a place for; sigwaitinfo may be told that nobody wants details.
        unsafe {
            loop {
                match libc::waitpid(-1, &mut status, libc::WNOHANG) {
                    pid if pid == child => ended = Some(status),
                    0 | -1 => break,
                    _ => {}
                }
            }
            if let Some(status) = ended {
                return code(status);
            }
            match libc::sigwaitinfo(set, ptr::null_mut()) {
                libc::SIGCHLD | -1 => {}
                signal => {
                    libc::kill(child, signal);
                }
            }
        }
    }
}

/// A wait status as a shell shows it.
fn code(status: c_int) -> c_int {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// The text of `errno`.
fn error() -> &'static [u8] {
    // SAFETY: the string is the C library's; there is one thread, and it is used before the next call.
    unsafe { CStr::from_ptr(libc::strerror(*libc::__errno_location())).to_bytes() }
}

/// One line on standard error.
fn say(parts: &[&[u8]]) {
    for part in parts.iter().chain(&[&b"\n"[..]]) {
        // SAFETY: the pointer and length are a slice's. What cannot be said is lost.
        unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
}
