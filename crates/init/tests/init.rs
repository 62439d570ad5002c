//! The built init, as a plain process and in a root file system that holds nothing else.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

const INIT: &str = env!("CARGO_BIN_EXE_gantry-init");

fn code(args: &[&str]) -> i32 {
    Command::new(INIT).args(args).stderr(Stdio::null()).status().unwrap().code().unwrap()
}

#[test]
fn the_programs_status_is_its_own() {
    assert_eq!(code(&["--", "sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&["true"]), 0);
}

#[test]
fn an_end_by_a_signal_is_128_and_its_number() {
    assert_eq!(code(&["--", "sh", "-c", "kill -9 $$"]), 137);
}

#[test]
fn a_missing_program_is_127_and_one_that_cannot_run_126() {
    assert_eq!(code(&["--", "/nosuch/program"]), 127);
    assert_eq!(code(&["--", "/etc/hostname"]), 126);
    assert_eq!(code(&["--"]), 125);
}

#[test]
fn signals_reach_the_program() {
    let script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut init = Command::new(INIT).args(["--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(init.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill_process(Pid::from_child(&init), Signal::TERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got");
    assert_eq!(init.wait().unwrap().code(), Some(3));
}

#[test]
fn orphans_are_reaped() {
    // The orphan's parent ends at once, so init inherits it; when it has ended no zombie of it may be left.
    let script = "(sleep 0.2 & echo $!) ; while read -r line < /proc/$PPID/task/$PPID/children && [ \"${line% * }\" != \"$line\" ]; do sleep 0.05; done; echo done; exit 0";
    let output = Command::new(INIT).args(["--", "sh", "-c", script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (orphan, rest) = text.split_once('\n').unwrap();
    assert_eq!(rest.trim(), "done");
    assert!(!std::path::Path::new(&format!("/proc/{orphan}")).exists());
    assert_eq!(output.status.into_raw(), 0);
}

#[test]
fn it_is_static() {
    let bytes = std::fs::read(INIT).unwrap();
    assert!(!bytes.windows(9).any(|window| window == b"ld-linux-"), "it names a dynamic loader");
}
