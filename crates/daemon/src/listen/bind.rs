//! Listening sockets for the addresses that were configured.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::net::{AddressFamily, sockopt};
use tokio::net::{TcpListener, UnixListener};

use super::{Address, Inherited, unix};

/// A socket that listens, and the address it was asked for by.
pub struct Listener {
    pub address: Address,
    pub socket: Socket,
}

pub enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Whom unix sockets are for.
pub struct Group<'a> {
    pub name: &'a str,
    /// It was asked for by name, and not only dockerd's default.
    pub named: bool,
}

/// Binds one address; `fd://` may stand for several sockets.
pub async fn bind(address: &Address, group: Option<u32>, inherited: &mut Inherited) -> Result<Vec<Listener>, String> {
    let sockets = match address {
        Address::Unix(path) => vec![unix::bind(path, group).await.and_then(adopt_unix)?],
        Address::Tcp { host, port } => vec![tcp(host, *port).await?],
        Address::Fd(name) => inherited.named(name)?.into_iter().map(adopt).collect::<Result<_, _>>()?,
    };
    Ok(sockets.into_iter().map(|socket| Listener { address: address.clone(), socket }).collect())
}

/// Whether these addresses can be bound, as far as that can be told without binding them.
pub async fn check_free(addresses: impl Iterator<Item = &Address>) -> Result<(), String> {
    for address in addresses {
        if let Address::Unix(path) = address {
            unix::check_free(path).await?;
        }
    }
    Ok(())
}

/// A unix socket that was bound earlier is for whom the configuration says now.
pub fn admit(listener: &Listener, group: Option<u32>) -> Result<(), String> {
    match &listener.address {
        Address::Unix(path) => unix::admit(path, group),
        Address::Tcp { .. } | Address::Fd(_) => Ok(()),
    }
}

/// Takes a listening socket that somebody else bound: the service manager, or gantry-netd for an earlier gantryd.
pub fn adopt(socket: OwnedFd) -> Result<Socket, String> {
    match sockopt::socket_domain(socket.as_fd()) {
        Ok(AddressFamily::UNIX) => adopt_unix(socket.into()),
        Ok(AddressFamily::INET | AddressFamily::INET6) => {
            let listener = std::net::TcpListener::from(socket);
            let ready = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
            ready.map(Socket::Tcp).map_err(|error| error.to_string())
        }
        Ok(_) => Err("a socket that was handed over is neither unix nor TCP".into()),
        Err(error) => Err(format!("what was handed over is no socket: {error}")),
    }
}

fn adopt_unix(listener: std::os::unix::net::UnixListener) -> Result<Socket, String> {
    let ready = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    ready.map(Socket::Unix).map_err(|error| error.to_string())
}

async fn tcp(host: &str, port: u16) -> Result<Socket, String> {
    TcpListener::bind((host, port)).await.map(Socket::Tcp).map_err(|error| format!("listen tcp {host}:{port}: {error}"))
}

impl Group<'_> {
    /// The group's number. A default that is missing is root's, with a word in the log; a named one is an error.
    pub fn resolve(&self, file: &Path) -> Result<Option<u32>, String> {
        if self.name.is_empty() {
            return Ok(None);
        }
        match lookup(file, self.name) {
            Ok(Some(gid)) => Ok(Some(gid)),
            Ok(None) if self.named => Err(format!("group {} not found", self.name)),
            Ok(None) => {
                tracing::warn!(group = self.name, "the group of the socket is missing: only root may connect");
                Ok(None)
            }
            Err(error) => Err(format!("{}: {error}", file.display())),
        }
    }
}

fn lookup(file: &Path, name: &str) -> io::Result<Option<u32>> {
    if let Ok(gid) = name.parse() {
        return Ok(Some(gid));
    }
    let content = std::fs::read_to_string(file)?;
    let entry = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    Ok(content.lines().find_map(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_group_is_an_error_only_where_it_was_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "root:x:0:\ndocker:x:998:me\n").expect("written");
        let resolve = |name, named| Group { name, named }.resolve(file.path());
        assert_eq!(resolve("docker", false), Ok(Some(998)));
        assert_eq!(resolve("42", true), Ok(Some(42)));
        assert_eq!(resolve("", false), Ok(None));
        assert_eq!(resolve("nobody", false), Ok(None));
        assert_eq!(resolve("nobody", true), Err("group nobody not found".into()));
    }
}
