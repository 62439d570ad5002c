//! gantry-netd: holds published ports and relays what the kernel's translation cannot reach, keeps the firewall's
//! table in place, keeps the API's listening sockets, and answers the containers' look-ups of names. Two threads (the
//! second for names), epoll, no tokio; lives on when gantryd dies.
//!
//! `gantry-netd FOLDER` with a connected unix stream as standard input: the first gantryd. Later ones connect to
//! `FOLDER/netd.sock`. The folder is the caller's, mode 0700.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::ExitCode,
};

mod conntrack;
mod firewall;
mod names;
mod netlink;
mod poll;
mod ports;
mod relay;
mod server;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: gantry-netd FOLDER");
        return ExitCode::from(2);
    };
    // A session of its own: Ctrl-C at gantryd's terminal ends gantryd alone. Fails only where it already leads one.
    let _ = rustix::process::setsid();
    raise_descriptor_limit();
    let first = take_standard_input();
    match first.and_then(|first| server::run(&folder, first)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry-netd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The connection, of which no second descriptor stays behind: its end would be news for ever.
fn take_standard_input() -> io::Result<OwnedFd> {
    let first = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(first)
}

/// Each relayed connection takes six descriptors.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
