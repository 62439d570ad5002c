//! Reservation of the host's ports: a bound socket, held for as long as the port is published.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use gantry_domain::{
    ContainerId, Error, Result,
    network::{PortRequest, Protocol, PublishedPort},
};
use gantry_wire::net::{IpProtocol, Port};
use socket2::{Domain, Socket, Type};

use crate::rules;

/// Of connections that wait to be accepted.
const BACKLOG: i32 = 4096;
const EPHEMERAL: (u16, u16) = (32768, 60999);

/// A reserved port with its socket.
pub type Reserved = (PublishedPort, Arc<OwnedFd>);

/// Which ports are ours, by container.
#[derive(Debug, Default)]
pub struct Reservations {
    by_container: BTreeMap<ContainerId, Vec<PublishedPort>>,
    /// Where the search for a free port goes on, so that a port is not reused at once.
    last: u16,
}

impl Reservations {
    pub fn containers(&self) -> impl Iterator<Item = &ContainerId> {
        self.by_container.keys()
    }
    pub fn of(&self, id: &ContainerId) -> &[PublishedPort] {
        self.by_container.get(id).map_or(&[], Vec::as_slice)
    }
    pub fn add(&mut self, id: &ContainerId, ports: impl IntoIterator<Item = PublishedPort>) {
        let known = self.by_container.entry(id.clone()).or_default();
        known.extend(ports);
        if known.is_empty() {
            self.by_container.remove(id);
        }
    }
    pub fn remove(&mut self, id: &ContainerId) -> bool {
        self.by_container.remove(id).is_some()
    }

    /// Binds everything that is wanted, or nothing.
    pub fn bind(&mut self, wanted: &[PortRequest]) -> Result<Vec<Reserved>> {
        let mut bound: Vec<Reserved> = Vec::new();
        for request in wanted {
            let new = self.bind_one(request, &bound)?;
            bound.extend(new);
        }
        Ok(bound)
    }

    fn bind_one(&mut self, request: &PortRequest, bound: &[Reserved]) -> Result<Vec<Reserved>> {
        let addresses = addresses(request.host_ip);
        let (first, last) = request.host_ports.unwrap_or_else(ephemeral_range);
        let chosen = request.host_ports.is_none();
        let mut failure = None;
        for port in candidates(first, last, if chosen { self.last } else { 0 }) {
            match self.bind_at(request, &addresses, port, bound) {
                Ok(reserved) => {
                    if chosen {
                        self.last = port;
                    }
                    return Ok(reserved);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::system("no available port")))
    }

    /// One port at all addresses of the request.
    fn bind_at(&self, request: &PortRequest, at: &[IpAddr], port: u16, bound: &[Reserved]) -> Result<Vec<Reserved>> {
        let ours = || self.by_container.values().flatten().chain(bound.iter().map(|(port, _)| port));
        let mut reserved = Vec::new();
        for ip in at {
            if let Some(other) = ours().find(|other| overlaps(other, request.protocol, *ip, port)) {
                // dockerd looks at the address of all first.
                let said = if other.host_ip.is_unspecified() { other.host_ip } else { *ip };
                let at = SocketAddr::from((said, port));
                return Err(Error::system(format!("Bind for {at} failed: port is already allocated")));
            }
            let published = PublishedPort {
                container_port: request.container_port,
                protocol: request.protocol,
                host_ip: *ip,
                host_port: port,
            };
            match bind(&published) {
                // The host's own packets to loopback go through the relay alone, and that knows TCP and UDP.
                Ok(_) if request.protocol == Protocol::Sctp && ip.is_loopback() => {
                    let at = SocketAddr::from((*ip, port));
                    return Err(Error::not_implemented(format!(
                        "failed to bind host port for {at}/sctp: SCTP on a loopback address is not implemented by gantry"
                    )));
                }
                Ok(socket) => reserved.push((published, Arc::new(socket))),
                // The host has no IPv6, or not here; nobody asked for it by name.
                Err(error) if request.host_ip.is_none() && ip.is_ipv6() && lacks_family(&error) => {}
                Err(error) => return Err(refused(&published, request.container_ips, &error)),
            }
        }
        Ok(reserved)
    }
}

/// Binds the socket that reserves a port. A TCP socket listens: one that is only bound can be taken over. Nobody accepts
/// at one of SCTP, so that does not listen: who comes over loopback is refused and does not hang.
pub fn bind(port: &PublishedPort) -> io::Result<OwnedFd> {
    let domain = if port.host_ip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (Type::STREAM, socket2::Protocol::TCP),
        Protocol::Udp => (Type::DGRAM, socket2::Protocol::UDP),
        Protocol::Sctp => (Type::STREAM, socket2::Protocol::SCTP),
    };
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    if port.protocol == Protocol::Tcp {
        // Only over connections in TIME_WAIT; a UDP socket with it would share its port.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SocketAddr::from((port.host_ip, port.host_port)).into())?;
    if port.protocol == Protocol::Tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

fn addresses(host_ip: Option<IpAddr>) -> Vec<IpAddr> {
    match host_ip {
        Some(ip) => vec![ip],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    }
}

fn overlaps(other: &PublishedPort, protocol: Protocol, ip: IpAddr, port: u16) -> bool {
    let same_port = other.protocol == protocol && other.host_port == port && other.host_ip.is_ipv4() == ip.is_ipv4();
    same_port && (other.host_ip == ip || other.host_ip.is_unspecified() || ip.is_unspecified())
}

/// All ports of the range, from the one behind `after`.
fn candidates(first: u16, last: u16, after: u16) -> impl Iterator<Item = u16> {
    let start = if (first..last).contains(&after) { after + 1 } else { first };
    (start..=last).chain(first..start)
}

fn ephemeral_range() -> (u16, u16) {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first > 0 && first <= last => (first, last),
        _ => EPHEMERAL,
    }
}

fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// dockerd's sentence, with Go's words for the cause.
fn refused(port: &PublishedPort, container_ips: [Option<IpAddr>; 2], error: &io::Error) -> Error {
    let cause = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "address already in use".to_owned(),
        Some(libc::EADDRNOTAVAIL) => "cannot assign requested address".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        Some(libc::EPROTONOSUPPORT) => "protocol not supported".to_owned(),
        _ => error.to_string(),
    };
    let at = SocketAddr::from((port.host_ip, port.host_port));
    if port.protocol == Protocol::Sctp && error.raw_os_error() == Some(libc::EPROTONOSUPPORT) {
        return Error::system(format!("error starting userland proxy: failed to listen on {at}: {cause}"));
    }
    let [v4, v6] = container_ips;
    let to = if port.host_ip.is_ipv6() { v6.or(v4) } else { v4.or(v6) };
    let to = to.map_or_else(
        || format!(":{}", port.container_port),
        |ip| SocketAddr::from((ip, port.container_port)).to_string(),
    );
    Error::system(format!("failed to bind host port for {at}:{to}/{}: {cause}", port.protocol.as_str()))
}

/// In the companion's words.
pub fn wire(port: &PublishedPort) -> Port {
    Port {
        protocol: rules::protocol(port.protocol),
        host_ip: port.host_ip,
        host_port: port.host_port,
        container_port: port.container_port,
    }
}

/// `None` for a protocol that an older companion would not have told of.
pub fn published(port: Port) -> Option<PublishedPort> {
    let protocol = match port.protocol {
        IpProtocol::TCP => Protocol::Tcp,
        IpProtocol::UDP => Protocol::Udp,
        IpProtocol::SCTP => Protocol::Sctp,
        _ => return None,
    };
    let Port { host_ip, host_port, container_port, .. } = port;
    Some(PublishedPort { container_port, protocol, host_ip, host_port })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(host_ip: &str, host_ports: Option<(u16, u16)>) -> PortRequest {
        PortRequest {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: Some(host_ip.parse().unwrap()),
            host_ports,
            container_ips: ["172.17.0.2".parse().ok(), None],
        }
    }

    fn id() -> ContainerId {
        ContainerId::random()
    }

    #[test]
    fn a_port_of_another_container_is_already_allocated() {
        let mut reservations = Reservations::default();
        let first = reservations.bind(&[request("127.0.0.1", None)]).unwrap();
        let port = first[0].0.host_port;
        reservations.add(&id(), first.iter().map(|(port, _)| port.clone()));
        let error = reservations.bind(&[request("127.0.0.1", Some((port, port)))]).unwrap_err();
        assert_eq!(error.message(), format!("Bind for 127.0.0.1:{port} failed: port is already allocated"));
    }

    #[test]
    fn a_port_of_another_process_is_in_use() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Reservations::default().bind(&[request("127.0.0.1", Some((port, port)))]).unwrap_err();
        let expected =
            format!("failed to bind host port for 127.0.0.1:{port}:172.17.0.2:80/tcp: address already in use");
        assert_eq!(error.message(), expected);
    }

    #[test]
    fn sctp_is_not_published_on_loopback_and_otherwise_where_the_kernel_has_it() {
        let sctp = |ip: &str| PortRequest { protocol: Protocol::Sctp, ..request(ip, Some((8765, 8765))) };
        for ip in ["127.0.0.1", "0.0.0.0"] {
            let bound = Reservations::default().bind(&[sctp(ip)]);
            let known = fs::read_to_string("/proc/net/protocols").unwrap().contains("SCTP");
            match bound {
                Ok(_) => assert!(known && ip == "0.0.0.0"),
                Err(error) if known => assert!(error.message().contains("SCTP on a loopback address"), "{error}"),
                Err(error) => assert_eq!(
                    error.message(),
                    format!("error starting userland proxy: failed to listen on {ip}:8765: protocol not supported")
                ),
            }
        }
    }

    #[test]
    fn what_all_addresses_have_is_told_of_all() {
        let mut reservations = Reservations::default();
        let first = reservations.bind(&[request("0.0.0.0", None)]).unwrap();
        let port = first[0].0.host_port;
        reservations.add(&id(), first.iter().map(|(port, _)| port.clone()));
        let error = reservations.bind(&[request("127.0.0.1", Some((port, port)))]).unwrap_err();
        assert_eq!(error.message(), format!("Bind for 0.0.0.0:{port} failed: port is already allocated"));
    }

    #[test]
    fn a_range_takes_its_first_free_port() {
        let taken = std::net::TcpListener::bind("127.0.0.9:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let bound = Reservations::default().bind(&[request("127.0.0.9", Some((port, port.saturating_add(9))))]);
        assert!((port + 1..=port + 9).contains(&bound.unwrap()[0].0.host_port));
    }

    /// T46: the other engine's, or the other process's, bind fails as well.
    #[test]
    fn a_reserved_udp_port_cannot_be_bound_by_anybody_else() {
        let udp = PortRequest { protocol: Protocol::Udp, ..request("127.0.0.1", None) };
        let mut reservations = Reservations::default();
        let bound = reservations.bind(&[udp]).unwrap();
        assert!(std::net::UdpSocket::bind(("127.0.0.1", bound[0].0.host_port)).is_err());
    }

    #[test]
    fn without_an_address_both_families_have_the_same_port() {
        let any = PortRequest { host_ip: None, ..request("127.0.0.1", None) };
        let bound = Reservations::default().bind(&[any]).unwrap();
        assert!(bound.iter().all(|(port, _)| port.host_port == bound[0].0.host_port));
        assert_eq!(bound.len(), 1 + usize::from(std::path::Path::new("/proc/net/if_inet6").exists()));
    }

    #[test]
    fn the_search_goes_on_behind_the_last_port_and_wraps() {
        assert_eq!(candidates(5, 8, 6).collect::<Vec<_>>(), [7, 8, 5, 6]);
        assert_eq!(candidates(5, 8, 8).collect::<Vec<_>>(), [5, 6, 7, 8]);
        assert_eq!(candidates(5, 5, 0).collect::<Vec<_>>(), [5]);
    }
}
