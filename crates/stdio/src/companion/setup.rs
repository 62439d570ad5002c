//! From an assignment and its descriptors to a companion that serves.

use std::{io, os::fd::OwnedFd};

use gantry_logs::{Format, Options, Writer, time};
use gantry_wire::stdio::{Assign, Log, LogFormat, MAX_LOSS, READ_SIZE};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{AFTER_EXIT, Companion, FIRST_CLIENT, Input, LISTENER, Output, SIGNALS};
use crate::process::Forked;

impl Companion {
    /// Takes the run over. The descriptors are those that the protocol names, in its order.
    pub(crate) fn new(assign: Assign, fds: Vec<OwnedFd>, signals: OwnedFd) -> io::Result<Self> {
        let mut fds = fds.into_iter();
        let mut next =
            || fds.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a descriptor is missing"));
        let listener = next()?;
        let mut outputs = vec![Output::new(1, next()?)];
        if assign.stderr {
            outputs.push(Output::new(2, next()?));
        }
        let input = if assign.stdin { Input::new(&next()?)? } else { Input::none() };
        for fd in outputs.iter().map(|output| &output.fifo).chain(input.fifo()).chain([&listener]) {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        let mut log = assign.log.as_ref().map(open_log).transpose()?;
        if assign.successor
            && let Some(log) = &mut log
        {
            let text = format!("gantry: up to {MAX_LOSS} bytes of output were lost here: its logger was killed\n");
            log.note(&text, time::now());
        }
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (fd, token) in [(&listener, LISTENER), (&signals, SIGNALS)] {
            epoll::add(&epoll, fd, EventData::new_u64(token), EventFlags::IN)?;
        }
        Ok(Self {
            assign,
            epoll,
            listener: Some(listener),
            signals,
            outputs,
            input,
            clients: Vec::new(),
            next_token: FIRST_CLIENT,
            log,
            buffer: vec![0; READ_SIZE],
            task_exited: false,
            after_exit: AFTER_EXIT,
            ended: false,
            stdin_end_told: false,
            leaving: false,
            released: false,
            alone_since: None,
        })
    }
}

fn open_log(log: &Log) -> io::Result<Writer> {
    let options = Options {
        format: match log.format {
            LogFormat::JsonFile => Format::JsonFile,
            LogFormat::Local => Format::Local,
        },
        path: log.path.clone(),
        max_size: log.max_size,
        max_files: log.max_files,
        compress: log.compress,
        attrs: log.attrs.clone(),
    };
    Writer::open(options, Box::new(Forked::default()))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", log.path.display())))
}
