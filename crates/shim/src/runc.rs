//! The OCI runtime as a program: its command lines, and what its failures are told as. Source: runc's man pages; the
//! texts are those of containerd's go-runc, which Docker's clients look at.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::{fs::MemfdFlags, process::Pid};
use serde::Deserialize;

use crate::{host::process, proto::options::Options};

/// What of a failed program's output is told.
const OUTPUT: u64 = 16 << 10;

/// A runtime, set up for one container.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    program: String,
    root: String,
    systemd_cgroup: bool,
    bundle: PathBuf,
}

impl Runtime {
    pub(crate) fn new(options: &Options, namespace: &str, bundle: &Path) -> Self {
        let program = if options.binary_name.is_empty() { "runc" } else { &options.binary_name };
        Self {
            program: program.to_owned(),
            root: options.runtime_root(namespace),
            systemd_cgroup: options.systemd_cgroup,
            bundle: bundle.to_owned(),
        }
    }

    /// Whether a signal to the first process is all that its `kill` does. A runtime with a sandbox around the
    /// container, or a script before it, is asked.
    pub(crate) fn signals_directly(&self) -> bool {
        let name = Path::new(&self.program).file_name().and_then(|name| name.to_str());
        matches!(name, Some("runc" | "crun" | "youki"))
    }

    /// Where runc lets the first process wait between create and start; other runtimes have ways of their own.
    pub(crate) fn gate(&self, id: &str) -> Option<PathBuf> {
        let name = Path::new(&self.program).file_name()?;
        (name == "runc").then(|| Path::new(&self.root).join(id).join("exec.fifo"))
    }

    /// Whether it knows of the container: its state is a folder.
    pub(crate) fn knows(&self, id: &str) -> bool {
        Path::new(&self.root).join(id).exists()
    }

    /// A call of the runtime, with a log of its own, for others may run beside it.
    pub(crate) fn call<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Call {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let log = format!("log.{}.json", LAST.fetch_add(1, Ordering::Relaxed));
        Call { passing: true, ..self.logged_call(words, &log) }
    }

    /// A call whose log has this name, and stays.
    pub(crate) fn logged_call<'a>(&self, words: impl IntoIterator<Item = &'a str>, log: &str) -> Call {
        let log = self.bundle.join(log);
        let mut command = Command::new(&self.program);
        command.args(["--root", &self.root, "--log"]).arg(&log).args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let told = fs::metadata(&log).map_or(0, |meta| meta.len());
        Call { program: self.program.clone(), command, log, passing: false, told, output: None }
    }
}

/// One run of the runtime.
#[derive(Debug)]
pub(crate) struct Call {
    program: String,
    command: Command,
    log: PathBuf,
    /// Nobody needs the log when the run has ended.
    passing: bool,
    /// What of the log is of earlier runs.
    told: u64,
    output: Option<File>,
}

impl Call {
    /// Gives it streams of a container; those that are missing are `/dev/null`.
    pub(crate) fn with_streams(mut self, streams: [Option<OwnedFd>; 3]) -> Self {
        let [stdin, stdout, stderr] = streams.map(|fd| fd.map_or_else(Stdio::null, Stdio::from));
        self.command.stdin(stdin).stdout(stdout).stderr(stderr);
        self
    }

    pub(crate) fn with_input(mut self, bytes: &[u8]) -> io::Result<Self> {
        let mut file = memory()?;
        io::Write::write_all(&mut file, bytes)?;
        file.rewind()?;
        self.command.stdin(file);
        Ok(self)
    }

    /// Keeps what it prints, for it is the answer, or the reason of a failure that did not reach the log.
    pub(crate) fn keeping_output(mut self) -> io::Result<Self> {
        let file = memory()?;
        self.command.stdout(file.try_clone()?).stderr(file.try_clone()?);
        self.output = Some(file);
        Ok(self)
    }

    /// Starts it. The descriptors that it was given are closed here.
    pub(crate) fn spawn(mut self) -> Result<(Pid, Running), Failure> {
        let spawned = process::spawn(&mut self.command);
        let Self { program, log, passing, told, output, .. } = self;
        let running = Running { program, log, passing, told, output };
        match spawned {
            Ok(pid) => Ok((pid, running)),
            Err(error) => {
                let error = not_started(&running.program, &error);
                Err(Failure { error, log: running.last_error() })
            }
        }
    }
}

fn memory() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?))
}

fn not_started(program: &str, error: &io::Error) -> String {
    let reason = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOENT) if !program.contains('/') => {
            return format!("exec: {program:?}: executable file not found in $PATH");
        }
        Some(rustix::io::Errno::NOENT) => "no such file or directory".to_owned(),
        Some(rustix::io::Errno::ACCESS) => "permission denied".to_owned(),
        Some(rustix::io::Errno::NOEXEC) => "exec format error".to_owned(),
        _ => error.to_string(),
    };
    format!("fork/exec {program}: {reason}")
}

/// A run that has begun.
#[derive(Debug)]
pub(crate) struct Running {
    program: String,
    log: PathBuf,
    passing: bool,
    told: u64,
    output: Option<File>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.passing {
            let _ = fs::remove_file(&self.log);
        }
    }
}

impl Running {
    /// What it has printed, when it has ended as it should.
    pub(crate) fn ended(mut self, status: u32) -> Result<String, Failure> {
        let output = self.output.take().map(printed).unwrap_or_default();
        if status == 0 {
            return Ok(output);
        }
        let error = format!("{} did not terminate successfully: exit status {status}: {}", self.program, output.trim());
        Err(Failure { error: error.trim_end_matches([' ', ':']).to_owned(), log: self.last_error() })
    }

    /// The last error in the log, an error of reading it apart.
    fn last_error(&self) -> Result<Option<String>, String> {
        let read = || {
            let mut file = File::open(&self.log)?;
            file.seek(io::SeekFrom::Start(self.told))?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => format!("open {}: no such file or directory", self.log.display()),
            _ => error.to_string(),
        })?;
        Ok(last_error(&text))
    }
}

fn printed(mut file: File) -> String {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(OUTPUT).read_to_end(&mut bytes));
    if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() }
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

fn last_error(log: &str) -> Option<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let message = lines.rev().find(|line| line.level == "error")?.msg;
    Some(message.trim().to_owned()).filter(|message| !message.is_empty())
}

/// Why a run failed: what the system says, and what the runtime says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    error: String,
    log: Result<Option<String>, String>,
}

impl Failure {
    pub(crate) fn of(error: &io::Error) -> Self {
        Self { error: error.to_string(), log: Ok(None) }
    }

    /// The failure of `what`, as the Go shim tells it.
    pub(crate) fn told(&self, what: &str) -> String {
        match &self.log {
            Ok(Some(message)) => format!("{what}: {message}"),
            Ok(None) => format!("{what}: {}", self.error),
            Err(why) => format!("{what}: unable to retrieve OCI runtime error ({why}): {}", self.error),
        }
    }

    /// All that is known of it, for words to be looked for.
    pub(crate) fn text(&self) -> String {
        let log = self.log.as_ref().ok().and_then(Option::as_deref).unwrap_or_default();
        format!("{}: {log}", self.error)
    }
}

/// The process id that a runtime has left in a file.
pub(crate) fn pid_file(path: &Path) -> io::Result<i32> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::Error::other(format!("{}: not a process id", path.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_error_of_the_log_is_told() {
        let log = r#"{"level":"warning","msg":"w","time":"t"}
{"level":"error","msg":"first"}
{"level":"error","msg":"runc create failed: exec: \"x\": not found ","time":"t"}
{"level":"info","msg":"i"}
half a li"#;
        let failure = Failure { error: "exit status 1".into(), log: Ok(last_error(log)) };
        let told = failure.told("OCI runtime create failed");
        assert_eq!(told, r#"OCI runtime create failed: runc create failed: exec: "x": not found"#);
    }

    #[test]
    fn a_program_that_is_not_there_is_told_as_go_tells_it() {
        let options = Options { binary_name: "/no/such/runtime".into(), ..Options::default() };
        let runtime = Runtime::new(&options, "ns", Path::new("/no/bundle"));
        let failure = runtime.logged_call(["create"], "log.json").spawn().unwrap_err();
        assert_eq!(
            failure.told("OCI runtime create failed"),
            "OCI runtime create failed: unable to retrieve OCI runtime error (open /no/bundle/log.json: no such file \
             or directory): fork/exec /no/such/runtime: no such file or directory"
        );
    }

    #[test]
    fn what_an_earlier_run_logged_is_not_told_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log.json"), "{\"level\":\"error\",\"msg\":\"old\"}\n").unwrap();
        let options = Options { binary_name: "false".into(), ..Options::default() };
        let call = Runtime::new(&options, "ns", dir.path()).logged_call(["create"], "log.json");
        let (pid, running) = call.keeping_output().unwrap().spawn().unwrap();
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
        let failure = running.ended(1).unwrap_err();
        assert_eq!(failure.told("x"), "x: false did not terminate successfully: exit status 1");
    }

    #[test]
    fn calls_beside_each_other_are_told_by_their_own_logs_which_do_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("runtime");
        // --root R --log L --log-format json WORD
        fs::write(&program, "#!/bin/sh\nsleep 0.2; echo '{\"level\":\"error\",\"msg\":\"'$7'\"}' >>$4; exit 1\n")
            .unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let options = Options { binary_name: program.to_string_lossy().into_owned(), ..Options::default() };
        let runtime = Runtime::new(&options, "ns", dir.path());
        let both = ["pause", "kill"].map(|word| runtime.call([word]).spawn().unwrap());
        let told = both.map(|(pid, running)| {
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
            running.ended(1).unwrap_err().told("x")
        });
        assert_eq!(told, ["x: pause", "x: kill"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the runtime alone");
    }

    #[test]
    fn only_runtimes_without_a_sandbox_are_signalled_directly() {
        let direct = |program: &str| {
            let options = Options { binary_name: program.into(), ..Options::default() };
            Runtime::new(&options, "ns", Path::new("/b")).signals_directly()
        };
        assert!(direct("") && direct("/usr/sbin/crun"));
        assert!(!direct("runsc") && !direct("/run/wrappers/6162"));
    }
}
