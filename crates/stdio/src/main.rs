//! `gantry-stdio`: owns the standard streams of one run of a container and writes its log.
//!
//! ```text
//!   spare ──Assign──► serving ──both outputs at their end──► ended ──Quit──► released ──clients served──► gone
//!                                                              └──30 s without gantryd──► gone
//! ```
//!
//! gantryd starts it as a spare with a socket as descriptor 0. While the container runs it depends on nobody: gantryd
//! may die and return through the socket in the run's folder. One thread, epoll, no tokio: one is resident for each
//! container.

mod client;
mod companion;
mod input;
mod output;
mod process;

use std::{io, os::fd::AsFd as _, process::ExitCode};

use gantry_wire::{
    frame,
    stdio::{Message, VERSION},
};

use companion::Companion;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<()> {
    let signals = process::detach()?;
    let control = process::take_control()?;
    let Some(received) = frame::receive(&control)? else { return Ok(()) };
    let Message::Assign(assign) = frame::message(&received.data)? else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first message is not an assignment"));
    };
    match Companion::new(assign, received.fds, signals) {
        Ok(mut companion) => {
            frame::send(control.as_fd(), &Message::Ready { version: VERSION, pid: std::process::id() }, &[])?;
            companion.add_control(control)?;
            companion.serve()
        }
        Err(error) => {
            frame::send(control.as_fd(), &Message::Failed { message: error.to_string() }, &[])?;
            Err(error)
        }
    }
}
