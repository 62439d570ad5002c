//! A shim with a bundle, a runtime that is a script, and a client of its socket.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::{
        fs::{OpenOptionsExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use prost::Message;
use prost_types::Any;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat},
    process::{Pid, Signal, kill_process},
};

use crate::messages::{Create, Empty, Exec, OfProcess, Options, Request, Response, Started};

const SOON: Duration = Duration::from_secs(20);
const ID: &str = "one";

/// Sockets of shims are below /run/containerd.
pub fn able() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: root: false");
    }
    root
}

/// An exec that writes a little more to its terminal than a FIFO holds, and ends with 3; nothing but a program can hand a terminal out.
pub fn terminal_runtime() -> Option<String> {
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|path| Path::new(path).exists());
    let Some(python) = python else {
        eprintln!("SKIPPED: missing: python3");
        return None;
    };
    Some(format!(
        "exec) {python} -c '
import array, os, pty, socket, sys
pid_file, name = sys.argv[1:]
master, slave = pty.openpty()
s = socket.socket(socket.AF_UNIX)
s.connect(name)
s.sendmsg([b\"pts\"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array(\"i\", [master]))])
pid = os.fork()
if pid:
    open(pid_file, \"w\").write(str(pid))
    os._exit(0)
os.close(master)
line = b\"x\" * 99 + b\"\\n\"
for _ in range(700):
    os.write(slave, line)
os.write(slave, b\"last words\\n\")
os._exit(3)
' \"$5\" \"$8\";;"
    ))
}

pub struct Bench {
    dir: tempfile::TempDir,
    socket: PathBuf,
    shim: i32,
}

impl Bench {
    /// `verbs` are branches of a shell's `case` over the runtime's verb; `$2` and on are its words.
    pub fn new(verbs: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("gsh").tempdir().unwrap();
        let bundle = dir.path().join("bundle");
        fs::create_dir(&bundle).unwrap();
        fs::write(bundle.join("config.json"), r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#).unwrap();
        let script = format!(
            "#!/bin/sh
shift 6
case $1 in
{verbs}
create) sleep 1000 & echo $! >init.pid;;
esac
exit 0
"
        );
        let runtime = dir.path().join("runtime");
        fs::write(&runtime, script).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
        let started = Command::new(env!("CARGO_BIN_EXE_containerd-shim-gantry-v1"))
            .args(["-namespace", "test", "-id", ID, "-address"])
            .arg(dir.path())
            .arg("start")
            .current_dir(&bundle)
            .env_remove("TTRPC_ADDRESS")
            .output()
            .unwrap();
        let address = String::from_utf8(started.stdout).unwrap();
        let socket = address.strip_prefix("unix://").expect(&address).into();
        let shim = daemon_of(&bundle);
        Self { dir, socket, shim }
    }

    pub fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn shim(&self) -> i32 {
        self.shim
    }

    /// Processor time that the shim has used, in hundredths of a second.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.shim)).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    pub fn client(&self) -> Client<'_> {
        self.client_over(UnixStream::connect(&self.socket).unwrap())
    }

    pub fn client_over(&self, socket: UnixStream) -> Client<'_> {
        socket.set_read_timeout(Some(SOON)).unwrap();
        Client { bench: self, socket, stream: 1 }
    }

    pub fn whole(&self) -> OfProcess {
        self.exec("")
    }

    pub fn exec(&self, exec: &str) -> OfProcess {
        OfProcess { id: ID.into(), exec_id: exec.into() }
    }

    /// The reading end of a new FIFO in the bundle.
    pub fn fifo(&self, name: &str) -> File {
        let path = self.bundle().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap();
        fcntl_setfl(&file, fcntl_getfl(&file).unwrap() - OFlags::NONBLOCK).unwrap();
        file
    }

    pub fn until(&self, holds: impl Fn() -> bool, what: &str) {
        let limit = Instant::now() + SOON;
        while !holds() {
            assert!(Instant::now() < limit, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Bench {
    /// The shim, whatever it has started, and its socket.
    fn drop(&mut self) {
        let path = format!("/proc/{0}/task/{0}/children", self.shim);
        let children = fs::read_to_string(path).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        for pid in children.chain([self.shim]).filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = fs::remove_file(&self.socket);
    }
}

/// The process that works in this bundle.
fn daemon_of(bundle: &Path) -> i32 {
    let bundle = bundle.canonicalize().unwrap();
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found = numbers.filter(|pid: &i32| {
        let named = fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("shim-gantry"));
        named && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == bundle)
    });
    found.next().expect("a daemon stays")
}

pub struct Client<'a> {
    bench: &'a Bench,
    socket: UnixStream,
    stream: u32,
}

/// gRPC's code and the text.
type Answer<M> = Result<M, (i32, String)>;

impl Client<'_> {
    /// The container's first process.
    pub fn create(&mut self) -> u32 {
        let dir = self.bench.dir.path();
        let text = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let options = Options { binary_name: text("runtime"), root: text("root") };
        let options = Any { type_url: "containerd.runc.v1.Options".into(), value: options.encode_to_vec() };
        let request = Create { id: ID.into(), bundle: text("bundle"), options: Some(options) };
        self.call::<Started>("Create", &request).unwrap().pid
    }

    pub fn exec(&mut self, exec: &str, terminal: bool, stdout: &str) {
        let spec = Any { type_url: String::new(), value: br#"{"args":["x"]}"#.to_vec() };
        let stdout = stdout.to_owned();
        let request = Exec { id: ID.into(), exec_id: exec.into(), terminal, stdout, spec: Some(spec) };
        self.call::<Empty>("Exec", &request).unwrap();
    }

    /// Ends the container's first process.
    pub fn kill(&mut self) {
        let pid = fs::read_to_string(self.bench.bundle().join("init.pid")).unwrap();
        kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    }

    pub fn call<M: Message + Default>(&mut self, method: &str, message: &impl Message) -> Answer<M> {
        self.send(method, message);
        self.receive()
    }

    pub fn send(&mut self, method: &str, message: &impl Message) {
        let service = "containerd.task.v2.Task".to_owned();
        let body = Request { service, method: method.into(), payload: message.encode_to_vec() }.encode_to_vec();
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(self.stream.to_be_bytes());
        frame.extend([1, 0]);
        frame.extend(body);
        self.stream += 2;
        self.socket.write_all(&frame).unwrap();
    }

    pub fn receive<M: Message + Default>(&mut self) -> Answer<M> {
        let mut header = [0; 10];
        self.socket.read_exact(&mut header).unwrap();
        let mut body = vec![0; u32::from_be_bytes(header[..4].try_into().unwrap()) as usize];
        self.socket.read_exact(&mut body).unwrap();
        let response = Response::decode(&body[..]).unwrap();
        match response.status.filter(|status| status.code != 0) {
            Some(status) => Err((status.code, status.message)),
            None => Ok(M::decode(&response.payload[..]).unwrap()),
        }
    }
}
