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

use std::process::ExitCode;

use cli::Instead;

fn main() -> ExitCode {
    let line = match cli::parse(std::env::args_os()) {
        Ok(line) => line,
        Err(Instead::Print(text)) => {
            println!("{}", text.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(Instead::Fail(text)) => return fail(&text),
    };
    let environment = config::Environment::read();
    let config = match config::load(&line, &environment) {
        Ok(config) => config,
        Err(text) => return fail(&text),
    };
    if line.validate {
        println!("configuration OK");
        return ExitCode::SUCCESS;
    }
    limits::set();
    match run::run(line, environment, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}
