//! A shim for containerd that is small and quick: it stands between containerd and runc for one container.
//!
//! ```text
//!  containerd ──runs──► start ──fork──► daemon ──runs──► runc create, start, exec, kill, pause, update, delete
//!      │                  └─ address       ▲ │
//!      ├──ttrpc on a socket────────────────┘ ├─ reaps the container's processes (subreaper), keeps their exits
//!      │                                     ├─ holds a terminal's master and carries its bytes
//!      │◄──events over containerd's socket───┘
//!      └──runs──► delete: cleans up after a daemon that died
//! ```
//!
//! One thread and an epoll loop; whatever may take long is a child process whose end is an event like any other. The
//! order of exits and of what is told about them is therefore that of the loop, without a lock.

mod args;
mod container;
mod daemon;
mod delete;
mod host;
mod proto;
mod runc;
mod start;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use args::{Action, Args};

/// What the binary does: containerd calls it as `start` and as `delete`.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows it to whoever asked.
            let _ = writeln!(io::stderr(), "containerd-shim-gantry-v1: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let args = Args::parse(std::env::args().skip(1)).map_err(io::Error::other)?;
    match args.action {
        Action::Version => {
            writeln!(io::stdout(), "containerd-shim-gantry-v1: {}", env!("CARGO_PKG_VERSION"))
        }
        Action::Start => start::start(&args),
        Action::Delete => delete::delete(&args),
    }
}
