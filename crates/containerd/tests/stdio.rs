//! The stdio port with real companions: what is written to the FIFOs is in the log and with the clients, once.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{BufWriter, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use gantry_containerd::stdio::StdioCompanions;
use gantry_domain::{
    ContainerId,
    ports::{AttachRequest, LogFile, LogSink, Stdio as _, StdioPaths, StdioSetup},
};

const ALL: AttachRequest = AttachRequest { stdin: false, stdout: true, stderr: true };

/// Builds the companion beside this test.
fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let profile = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
        let target = profile.parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "gantry-stdio", "--target-dir"]).arg(target);
        assert!(cargo.status().unwrap().success());
        target.join("debug/gantry-stdio")
    };
    BINARY.get_or_init(build).clone()
}

struct Run {
    folder: tempfile::TempDir,
    setup: StdioSetup,
    port: StdioCompanions,
}

impl Run {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = LogFile {
            path: folder.path().join("log"),
            max_size: None,
            max_files: 1,
            compress: false,
            attrs: BTreeMap::new(),
        };
        let setup = StdioSetup {
            id: ContainerId::random(),
            run: 1,
            terminal: false,
            stdin: true,
            stdin_once: true,
            log: LogSink::JsonFile(log),
        };
        let port = StdioCompanions::new(folder.path().join("run"), binary());
        Self { folder, setup, port }
    }

    async fn open(&self) -> StdioPaths {
        self.port.open(&self.setup).await.unwrap()
    }

    /// gantryd dies and another one comes.
    async fn restart(&mut self) {
        self.port = StdioCompanions::new(self.folder.path().join("run"), binary());
        self.port.adopt(&self.setup).await.unwrap();
    }

    fn log(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        let entry = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            (value["stream"].as_str().unwrap().to_owned(), value["log"].as_str().unwrap().to_owned())
        };
        text.lines().map(entry).collect()
    }

    /// The process id of the companion: the one whose folder descriptor path names this run's socket.
    fn companion(&self) -> rustix::process::Pid {
        let socket = self.folder.path().join("run/stdio").join(self.setup.id.as_str()).join("stdio.sock");
        let hello = gantry_wire::stdio::Message::Hello {
            version: gantry_wire::stdio::VERSION,
            role: gantry_wire::stdio::Role::Attach,
            stdin: false,
            stdout: false,
            stderr: false,
        };
        let at = File::open(socket.parent().unwrap()).unwrap();
        let short = format!("/proc/self/fd/{}/stdio.sock", std::os::fd::AsRawFd::as_raw_fd(&at));
        let mut stream = std::os::unix::net::UnixStream::connect(short).unwrap();
        gantry_wire::frame::send(&stream, &hello, &[]).unwrap();
        let (_, data) = gantry_wire::frame::read(&mut stream).unwrap().unwrap();
        match gantry_wire::frame::message(&data).unwrap() {
            gantry_wire::stdio::Message::Welcome { pid, .. } => rustix::process::Pid::from_raw(pid as i32).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn finish(self) {
        self.port.close(&self.setup.id).await.unwrap();
        assert!(self.port.sessions().await.unwrap().is_empty());
    }
}

fn writer(path: &str) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

/// What a container does: numbered lines to stdout.
fn write_lines(path: &str, lines: std::ops::Range<u32>) -> JoinHandle<()> {
    let mut out = BufWriter::new(writer(path));
    thread::spawn(move || lines.for_each(|i| writeln!(out, "{i:06}").unwrap()))
}

fn numbers(log: &[(String, String)]) -> Vec<u32> {
    log.iter().filter(|(stream, _)| stream == "stdout").map(|(_, line)| line.trim().parse().unwrap()).collect()
}

async fn drained(run: &Run) {
    tokio::time::timeout(Duration::from_secs(20), run.port.drained(&run.setup.id)).await.unwrap().unwrap();
}

/// Each gantryd is a runtime of its own here: with it go its tasks and connections, as with the process.
#[test]
fn no_line_is_lost_or_doubled_while_gantryd_comes_and_goes() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut gantryd = runtime();
    let (mut run, paths) = gantryd.block_on(async {
        let run = Run::new();
        let paths = run.open().await;
        (run, paths)
    });
    let err = writer(&paths.stderr);
    let container = write_lines(&paths.stdout, 0..200_000);
    for _ in 0..5 {
        gantryd.shutdown_timeout(Duration::from_secs(1));
        thread::sleep(Duration::from_millis(5));
        gantryd = runtime();
        gantryd.block_on(run.restart());
    }
    container.join().unwrap();
    drop(err);
    gantryd.block_on(async {
        drained(&run).await;
        assert_eq!(numbers(&run.log()), (0..200_000).collect::<Vec<_>>());
        run.finish().await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_companion_costs_a_bounded_gap_that_is_shown() {
    let run = Run::new();
    let paths = run.open().await;
    let err = writer(&paths.stderr);
    let mut deaths = run.port.deaths();
    let mut client = run.port.attach(&run.setup.id, &ALL).await.unwrap();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(chunk) = client.output.next().await {
            seen.push(chunk.unwrap());
        }
        seen
    });
    let container = write_lines(&paths.stdout, 0..200_000);
    rustix::process::kill_process(run.companion(), rustix::process::Signal::KILL).unwrap();
    assert_eq!(deaths.next().await.unwrap(), run.setup.id);
    run.port.adopt(&run.setup).await.unwrap();
    tokio::task::spawn_blocking(|| container.join().unwrap()).await.unwrap();
    drop(err);
    drained(&run).await;
    let log = run.log();
    let gaps: Vec<&String> = log.iter().filter(|(stream, _)| stream == "stderr").map(|(_, line)| line).collect();
    assert_eq!(gaps, ["gantry: up to 65536 bytes of output were lost here: its logger was killed\n"]);
    let out: Vec<String> = log.into_iter().filter(|(stream, _)| stream == "stdout").map(|(_, line)| line).collect();
    let bytes: usize = out.iter().map(String::len).sum();
    assert!(bytes >= 200_000 * 7 - 65536, "{} bytes lost", 200_000 * 7 - bytes);
    assert_eq!(out.last().unwrap(), "199999\n");
    let whole: Vec<u32> = out.iter().filter(|line| line.len() == 7).map(|line| line.trim().parse().unwrap()).collect();
    assert!(whole.is_sorted_by(|a, b| a < b), "doubled or out of order");
    let seen = seen.await.unwrap();
    assert!(seen.last().unwrap().data.ends_with(b"199999\n"), "the client went on with the successor");
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_companion_did_not_read_survives_the_containers_end() {
    let run = Run::new();
    let paths = run.open().await;
    let (mut out, err) = (writer(&paths.stdout), writer(&paths.stderr));
    let pid = run.companion();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    out.write_all(b"last words\n").unwrap();
    drop((out, err));
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drained(&run).await;
    assert_eq!(run.log().last().unwrap().1, "last words\n");
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_makes_the_container_wait_and_gets_every_byte() {
    let run = Run::new();
    let paths = run.open().await;
    let err = writer(&paths.stderr);
    let mut quick = run.port.attach(&run.setup.id, &ALL).await.unwrap().output;
    let mut slow = run.port.attach(&run.setup.id, &ALL).await.unwrap().output;
    let (lines, size) = (700_000u32, 4_900_000);
    let container = write_lines(&paths.stdout, 0..lines);
    let quick = tokio::spawn(async move {
        let mut bytes = Vec::new();
        while let Some(chunk) = quick.next().await {
            bytes.extend_from_slice(&chunk.unwrap().data);
        }
        bytes
    });
    // Nobody reads the slow one: the container stops somewhere.
    let log = run.folder.path().join("log");
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = log.metadata().unwrap().len();
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(!container.is_finished() && !quick.is_finished());
    let mut bytes = Vec::new();
    while let Some(chunk) = slow.next().await {
        bytes.extend_from_slice(&chunk.unwrap().data);
        if bytes.len() == size {
            break;
        }
    }
    tokio::task::spawn_blocking(|| container.join().unwrap()).await.unwrap();
    drop(err);
    drained(&run).await;
    assert_eq!(bytes, quick.await.unwrap());
    assert_eq!(run.log().len(), lines as usize);
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_late_gets_every_byte_of_its_run_and_none_of_the_next() {
    let mut run = Run::new();
    let paths = run.open().await;
    let err = writer(&paths.stderr);
    let mut late = run.port.attach(&run.setup.id, &ALL).await.unwrap().output;
    let container = write_lines(&paths.stdout, 0..280_000);
    tokio::task::spawn_blocking(|| container.join().unwrap()).await.unwrap();
    drop(err);
    drained(&run).await;
    assert_eq!(numbers(&run.log()), (0..280_000).collect::<Vec<_>>());
    run.port.close(&run.setup.id).await.unwrap();
    run.setup.run = 2;
    let paths = run.open().await;
    writer(&paths.stdout).write_all(b"of the next run\n").unwrap();
    let mut seen = Vec::new();
    while let Some(chunk) = late.next().await {
        seen.extend_from_slice(&chunk.unwrap().data);
    }
    let expected: String = (0..280_000).map(|i| format!("{i:06}\n")).collect();
    assert!(seen == expected.as_bytes(), "{} of {} bytes", seen.len(), expected.len());
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_gone_holds_nobody_up() {
    let run = Run::new();
    let paths = run.open().await;
    let err = writer(&paths.stderr);
    let gone = run.port.attach(&run.setup.id, &ALL).await.unwrap();
    drop(gone);
    let container = write_lines(&paths.stdout, 0..400_000);
    tokio::task::spawn_blocking(|| container.join().unwrap()).await.unwrap();
    drop(err);
    drained(&run).await;
    assert_eq!(run.log().len(), 400_000);
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_joins_exactly_where_the_log_ends() {
    let run = Run::new();
    let paths = run.open().await;
    let (mut out, err) = (writer(&paths.stdout), writer(&paths.stderr));
    let mut first = run.port.attach(&run.setup.id, &ALL).await.unwrap();
    assert_eq!(first.log_position, Some(0));
    out.write_all(b"one\ntw").unwrap();
    assert_eq!(first.output.next().await.unwrap().unwrap().data, "one\ntw");
    let mut second = run.port.attach(&run.setup.id, &ALL).await.unwrap();
    let log = std::fs::read(run.folder.path().join("log")).unwrap();
    assert_eq!(second.log_position, Some(log.len() as u64));
    assert_eq!(run.log().into_iter().map(|(_, line)| line).collect::<String>(), "one\ntw");
    out.write_all(b"o\n").unwrap();
    assert_eq!(second.output.next().await.unwrap().unwrap().data, "o\n");
    drop((out, err));
    drained(&run).await;
    assert!(second.output.next().await.is_none(), "the end of the run is the end of the stream");
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_clients_end_of_input_is_the_containers() {
    let run = Run::new();
    let paths = run.open().await;
    let mut ends = run.port.stdin_ends();
    let request = AttachRequest { stdin: true, ..ALL };
    // More than the pipe holds: the client waits until the container reads.
    let input: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let dropped = run.port.attach(&run.setup.id, &request).await.unwrap();
    drop(dropped);
    let mut stdin = run.port.attach(&run.setup.id, &request).await.unwrap().stdin.unwrap();
    let path = paths.stdin.clone();
    let container = thread::spawn(move || {
        let mut read = Vec::new();
        File::open(path).unwrap().read_to_end(&mut read).unwrap();
        read
    });
    for piece in input.chunks(100_000) {
        stdin.send(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    stdin.close().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), ends.next()).await.unwrap();
    assert_eq!(ended, Some(run.setup.id.clone()));
    assert_eq!(container.join().unwrap(), input);
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_never_sees_the_end_of_input() {
    let mut run = Run::new();
    run.setup.terminal = true;
    let paths = run.open().await;
    assert_eq!(paths.stderr, "");
    let mut container = File::open(&paths.stdin).unwrap();
    let request = AttachRequest { stdin: true, ..ALL };
    for text in ["first", "then"] {
        let mut client = run.port.attach(&run.setup.id, &request).await.unwrap();
        let mut stdin = client.stdin.take().unwrap();
        stdin.send(Bytes::from(text)).await.unwrap();
        stdin.close().await.unwrap();
        let mut read = vec![0; text.len()];
        container.read_exact(&mut read).unwrap();
        assert_eq!(read, text.as_bytes());
    }
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_without_gantryd_is_known_to_the_next() {
    let mut run = Run::new();
    let paths = run.open().await;
    let (mut out, err) = (writer(&paths.stdout), writer(&paths.stderr));
    let pid = run.companion();
    // gantryd is away from here on.
    run.port = StdioCompanions::new(run.folder.path().join("elsewhere"), binary());
    out.write_all(b"done").unwrap();
    drop((out, err));
    let ended = run.folder.path().join("run/stdio").join(run.setup.id.as_str()).join("ended");
    while !ended.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_gone(pid).await;
    run.restart().await;
    drained(&run).await;
    assert_eq!(run.log(), [("stdout".to_owned(), "done".to_owned())], "no gap is claimed");
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_after_both_died_finds_the_end() {
    let mut run = Run::new();
    let paths = run.open().await;
    let (out, err) = (writer(&paths.stdout), writer(&paths.stderr));
    let pid = run.companion();
    run.port = StdioCompanions::new(run.folder.path().join("elsewhere"), binary());
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_gone(pid).await;
    drop((out, err));
    run.restart().await;
    drained(&run).await;
    assert_eq!(run.log().len(), 1, "the gap");
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_ends_the_companion_and_leaves_nothing() {
    let run = Run::new();
    run.open().await;
    run.open().await;
    let pid = run.companion();
    let stream = run.port.attach(&run.setup.id, &ALL).await.unwrap();
    run.port.close(&run.setup.id).await.unwrap();
    wait_gone(pid).await;
    drop(stream);
    assert!(run.port.attach(&run.setup.id, &ALL).await.err().unwrap().is_not_found());
    run.port.close(&run.setup.id).await.unwrap();
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_opened_fails_the_open_and_leaves_nothing() {
    let mut run = Run::new();
    if let LogSink::JsonFile(file) = &mut run.setup.log {
        file.path = PathBuf::from("/dev/null/log");
    }
    let error = run.port.open(&run.setup).await.unwrap_err();
    assert!(error.message().contains("/dev/null/log"), "{error}");
    assert!(run.port.sessions().await.unwrap().is_empty());
}

async fn wait_gone(pid: rustix::process::Pid) {
    let proc = format!("/proc/{}/stat", pid.as_raw_nonzero());
    // A zombie of ours is reaped by the runtime.
    while std::fs::read_to_string(Path::new(&proc)).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_that_ended_before_the_container_came_is_there() {
    let run = Run::new();
    let paths = run.open().await;
    let mut ends = run.port.stdin_ends();
    let request = AttachRequest { stdin: true, ..ALL };
    let mut stdin = run.port.attach(&run.setup.id, &request).await.unwrap().stdin.unwrap();
    stdin.send(Bytes::from("x\n")).await.unwrap();
    stdin.close().await.unwrap();
    ends.next().await.unwrap();
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut container = OpenOptions::new().read(true).custom_flags(flags).open(&paths.stdin).unwrap();
    let mut read = String::new();
    container.read_to_string(&mut read).unwrap();
    assert_eq!(read, "x\n");
    run.finish().await;
}
