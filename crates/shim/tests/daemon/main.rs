//! The shim's binary with a runtime that does as the test says: what no runc can be made to do in the right moment.
#![allow(clippy::unwrap_used)]

mod bench;
mod messages;

use std::{
    fs,
    io::Read as _,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use bench::{Bench, able};
use messages::{Deleted, Empty, Pids, Started};

const NOT_FOUND: i32 = 5;

#[test]
fn a_container_whose_process_is_just_ending_has_that_process() {
    if !able() {
        return;
    }
    // Asked for the processes, the runtime finds none any more.
    let bench = Bench::new("ps) kill -9 $(cat init.pid); sleep 0.2; echo null;;");
    let mut client = bench.client();
    let pid = client.create();
    client.call::<Started>("Start", &bench.whole()).unwrap();
    let pids: Pids = client.call("Pids", &bench.whole()).unwrap();
    assert_eq!(pids.processes.iter().map(|process| process.pid).collect::<Vec<_>>(), [pid]);
}

#[test]
fn a_second_delete_of_an_exec_tells_no_exit_that_was_not() {
    if !able() {
        return;
    }
    let Some(terminal) = bench::terminal_runtime() else { return };
    let bench = Bench::new(&terminal);
    let (mut first, mut second) = (bench.client(), bench.client());
    first.create();
    first.call::<Started>("Start", &bench.whole()).unwrap();
    // Nobody reads its output, so that the deletion takes its time.
    let _reader = bench.fifo("out");
    first.exec("e", true, &bench.bundle().join("out").to_string_lossy());
    first.call::<Started>("Start", &bench.exec("e")).unwrap();
    first.call::<Empty>("Wait", &bench.exec("e")).unwrap();
    first.send("Delete", &bench.exec("e"));
    second.send("Delete", &bench.exec("e"));
    let answers = [first.receive::<Deleted>(), second.receive::<Deleted>()];
    let statuses = answers.map(|answer| answer.map(|deleted| deleted.exit_status));
    assert_eq!(statuses.iter().filter(|answer| **answer == Ok(3)).count(), 1, "{statuses:?}");
    let refused = |answer: &&Result<u32, (i32, String)>| answer.as_ref().is_err_and(|error| error.0 == NOT_FOUND);
    assert_eq!(statuses.iter().filter(refused).count(), 1, "{statuses:?}");
}

#[test]
fn an_exec_whose_terminal_does_not_come_is_ended() {
    if !able() {
        return;
    }
    let bench = Bench::new("exec) sleep 1000 & echo $! >\"$5\"; echo $! >exec.alive;;");
    let mut client = bench.client();
    client.create();
    client.call::<Started>("Start", &bench.whole()).unwrap();
    client.exec("e", true, "");
    let (_, text) = client.call::<Started>("Start", &bench.exec("e")).unwrap_err();
    assert!(text.contains("console master"), "{text}");
    let pid = fs::read_to_string(bench.bundle().join("exec.alive")).unwrap();
    let process = format!("/proc/{}", pid.trim());
    bench.until(|| !fs::exists(&process).unwrap(), "the process has gone");
}

#[test]
fn an_execs_last_words_are_carried_before_the_container_goes() {
    if !able() {
        return;
    }
    let Some(terminal) = bench::terminal_runtime() else { return };
    let bench = Bench::new(&terminal);
    let mut client = bench.client();
    client.create();
    client.call::<Started>("Start", &bench.whole()).unwrap();
    let mut reader = bench.fifo("out");
    client.exec("e", true, &bench.bundle().join("out").to_string_lossy());
    client.call::<Started>("Start", &bench.exec("e")).unwrap();
    client.call::<Empty>("Wait", &bench.exec("e")).unwrap();
    client.kill();
    client.call::<Empty>("Wait", &bench.whole()).unwrap();
    // It waits until somebody takes what the FIFO does not hold; after it the shim goes.
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    });
    client.call::<Deleted>("Delete", &bench.whole()).unwrap();
    client.call::<Empty>("Shutdown", &Empty {}).unwrap();
    let all = late.join().unwrap();
    assert!(all.ends_with(b"last words\r\n"), "{} bytes", all.len());
}

#[test]
fn a_shim_without_a_free_descriptor_rests_and_takes_who_waits_when_there_is_one() {
    if !able() {
        return;
    }
    let bench = Bench::new("");
    let mut client = bench.client();
    client.create();
    let shim = Pid::from_raw(bench.shim()).unwrap();
    let before = getrlimit(Resource::Nofile);
    prlimit(Some(shim), Resource::Nofile, Rlimit { current: Some(3), maximum: before.maximum }).unwrap();
    let waiting = UnixStream::connect(bench.socket()).unwrap();
    let used = bench.ticks();
    std::thread::sleep(Duration::from_secs(1));
    assert!(bench.ticks() - used < 20, "{} of a hundred ticks", bench.ticks() - used);
    prlimit(Some(shim), Resource::Nofile, before).unwrap();
    let began = Instant::now();
    bench.client_over(waiting).call::<Pids>("Pids", &bench.whole()).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5));
}
