//! gantry-logship: delivers the logs of containers with a remote driver. It follows each container's local log, remembers
//! in a file how far it came, and tries again for as long as the other side is away, so that neither a death nor a
//! network that is down loses a line; what may happen is that one is delivered twice.
//!
//! `gantry-logship FOLDER` with the folder's lock as standard input. What is to do lies in the folder
//! (`gantry_wire::ship`); when there is nothing any more it ends.

use std::{path::PathBuf, process::ExitCode};

mod address;
mod connection;
mod cursor;
mod drivers;
mod jobs;
mod line;
mod tls;
mod worker;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: gantry-logship FOLDER");
        return ExitCode::from(2);
    };
    // A session of its own: Ctrl-C at gantryd's terminal ends gantryd alone. Fails only where it already leads one.
    let _ = rustix::process::setsid();
    match jobs::Jobs::open(folder).and_then(jobs::Jobs::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry-logship: {error}");
            ExitCode::FAILURE
        }
    }
}
