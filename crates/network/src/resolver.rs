//! The sockets of a container's name resolver, made in its namespace and handed to netd, which answers at them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use gantry_domain::network::names::{NameServer, NetworkNames, RESOLVER, ResolverSetup};
use gantry_wire::net::{NetworkNames as Place, Resolver, Upstream};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind,
    netlink::{NETFILTER, SocketAddrNetlink},
    socket_with,
};

use crate::{namespace, netd::Sockets};

/// Tried first, so that who died with both gantryd and netd comes back where clients' flows still lead to. Below the
/// ephemeral ports, and registered for nothing.
const PORT: u16 = 26_553;

/// A datagram and a listening socket on `127.0.0.11`, and a netfilter socket to translate port 53 by. Runs on a
/// throw-away thread, which ends up inside.
pub fn open(namespace: &Path) -> io::Result<Sockets> {
    namespace::enter(namespace)?;
    let udp: OwnedFd = bind_near(RESOLVER, UdpSocket::bind)?.into();
    let tcp: OwnedFd = bind_near(RESOLVER, TcpListener::bind)?.into();
    let netfilter = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
    bind(&netfilter, &SocketAddrNetlink::new(0, 0))?;
    Ok([udp, tcp, netfilter].map(Arc::new).into())
}

fn bind_near<T>(address: Ipv4Addr, bind: impl Fn(SocketAddrV4) -> io::Result<T>) -> io::Result<T> {
    match bind(SocketAddrV4::new(address, PORT)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bind(SocketAddrV4::new(address, 0)),
        other => other,
    }
}

/// In the companion's words.
pub fn wire(setup: &ResolverSetup) -> Resolver {
    Resolver {
        networks: setup.networks.iter().map(place).collect(),
        upstream: setup.servers.iter().map(upstream).collect(),
        forward: setup.forward,
        dotless_stay: setup.dotless_stay,
    }
}

fn place(place: &NetworkNames) -> Place {
    Place {
        id: place.id.to_string(),
        name: place.network.clone(),
        names: place.names.clone(),
        v4: place.ipv4,
        v6: place.ipv6,
        aliases: place.aliases.clone(),
    }
}

fn upstream(server: &NameServer) -> Upstream {
    Upstream { address: server.address, zone: server.zone.clone(), host: server.host }
}
