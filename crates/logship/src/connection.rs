//! A connection to where logs go, made when it is needed and made anew when it failed.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::address::Address;

const CONNECT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(10);

pub struct Connection {
    address: Address,
    tls: Option<Arc<ClientConfig>>,
    open: Option<Open>,
}

enum Open {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
    Udp(UdpSocket),
    Unixgram(UnixDatagram),
}

impl Connection {
    /// `tls` is needed for an address that asks for it.
    pub fn new(address: Address, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { address, tls, open: None }
    }

    /// Whether a message is a datagram; else messages are bytes of a stream, which need an end.
    pub fn has_datagrams(&self) -> bool {
        matches!(self.address, Address::Udp(..) | Address::Unixgram(_))
    }

    /// Sends the whole of it. After an error the next call connects anew.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let alive = self.open.as_mut().is_some_and(Open::is_alive);
        let mut open = match self.open.take() {
            Some(open) if alive => open,
            _ => self.connect()?,
        };
        open.send(bytes)?;
        self.open = Some(open);
        Ok(())
    }

    /// For an answer, after `send`. After an error the next `send` connects anew.
    pub fn answers(&mut self) -> io::Result<&mut dyn Read> {
        match &mut self.open {
            Some(Open::Tcp(stream)) => Ok(stream),
            Some(Open::Tls(stream)) => Ok(stream),
            Some(Open::Unix(stream)) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub fn close(&mut self) {
        self.open = None;
    }

    fn connect(&self) -> io::Result<Open> {
        Ok(match &self.address {
            Address::Tcp(host, port) => Open::Tcp(tcp(host, *port)?),
            Address::Tls(host, port) => {
                let config = self.tls.clone().ok_or(io::ErrorKind::InvalidInput)?;
                let name = rustls_pki_types::ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
                Open::Tls(Box::new(StreamOwned::new(connection, tcp(host, *port)?)))
            }
            Address::Udp(host, port) => {
                let to = resolve(host, *port)?;
                let any: SocketAddr =
                    if to.is_ipv4() { ([0; 4], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
                let socket = UdpSocket::bind(any)?;
                socket.connect(to)?;
                Open::Udp(socket)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(IDLE))?;
                stream.set_write_timeout(Some(IDLE))?;
                Open::Unix(stream)
            }
            Address::Unixgram(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(IDLE))?;
                Open::Unixgram(socket)
            }
        })
    }
}

impl Open {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Udp(socket) => socket.send(bytes).map(drop),
            Self::Unixgram(socket) => socket.send(bytes).map(drop),
        }
    }

    /// Whether the other side has not closed: what is written to a stream that it closed would be lost unnoticed.
    fn is_alive(&mut self) -> bool {
        let mut space = [0; 256];
        let read = match self {
            Self::Tcp(stream) => at_once(stream, |stream| stream.read(&mut space)),
            Self::Tls(stream) => {
                let tcp = stream.sock.try_clone();
                tcp.and_then(|tcp| at_once(&mut { tcp }, |_| stream.read(&mut space)))
            }
            Self::Unix(stream) => {
                let read = stream.set_nonblocking(true).and_then(|()| stream.read(&mut space));
                stream.set_nonblocking(false).and(read)
            }
            Self::Udp(_) | Self::Unixgram(_) => return true,
        };
        match read {
            Ok(read) => read > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

fn at_once(stream: &mut TcpStream, read: impl FnOnce(&mut TcpStream) -> io::Result<usize>) -> io::Result<usize> {
    stream.set_nonblocking(true)?;
    let read = read(stream);
    stream.set_nonblocking(false)?;
    read
}

fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    (host, port).to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("no address of {host}")))
}

fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::other(format!("no address of {host}"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(IDLE))?;
                stream.set_write_timeout(Some(IDLE))?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
