//! The loop of one run: outputs to the log and to clients, clients to the input, control.

mod release;
mod setup;

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use gantry_logs::{Writer, time};
use gantry_wire::{
    frame,
    stdio::{Assign, ENDED, Message, Role, VERSION},
};
use rustix::{
    event::epoll::{self, Event, EventData, EventFlags},
    net::SocketFlags,
};

use crate::{
    client::Client,
    input::Input,
    output::{Output, Read},
    process,
};

/// What may still come after the task's exit without waiting for slow clients: the pipes of both outputs, and what the
/// shim has on its way. A process that outlives the task and writes on waits for them again.
const AFTER_EXIT: usize = 4 << 20;
/// Reads in a row of one output, before others have their turn.
const IN_A_ROW: usize = 64;

const LISTENER: u64 = 0;
const STDOUT: u64 = 1;
const STDERR: u64 = 2;
const STDIN: u64 = 3;
const SIGNALS: u64 = 4;
const FIRST_CLIENT: u64 = 16;

pub(crate) struct Companion {
    assign: Assign,
    epoll: OwnedFd,
    listener: Option<OwnedFd>,
    signals: OwnedFd,
    outputs: Vec<Output>,
    input: Input,
    clients: Vec<Client>,
    next_token: u64,
    log: Option<Writer>,
    buffer: Vec<u8>,
    /// gantryd says that no writer will come any more.
    task_exited: bool,
    /// Bytes left of `AFTER_EXIT`.
    after_exit: usize,
    ended: bool,
    stdin_end_told: bool,
    leaving: bool,
    /// Only clients that read late are left to serve.
    released: bool,
    /// When the last control connection went after the end.
    alone_since: Option<Instant>,
}

impl Companion {
    /// Works until its work is done and gantryd knows, or is away for long.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
        loop {
            self.sweep()?;
            let Some(timeout) = self.time_left() else {
                self.close_log();
                return Ok(());
            };
            let count = match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                let flags = event.flags;
                self.serve_event(event.data.u64(), flags)?;
            }
            if self.leaving && !self.released {
                self.release();
            }
        }
    }

    pub(crate) fn add_control(&mut self, socket: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        self.add_client(socket, Some(Role::Control));
        Ok(())
    }

    fn add_client(&mut self, socket: OwnedFd, role: Option<Role>) {
        self.clients.push(Client::new(self.next_token, socket, role));
        self.next_token += 1;
    }

    fn serve_event(&mut self, token: u64, flags: EventFlags) -> io::Result<()> {
        match token {
            LISTENER => self.accept(),
            STDOUT | STDERR => self.read_output(token as u8, flags.contains(EventFlags::HUP)),
            STDIN => self.input.write(),
            SIGNALS => {
                // Stopping the service leaves containers running, and so their companions; one that is done goes.
                if process::read_signals(&self.signals) && self.ended {
                    self.leaving = true;
                    self.clients.clear();
                }
            }
            _ => self.serve_client(token, flags),
        }
        Ok(())
    }

    fn accept(&mut self) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Some(listener) = &self.listener
            && let Ok(socket) = rustix::net::accept_with(listener, flags)
        {
            self.add_client(socket, None);
        }
    }

    // Output

    fn read_output(&mut self, stream: u8, hung_up: bool) {
        let Some(at) = self.outputs.iter().position(|output| output.stream == stream) else { return };
        match self.outputs[at].read(&mut self.buffer) {
            Ok(Read::Bytes(len)) => self.deliver(stream, len),
            Ok(Read::NoWriter) if hung_up || self.task_exited => self.close_output(at),
            Ok(Read::NoWriter | Read::Nothing) => {}
            Err(_) => self.close_output(at),
        }
    }

    /// To the log, then to the clients: where a client joins, the log holds all that it does not get.
    fn deliver(&mut self, stream: u8, len: usize) {
        let bytes = &self.buffer[..len];
        if self.task_exited {
            self.after_exit = self.after_exit.saturating_sub(len);
        }
        if let Some(log) = &mut self.log {
            log.append(stream, bytes, time::now());
        }
        let head = frame::header(stream, len);
        for client in self.clients.iter_mut().filter(|client| client.joined[usize::from(stream)]) {
            client.send(&[&head, bytes]);
        }
    }

    fn close_output(&mut self, at: usize) {
        let output = self.outputs.remove(at);
        if output.listened {
            // gantryd holds the same open file: closing ours alone would leave it with epoll.
            let _ = epoll::delete(&self.epoll, &output.fifo);
        }
        if self.outputs.is_empty() {
            self.end();
        }
    }

    /// Both outputs are at their end.
    fn end(&mut self) {
        self.ended = true;
        self.input.discard();
        if let Some(log) = &mut self.log {
            log.finish(time::now());
        }
        // Only a marker: without it a later gantryd puts a successor here, which finds nothing to read.
        let _ = fs::write(self.assign.folder.join(ENDED), self.assign.run.to_string());
        for client in &mut self.clients {
            if client.role.is_some() {
                client.tell(&Message::End);
            }
        }
    }

    // Clients

    fn serve_client(&mut self, token: u64, flags: EventFlags) {
        let Some(at) = self.clients.iter().position(|client| client.token == token) else { return };
        if flags.contains(EventFlags::OUT) {
            self.clients[at].flush();
        }
        if flags.contains(EventFlags::IN) {
            self.clients[at].receive();
            while let Some((kind, data)) = self.clients[at].next_frame() {
                self.take_frame(at, kind, &data);
            }
        }
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.clients[at].hang_up();
        }
    }

    fn take_frame(&mut self, at: usize, kind: u8, data: &[u8]) {
        match kind {
            0 if self.clients[at].joined[0] => self.take_input(data),
            frame::CONTROL => {
                if let Ok(message) = frame::message(data) {
                    self.take_message(at, &message);
                }
            }
            _ => {}
        }
    }

    /// An empty frame is the end of the client's input, which is the container's only where StdinOnce says so; never on
    /// a terminal, where the next client goes on typing.
    fn take_input(&mut self, data: &[u8]) {
        if !data.is_empty() {
            self.input.push(data);
        } else if self.assign.stdin_once && !self.assign.terminal {
            self.input.end();
        }
    }

    fn take_message(&mut self, at: usize, message: &Message) {
        let control = self.clients[at].role == Some(Role::Control);
        match message {
            Message::Hello { role, stdin, stdout, stderr, .. } => self.welcome(at, *role, [*stdin, *stdout, *stderr]),
            Message::TaskExited if control => self.task_exited = true,
            Message::Quit if control => self.leaving = true,
            _ => {}
        }
        if self.task_exited && !self.ended {
            // Those without a writer are at their end although epoll has nothing to say of them.
            for stream in [1, 2] {
                self.drain(stream);
            }
        }
    }

    /// Reads until there is nothing, the end, or a client that must be waited for.
    fn drain(&mut self, stream: u8) {
        for _ in 0..IN_A_ROW {
            if self.must_wait() {
                return;
            }
            let Some(at) = self.outputs.iter().position(|output| output.stream == stream) else { return };
            match self.outputs[at].read(&mut self.buffer) {
                Ok(Read::Bytes(len)) => self.deliver(stream, len),
                Ok(Read::Nothing) => return,
                Ok(Read::NoWriter) | Err(_) => self.close_output(at),
            }
        }
    }

    fn welcome(&mut self, at: usize, role: Role, joined: [bool; 3]) {
        let log_position = self.log.as_mut().and_then(|log| {
            if role == Role::Attach {
                // An unfinished line is on this side of the seam: its beginning went to others already.
                log.finish(time::now());
            }
            log.position().ok()
        });
        let (run, ended) = (self.assign.run, self.ended);
        let client = &mut self.clients[at];
        client.role = Some(role);
        client.tell(&Message::Welcome { version: VERSION, pid: std::process::id(), run, log_position, ended });
        match role {
            Role::Attach => client.joined = joined,
            Role::Control if self.input.is_closed_by_end() => client.tell(&Message::StdinEnd),
            Role::Control => {}
        }
        if ended {
            client.tell(&Message::End);
        }
    }

    // Between events

    /// Whether output waits for a client. What a task wrote before its exit does not: it could be lost.
    fn must_wait(&self) -> bool {
        (!self.task_exited || self.after_exit == 0) && self.clients.iter().any(Client::is_full)
    }

    /// Drops who is gone and brings epoll's lists in line with what can go on.
    fn sweep(&mut self) -> io::Result<()> {
        if self.task_exited && !self.ended {
            self.drain(1);
            self.drain(2);
        }
        if self.input.is_closed_by_end() && !self.stdin_end_told {
            self.stdin_end_told = true;
            self.clients
                .iter_mut()
                .filter(|client| client.role == Some(Role::Control))
                .for_each(|client| client.tell(&Message::StdinEnd));
        }
        self.clients.retain(|client| !client.is_gone()); // closing a socket takes it out of epoll
        if self.released {
            self.dismiss();
        }
        let congested = self.must_wait();
        for output in &mut self.outputs {
            // Out altogether, not just without interest: a hang-up would be told again and again.
            if output.listened == congested {
                let token = u64::from(output.stream);
                listen(&self.epoll, &output.fifo, token, EventFlags::IN, output.listened, !congested)?;
                output.listened = !congested;
            }
        }
        let waiting = !self.input.is_empty();
        match self.input.fifo() {
            Some(fifo) if self.input.listened != waiting => {
                listen(&self.epoll, fifo, STDIN, EventFlags::OUT, self.input.listened, waiting)?;
                self.input.listened = waiting;
            }
            Some(_) => {}
            None => self.input.listened = false,
        }
        let full = self.input.is_full();
        for client in &mut self.clients {
            let interest = client.interest(full);
            if client.listened != interest {
                let (known, flags) = (client.listened.is_some(), interest.unwrap_or(EventFlags::empty()));
                listen(&self.epoll, &client.socket, client.token, flags, known, interest.is_some())?;
                client.listened = interest;
            }
        }
        Ok(())
    }
}

/// Adds, changes or removes a descriptor.
fn listen(epoll: &OwnedFd, fd: impl AsFd, token: u64, flags: EventFlags, known: bool, wanted: bool) -> io::Result<()> {
    let data = EventData::new_u64(token);
    match (known, wanted) {
        (false, true) => epoll::add(epoll, fd, data, flags)?,
        (true, true) => epoll::modify(epoll, fd, data, flags)?,
        (true, false) => epoll::delete(epoll, fd)?,
        (false, false) => {}
    }
    Ok(())
}
