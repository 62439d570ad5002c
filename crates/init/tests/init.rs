//! The built init, as a plain process and in a root file system that holds nothing else.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader},
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
    assert_eq!(code(&["--", "/etc/passwd"]), 126);
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
    // The orphan's parent ends at once, so init inherits it; a zombie would keep its folder in /proc.
    let script = "orphan=$(sleep 0.1 >/dev/null & echo $!); tries=0;
        while [ -e /proc/$orphan ]; do tries=$((tries+1)); [ $tries -lt 200 ] || exit 1; sleep 0.02; done";
    assert_eq!(code(&["--", "sh", "-c", script]), 0);
}

#[test]
fn it_is_static() {
    // The program headers of a 64-bit ELF file: none asks for an interpreter (type 3).
    let bytes = std::fs::read(INIT).unwrap();
    let number = |at: usize, len: usize| (0..len).fold(0, |sum, i| sum | usize::from(bytes[at + i]) << (8 * i));
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!(count > 0 && (0..count).all(|i| number(start + i * size, 4) != 3));
}
