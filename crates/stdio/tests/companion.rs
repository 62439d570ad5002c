//! The built companion, driven by its protocol alone.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use gantry_logs::{End, Query, Reader};
use gantry_wire::{
    frame,
    stdio::{Assign, Log, LogFormat, Message, Role, SOCKET, VERSION},
};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

struct Companion {
    folder: tempfile::TempDir,
    control: UnixStream,
    child: Child,
    out: Option<File>,
}

impl Companion {
    /// One with stdout only, on a pipe.
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Log)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (control, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry-stdio"));
        let child = command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let _ = rustix::pipe::fcntl_setpipe_size(&read, 1 << 20);
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let mut log = Log {
            format: LogFormat::JsonFile,
            path: folder.path().join("log"),
            max_size: None,
            max_files: 1,
            compress: false,
            attrs: BTreeMap::new(),
        };
        change(&mut log);
        let assign = Message::Assign(Assign {
            version: VERSION,
            id: "x".into(),
            run: 1,
            folder: folder.path().to_owned(),
            terminal: false,
            stdin: false,
            stdin_once: false,
            stderr: false,
            log: Some(log),
            successor: false,
        });
        frame::send(&control, &assign, &[listener.as_fd(), read.as_fd()]).unwrap();
        let companion = Self { folder, control, child, out: Some(File::from(write)) };
        assert!(matches!(companion.message(), Message::Ready { .. }));
        companion
    }

    fn message(&self) -> Message {
        let (_, data) = frame::read(&mut &self.control).unwrap().unwrap();
        frame::message(&data).unwrap()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn write(&mut self, text: &str) {
        self.out.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Joins and leaves again: what was written before has been read when the answer comes.
    fn settle(&self) -> UnixStream {
        let mut client = UnixStream::connect(self.folder.path().join(SOCKET)).unwrap();
        let hello = Message::Hello { version: VERSION, role: Role::Attach, stdin: false, stdout: true, stderr: true };
        frame::send(&client, &hello, &[]).unwrap();
        frame::read(&mut client).unwrap().unwrap();
        client
    }

    fn end(&mut self) {
        self.out = None;
        assert_eq!(self.message(), Message::End);
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let _ = frame::send(&self.control, &Message::Quit, &[]);
        let _ = self.child.wait();
    }
}

#[test]
fn a_full_disk_loses_counted_lines_and_stops_nobody() {
    let mut companion = Companion::new();
    companion.write("kept\n");
    drop(companion.settle());
    let size = companion.log().metadata().unwrap().len();
    let room = |bytes| Rlimit { current: bytes, maximum: None };
    // In the middle of the second of these entries.
    prlimit(Some(companion.pid()), Resource::Fsize, room(Some(size + 100))).unwrap();
    companion.write("a\nb\nc\n");
    drop(companion.settle());
    companion.write("d\n");
    drop(companion.settle());
    prlimit(Some(companion.pid()), Resource::Fsize, room(None)).unwrap();
    companion.write("back\n");
    companion.end();
    let text = fs::read_to_string(companion.log()).unwrap();
    let lines: Vec<&str> = text.lines().map(|line| line.split("\\n\"").next().unwrap()).collect();
    let gap = "{\"log\":\"gantry: 3 lines of output were lost here: File too large (os error 27)";
    assert_eq!(lines, ["{\"log\":\"kept", "{\"log\":\"a", gap, "{\"log\":\"back"]);
}

#[test]
fn rotated_files_are_compressed_beside_and_nothing_is_missing_between_them() {
    let mut companion = Companion::with(|log| {
        (log.max_size, log.max_files, log.compress) = (Some(300_000), 3, true);
    });
    let lines = 50_000;
    (0..lines).step_by(500).for_each(|start| {
        let block: String = (start..start + 500).map(|i| format!("{i:05}\n")).collect();
        companion.write(&block);
    });
    companion.end();
    frame::send(&companion.control, &Message::Quit, &[]).unwrap();
    assert!(companion.child.wait().unwrap().success(), "it waits for the compression");
    let mut names: Vec<String> =
        fs::read_dir(companion.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["ended", "log", "log.1.gz", "log.2.gz", SOCKET]);
    let mut reader = Reader::open(&companion.log(), Query::default(), End::Now).unwrap();
    let mut read = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        read.extend(batch.iter().map(|(_, line)| std::str::from_utf8(line).unwrap().trim().parse::<u32>().unwrap()));
    }
    assert!(read.len() > 4000 && read[0] > 0);
    assert_eq!(read, (read[0]..lines).collect::<Vec<_>>());
}

#[test]
fn a_client_that_reads_late_gets_every_byte_after_the_exit_and_holds_nobody_up() {
    let mut companion = Companion::new();
    let mut client = companion.settle();
    // More than the client's sockets and its buffer take: a part waits in the pipe.
    let text: String = (0..280_000).map(|i| format!("{i:06}\n")).collect();
    companion.write(&text);
    companion.out = None;
    frame::send(&companion.control, &Message::TaskExited, &[]).unwrap();
    assert_eq!(companion.message(), Message::End);
    frame::send(&companion.control, &Message::Quit, &[]).unwrap();
    assert_eq!(companion.message(), Message::Released);
    assert!(frame::read(&mut &companion.control).unwrap().is_none(), "gantryd is let go");
    let log = fs::read_to_string(companion.log()).unwrap();
    assert_eq!(log.lines().count(), 280_000, "the log waits for no client");
    assert!(companion.child.try_wait().unwrap().is_none(), "it has a client to serve");
    let mut read = Vec::new();
    loop {
        match frame::read(&mut client).unwrap().unwrap() {
            (1, data) => read.extend(data),
            (frame::CONTROL, data) => {
                assert_eq!(frame::message::<Message>(&data).unwrap(), Message::End);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(read == text.as_bytes());
    assert!(companion.child.wait().unwrap().success());
}

#[test]
fn output_after_the_run_is_over_is_cut_with_a_note() {
    let mut companion = Companion::new();
    let client = companion.settle();
    let mut out = companion.out.take().unwrap();
    // It outlives the task, and writes as fast as it is read.
    let writer = std::thread::spawn(move || while out.write_all(&[b'\n'; 64 << 10]).is_ok() {});
    frame::send(&companion.control, &Message::TaskExited, &[]).unwrap();
    frame::send(&companion.control, &Message::Quit, &[]).unwrap();
    while companion.message() != Message::Released {}
    let log = fs::read_to_string(companion.log()).unwrap();
    drop(client);
    assert!(companion.child.wait().unwrap().success());
    writer.join().unwrap();
    let last = log.lines().last().unwrap();
    assert!(last.contains("gantry: what was written after this point is not kept"), "{last}");
}

#[test]
fn signals_do_not_end_it_while_the_container_lives() {
    let mut companion = Companion::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::PIPE] {
        kill_process(companion.pid(), signal).unwrap();
    }
    companion.write("alive\n");
    drop(companion.settle());
    assert!(fs::read_to_string(companion.log()).unwrap().contains("alive"));
    companion.end();
    kill_process(companion.pid(), Signal::TERM).unwrap();
    assert!(companion.child.wait().unwrap().success(), "after the end it goes when asked");
}

#[test]
fn a_spare_ends_with_its_gantryd() {
    let (control, theirs) = UnixStream::pair().unwrap();
    let mut spare = Command::new(env!("CARGO_BIN_EXE_gantry-stdio")).stdin(OwnedFd::from(theirs)).spawn().unwrap();
    drop(control);
    assert!(spare.wait().unwrap().success());
}

#[test]
fn memory_does_not_grow_with_what_flows_through() {
    let mut companion = Companion::new();
    let block: String = (0..600).map(|i| format!("{i:099}\n")).collect();
    let mut client = companion.settle();
    let reader = std::thread::spawn(move || client.read_to_end(&mut Vec::new()).map(|_| ()));
    for _ in 0..300 {
        companion.write(&block);
    }
    companion.end();
    let resident = companion.resident_kib();
    // The bound is for what is shipped; without optimisation the program alone is larger.
    assert!(resident <= if cfg!(debug_assertions) { 4096 } else { 1536 }, "{resident} KiB resident");
    drop(companion);
    reader.join().unwrap().unwrap();
}

/// `cargo test -p gantry-stdio --profile companion -- --ignored --nocapture` prints the figures.
#[test]
#[ignore = "a measurement"]
fn sixty_four_mib_in_lines_of_100_bytes() {
    let mut companion = Companion::new();
    println!("idle: {} KiB resident", companion.resident_kib());
    let block: String = (0..640).map(|i| format!("{i:099}\n")).collect();
    let start = Instant::now();
    for _ in 0..(64 << 20) / block.len() {
        companion.write(&block);
    }
    companion.end();
    let took = start.elapsed();
    let stat = fs::read_to_string(format!("/proc/{}/stat", companion.child.id())).unwrap();
    let ticks: Vec<u64> = stat.split(' ').skip(13).take(2).map(|ticks| ticks.parse().unwrap()).collect();
    println!("64 MiB in {took:?}; user {}0 ms, system {}0 ms", ticks[0], ticks[1]);
    println!(
        "after: {} KiB resident, log of {} bytes",
        companion.resident_kib(),
        companion.log().metadata().unwrap().len()
    );
}
