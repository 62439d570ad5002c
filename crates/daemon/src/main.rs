//! gantryd: a container engine that serves Docker's API on containerd.
//!
//! The way of a start: `cli` → `config` → `logging` → `remap` → `lock` → `assemble` (the engine) → `listen` → `signals`.

mod assemble;
mod cli;
mod config;
#[cfg(feature = "failpoints")]
mod failpoints;
mod host_end;
mod limits;
mod listen;
mod lock;
mod logging;
mod options;
mod remap;
mod run;
mod selinux;
mod service;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use cli::Instead;

fn main() -> ExitCode {
    let line = match cli::parse(std::env::args_os()) {
        Ok(line) => line,
        Err(Instead::Print(text)) => {
            return print(text.trim_end());
        }
        Err(Instead::Fail(text)) => return fail(&text),
    };
    let environment = config::Environment::read();
    let config = match config::load(&line, &environment) {
        Ok(config) => config,
        Err(text) => return fail(&text),
    };
    if line.validate {
        return print("configuration OK");
    }
    limits::set();
    match run::run(line, environment, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

/// To a reader that may have gone, which is no failure, or to a disk that may be full.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&format!("write to standard output: {error}")),
        _ => ExitCode::SUCCESS,
    }
}

fn fail(text: &str) -> ExitCode {
    // Nobody can be told that even this does not go.
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::FAILURE
}
