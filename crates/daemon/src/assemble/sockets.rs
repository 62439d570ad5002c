//! The API's listening sockets outlive gantryd: gantry-netd keeps them, and the next gantryd takes them from there, so
//! that their inode stays and a request made meanwhile waits.

use std::{
    collections::BTreeSet,
    fs,
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_network::KernelNetwork;

use crate::listen::{Address, Listener, Socket, adopt};

pub struct KeptSockets {
    network: Arc<KernelNetwork>,
    /// Which addresses were left with netd, one a line.
    list: PathBuf,
}

impl KeptSockets {
    pub fn new(network: Arc<KernelNetwork>, exec_root: impl AsRef<Path>) -> Self {
        Self { network, list: list(exec_root.as_ref()) }
    }

    /// The socket that an earlier gantryd left for this address, where it still leads to us.
    pub async fn take(&self, address: &Address) -> Option<Listener> {
        if !leads_to_a_socket(address) {
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
                    kept.insert(name(&listener.address));
                }
                Err(error) => {
                    tracing::warn!(%error, address = %listener.address, "this socket ends with gantryd");
                }
            }
        }
        let before = fs::read_to_string(&self.list).unwrap_or_default();
        for name in before.lines().filter(|name| !kept.contains(*name)) {
            if let Err(error) = self.network.forget_socket(name).await {
                tracing::warn!(%error, name, "gantry-netd still listens for an address that is no longer served");
            }
        }
        let list: String = kept.iter().map(|name| format!("{name}\n")).collect();
        if let Err(error) = fs::write(&self.list, list) {
            tracing::warn!(%error, "the list of kept sockets");
        }
    }
}

/// Whether an earlier gantryd left an address's socket with netd: then it is ours that answers there, or will.
pub fn left_with_netd(exec_root: &Path) -> impl Fn(&Address) -> bool {
    let names = fs::read_to_string(list(exec_root)).unwrap_or_default();
    move |address| names.lines().any(|left| left == name(address))
}

fn list(exec_root: &Path) -> PathBuf {
    exec_root.join("api-sockets")
}

fn name(address: &Address) -> String {
    format!("api {address}")
}

/// A unix socket whose file is gone can no longer be reached by anyone.
fn leads_to_a_socket(address: &Address) -> bool {
    match address {
        Address::Unix(path) => fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()),
        Address::Tcp { .. } => true,
        Address::Fd(_) => false,
    }
}
