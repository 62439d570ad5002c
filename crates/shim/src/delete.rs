//! `delete`: containerd's last call for an id, after a daemon has gone, in order or not. It ends what is left, and prints
//! an exit for the case that nobody has seen the true one.

use std::{
    fs, io,
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use rustix::process::{WaitOptions, waitpid};

use crate::{
    args::Args,
    container::INIT_PID_FILE,
    host::mounts,
    proto::{options::Options, task::Deleted},
    runc::{Runtime, pid_file},
    start::socket_of,
};

/// By SIGKILL.
const KILLED: u32 = 137;

pub(crate) fn delete(args: &Args) -> io::Result<()> {
    let bundle = if args.bundle.as_os_str().is_empty() { std::env::current_dir()? } else { args.bundle.clone() };
    let options = Options::read(&bundle);
    let runtime = Runtime::new(&options, &args.namespace, &bundle);
    // Nothing is left of a container that was deleted in order: starting the runtime would be most of the time. What keeps
    // its state in other places is asked.
    if (!runtime.signals_directly() || runtime.knows(&args.id))
        && let Err(why) = force(&runtime, &args.id)
    {
        warn(&why);
    }
    if let Err(error) = mounts::unmount_all(&bundle.join("rootfs")) {
        warn(&format!("the root file system stays mounted: {error}"));
    }
    if let Some(socket) = socket_of(&bundle) {
        let _ = fs::remove_file(socket);
    }
    let pid = pid_file(&bundle.join(INIT_PID_FILE)).ok().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or_default();
    let nanos = i32::try_from(now.subsec_nanos()).unwrap_or_default();
    let exited_at = Some(prost_types::Timestamp { seconds, nanos });
    io::stdout().write_all(&Deleted { pid, exit_status: KILLED, exited_at }.encode_to_vec())
}

fn force(runtime: &Runtime, id: &str) -> Result<(), String> {
    let told = |failure: crate::runc::Failure| failure.told("failed to remove the runtime's container");
    let call = runtime.call(["delete", "--force", id]).keeping_output().map_err(|error| error.to_string())?;
    let (pid, running) = call.spawn().map_err(told)?;
    let status = loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => break status,
            Err(rustix::io::Errno::INTR) | Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
    };
    let code = status.exit_status().and_then(|code| u32::try_from(code).ok()).unwrap_or(KILLED);
    running.ended(code).map(drop).map_err(told)
}

/// containerd logs it.
fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
