//! The containers' name resolver: a thread of its own, so that neither a reload of the firewall nor relayed traffic
//! makes a look-up wait. What it is told comes in order through a channel; the sockets are the containers'.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, mpsc},
    thread,
};

use gantry_wire::net::Resolver;
use rustix::event::{EventfdFlags, eventfd};

mod cache;
mod client;
mod message;
mod namespace;
mod server;
mod table;
mod translation;
mod upstream;

/// Enough for messages and the way down to the kernel.
const STACK: usize = 256 << 10;

/// What the thread is to do.
enum Command {
    Serve { container: String, udp: UdpSocket, tcp: TcpListener },
    Tell { container: String, resolver: Resolver },
    Forget { container: String },
    Hush,
    Answer,
}

/// The thread's other end, with what a later gantryd may ask for.
#[derive(Default)]
pub struct Names {
    /// From the first container on.
    thread: Option<Thread>,
    known: BTreeMap<String, Known>,
}

struct Thread {
    commands: mpsc::Sender<Command>,
    wake: Arc<OwnedFd>,
}

struct Known {
    resolver: Resolver,
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Names {
    /// As `Request::Resolve` says.
    pub fn resolve(&mut self, container: String, resolver: Resolver, sockets: Vec<OwnedFd>) -> io::Result<()> {
        let mut sockets = sockets.into_iter();
        match (sockets.next(), sockets.next(), sockets.next()) {
            (Some(udp), Some(tcp), netfilter) => {
                let (udp, tcp) = (UdpSocket::from(udp), TcpListener::from(tcp));
                if let Some(netfilter) = netfilter {
                    translation::install(netfilter, v4(udp.local_addr()?)?, v4(tcp.local_addr()?)?)?;
                }
                let (same_udp, same_tcp) = (udp.try_clone()?, tcp.try_clone()?);
                self.command(Command::Serve { container: container.clone(), udp: same_udp, tcp: same_tcp })?;
                self.known.insert(container.clone(), Known { resolver: resolver.clone(), udp, tcp });
            }
            _ => {
                let known = self.known.get_mut(&container).ok_or(io::ErrorKind::NotFound)?;
                known.resolver = resolver.clone();
            }
        }
        self.command(Command::Tell { container, resolver })
    }

    /// Absent is `Ok`.
    pub fn unresolve(&mut self, container: String) -> io::Result<()> {
        match self.known.remove(&container) {
            Some(_) => self.command(Command::Forget { container }),
            None => Ok(()),
        }
    }

    /// Look-ups wait until `answer`.
    pub fn hush(&mut self) -> io::Result<()> {
        self.command(Command::Hush)
    }

    pub fn answer(&mut self) -> io::Result<()> {
        if self.thread.is_some() { self.command(Command::Answer) } else { Ok(()) }
    }

    pub fn containers(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    pub fn of(&self, container: &str) -> Option<(Resolver, [BorrowedFd<'_>; 2])> {
        let known = self.known.get(container)?;
        Some((known.resolver.clone(), [known.udp.as_fd(), known.tcp.as_fd()]))
    }

    fn command(&mut self, command: Command) -> io::Result<()> {
        let thread = match &mut self.thread {
            Some(thread) => thread,
            none => none.insert(Thread::start()?),
        };
        thread.commands.send(command).map_err(|_| io::Error::other("the resolver has ended"))?;
        rustix::io::write(&*thread.wake, &1u64.to_ne_bytes())?;
        Ok(())
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (commands, inbox) = mpsc::channel();
        let theirs = wake.clone();
        thread::Builder::new().name("names".into()).stack_size(STACK).spawn(move || {
            let ended = server::Server::new(inbox, theirs).and_then(server::Server::run);
            if let Err(error) = ended {
                // Without names the whole is of no use: the next netd takes over.
                eprintln!("gantry-netd: the resolver ended: {error}");
                std::process::exit(1);
            }
        })?;
        Ok(Self { commands, wake })
    }
}

fn v4(address: SocketAddr) -> io::Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}
