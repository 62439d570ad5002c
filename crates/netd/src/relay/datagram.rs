//! Datagrams with the local address they came to: an answer must leave from that address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
};

/// A peer and our address towards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    pub peer: SocketAddr,
    pub local: IpAddr,
    /// The interface, which link-local addresses need.
    pub interface: u32,
}

/// Room for one `in_pktinfo` or `in6_pktinfo`, aligned as `cmsghdr`.
type Control = [u64; 8];

/// Asks the kernel to tell the local address of each datagram.
pub fn tell_local_address(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, option) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::IPPROTO_IP, libc::IP_PKTINFO) };
    let on: libc::c_int = 1;
    // SAFETY: `on` lives through the call and its size is given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), size_of::<libc::c_int>() as u32)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The next datagram, its length and where it came from; `WouldBlock` when there is none.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Path)> {
    // SAFETY: all-zero is a valid value of these plain C structures.
    let (mut name, mut header) = unsafe { std::mem::zeroed::<(libc::sockaddr_storage, libc::msghdr)>() };
    let mut control: Control = [0; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of_val(&name) as u32;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `header` points to buffers that live through the call, with their true lengths.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let peer = peer_of(&name).ok_or(io::ErrorKind::InvalidData)?;
    let (local, interface) = local_of(&header).ok_or(io::ErrorKind::InvalidData)?;
    Ok((length as usize, Path { peer, local, interface }))
}

fn peer_of(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote a `sockaddr_in`, and the storage is large and aligned enough for it.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with a `sockaddr_in6`.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn local_of(header: &libc::msghdr) -> Option<(IpAddr, u32)> {
    // SAFETY: `header` was filled by recvmsg, so the control messages lie inside its buffer.
    let first = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    // SAFETY: the data of a control message follows its header.
    let data = unsafe { libc::CMSG_DATA(first) };
    match (first.cmsg_level, first.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // SAFETY: this kind of message carries an `in_pktinfo`.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            Some((Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into(), info.ipi_ifindex as u32))
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // SAFETY: this kind of message carries an `in6_pktinfo`.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            Some((Ipv6Addr::from(info.ipi6_addr.s6_addr).into(), info.ipi6_ifindex))
        }
        _ => None,
    }
}

/// Sends to the path's peer from the path's local address. A full buffer drops the datagram, as networks do.
pub fn send(socket: BorrowedFd<'_>, data: &[u8], path: &Path) -> io::Result<()> {
    // SAFETY: all-zero is a valid value of these plain C structures.
    let (mut name, mut header) = unsafe { std::mem::zeroed::<(libc::sockaddr_storage, libc::msghdr)>() };
    let mut control: Control = [0; 8];
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    header.msg_namelen = write_name(&mut name, path.peer);
    header.msg_name = (&raw mut name).cast();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    match path.local {
        IpAddr::V4(local) => {
            let spec = libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec, ipi_addr: libc::in_addr { s_addr: 0 } };
            attach(&mut header, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(local) => {
            let interface = if local.is_unicast_link_local() { path.interface } else { 0 };
            let address = libc::in6_addr { s6_addr: local.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: interface };
            attach(&mut header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
    // SAFETY: `header` points to buffers that live through the call, with their true lengths; none is written to.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn write_name(name: &mut libc::sockaddr_storage, peer: SocketAddr) -> u32 {
    match peer {
        SocketAddr::V4(peer) => {
            // SAFETY: the storage is large and aligned enough for a `sockaddr_in`.
            let v4 = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in>() };
            v4.sin_family = libc::AF_INET as u16;
            v4.sin_port = peer.port().to_be();
            v4.sin_addr.s_addr = u32::from_ne_bytes(peer.ip().octets());
            size_of::<libc::sockaddr_in>() as u32
        }
        SocketAddr::V6(peer) => {
            // SAFETY: as above, for a `sockaddr_in6`.
            let v6 = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in6>() };
            v6.sin6_family = libc::AF_INET6 as u16;
            v6.sin6_port = peer.port().to_be();
            v6.sin6_flowinfo = peer.flowinfo();
            v6.sin6_addr.s6_addr = peer.ip().octets();
            v6.sin6_scope_id = peer.scope_id();
            size_of::<libc::sockaddr_in6>() as u32
        }
    }
}

/// Writes one control message of plain data.
fn attach<T: Copy>(header: &mut libc::msghdr, level: i32, kind: i32, data: T) {
    // SAFETY: CMSG_LEN and CMSG_SPACE only compute; `Control` has room for one message with either pktinfo, so the
    // first header and its data lie inside the buffer that `header` names.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = level;
        (*first).cmsg_type = kind;
        (*first).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
        libc::CMSG_DATA(first).cast::<T>().write_unaligned(data);
        header.msg_controllen = libc::CMSG_SPACE(size_of::<T>() as u32) as _;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{net::UdpSocket, os::fd::AsFd};

    use super::*;

    /// 127.0.0.7 is not the address the kernel would choose by itself.
    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        tell_local_address(server.as_fd(), false).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.7", server.local_addr().unwrap().port())).unwrap();
        client.send(b"ping").unwrap();
        let mut buffer = [0; 64];
        let (length, path) = receive(server.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..length], path.local), (&b"ping"[..], "127.0.0.7".parse().unwrap()));
        send(server.as_fd(), b"pong", &path).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
    }
}
