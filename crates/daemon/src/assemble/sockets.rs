//! The API's listening sockets outlive gantryd: gantry-netd keeps them, and the next gantryd takes them from there, so
//! that their inode stays and a request made meanwhile waits.

use std::{
    collections::BTreeSet,
    fs,
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use gantry_network::KernelNetwork;

use crate::listen::{Address, Listener, Socket, adopt};

pub struct KeptSockets {
    network: Arc<KernelNetwork>,
    /// Which addresses were left with netd, one a line, and the file that leads to each.
    list: PathBuf,
}

impl KeptSockets {
    pub fn new(network: Arc<KernelNetwork>, exec_root: impl AsRef<Path>) -> Self {
        Self { network, list: list(exec_root.as_ref()) }
    }

    /// The socket that an earlier gantryd left for this address, where it still leads to us.
    pub async fn take(&self, address: &Address) -> Option<Listener> {
        if !left(&self.list, address) {
            return None;
        }
        match self.network.kept_socket(&name(address)).await {
            Ok(kept) => {
                let socket = adopt(kept?).map_err(|error| tracing::warn!(error, %address, "kept socket")).ok()?;
                Some(Listener { address: address.clone(), socket })
            }
            Err(error) => {
                tracing::warn!(%error, %address, "gantry-netd was not asked for the API's socket");
                None
            }
        }
    }

    /// Leaves these sockets with netd, and takes back those of addresses that are no longer served.
    pub async fn keep(&self, listeners: &[Listener]) {
        let mut kept = BTreeSet::new();
        for listener in listeners.iter().filter(|listener| !matches!(listener.address, Address::Fd(_))) {
            let descriptor = match &listener.socket {
                Socket::Unix(socket) => socket.as_fd().try_clone_to_owned(),
                Socket::Tcp(socket) => socket.as_fd().try_clone_to_owned(),
            };
            let left = match descriptor {
                Ok(descriptor) => self.network.keep_socket(&name(&listener.address), descriptor).await,
                Err(error) => Err(error.into()),
            };
            match left {
                Ok(()) => {
                    kept.insert((name(&listener.address), leads_to(&listener.address).unwrap_or_default()));
                }
                Err(error) => {
                    tracing::warn!(%error, address = %listener.address, "this socket ends with gantryd");
                }
            }
        }
        let before = fs::read_to_string(&self.list).unwrap_or_default();
        let before = before.lines().map(|line| line.split('\t').next().unwrap_or(line));
        for name in before.filter(|name| !kept.iter().any(|(kept, _)| kept == name)) {
            if let Err(error) = self.network.forget_socket(name).await {
                tracing::warn!(%error, name, "gantry-netd still listens for an address that is no longer served");
            }
        }
        let list: String = kept.iter().map(|(name, file)| format!("{name}\t{file}\n")).collect();
        if let Err(error) = fs::write(&self.list, list) {
            tracing::warn!(%error, "the list of kept sockets");
        }
    }
}

/// Whether an earlier gantryd left an address's socket with netd: then it is ours that answers there, or will.
pub fn left_with_netd(exec_root: &Path) -> impl Fn(&Address) -> bool {
    let list = list(exec_root);
    move |address| left(&list, address)
}

fn left(list: &Path, address: &Address) -> bool {
    let Some(file) = leads_to(address) else { return false };
    let line = format!("{}\t{file}", name(address));
    fs::read_to_string(list).is_ok_and(|list| list.lines().any(|left| left == line))
}

fn list(exec_root: &Path) -> PathBuf {
    exec_root.join("api-sockets")
}

fn name(address: &Address) -> String {
    format!("api {address}")
}

/// What one gets to by the address: a socket's own file. Another engine may have put its own in that place meanwhile,
/// and behind a file that is gone nobody is reached.
fn leads_to(address: &Address) -> Option<String> {
    match address {
        Address::Unix(path) => {
            let file = fs::symlink_metadata(path).ok().filter(|file| file.file_type().is_socket())?;
            // With its birth, for a number may be given anew at once.
            let born = file.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            Some(format!("{}:{}:{}", file.dev(), file.ino(), born.as_nanos()))
        }
        Address::Tcp { .. } => Some(String::new()),
        Address::Fd(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_that_another_engine_bound_is_not_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker.sock");
        let address = Address::Unix(path.clone());
        let bind = || UnixListener::bind(&path).expect("free");
        let _ours = bind();
        let line = format!("{}\t{}\n", name(&address), leads_to(&address).expect("a socket"));
        fs::write(list(folder.path()), line).expect("written");
        assert!(left_with_netd(folder.path())(&address));
        fs::remove_file(&path).expect("removed");
        assert!(!left_with_netd(folder.path())(&address), "nothing leads to it");
        let _theirs = bind();
        assert!(!left_with_netd(folder.path())(&address), "the file is another's");
    }
}
