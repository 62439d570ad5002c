//! Sockets in a container's network namespace, for which a socket that is there already stands.

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use gantry_wire::net::Upstream;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// `SIOCGSKNS` of `linux/sockios.h`.
const SIOCGSKNS: libc::c_ulong = 0x894c;

/// The namespace that this thread is at home in.
#[derive(Debug)]
pub struct Home(OwnedFd);

impl Home {
    pub fn here() -> io::Result<Self> {
        Ok(Self(File::open("/proc/thread-self/ns/net")?.into()))
    }

    /// With the number of the interface that a link-local address is behind.
    pub fn address(&self, server: &Upstream, port: u16) -> io::Result<SocketAddr> {
        match (server.address, &server.zone) {
            (IpAddr::V6(address), Some(zone)) => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                let scope = rustix::net::netdevice::name_to_index(&socket, zone)?;
                Ok(SocketAddrV6::new(address, port, 0, scope).into())
            }
            (address, _) => Ok((address, port).into()),
        }
    }

    /// Begins to connect from where `inside` is, or from here. Only for a thread that makes sockets by this alone: it
    /// may be left inside when the way back fails.
    pub fn connect(&self, inside: Option<BorrowedFd<'_>>, kind: SocketType, to: SocketAddr) -> io::Result<OwnedFd> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Said each time: a way back that failed once would send the host's queries from a container.
        match inside {
            Some(socket) => enter(of(socket)?.as_fd())?,
            None => enter(self.0.as_fd())?,
        }
        let socket = socket_with(family, kind, flags, None);
        if inside.is_some() {
            let _ = enter(self.0.as_fd());
        }
        let socket = socket?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error.into()),
        }
    }
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// The namespace a socket belongs to.
fn of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument and answers with a new descriptor.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows it.
    let namespace = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&namespace, rustix::io::FdFlags::CLOEXEC)?;
    Ok(namespace)
}
