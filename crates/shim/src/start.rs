//! `start`: containerd's first call. Leaves a daemon behind that serves on a socket, and prints the socket's address.

use std::{
    fs, io,
    io::Write as _,
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    args::Args,
    daemon::{Daemon, Facts},
    host::process::{self, Forked},
};

/// Where containerd's shims have their sockets; a bundle's path would be too long for one. Never an abstract socket,
/// which every process with the host's network could reach (CVE-2020-15257).
const SOCKETS: &str = "/run/containerd/s";
const SCHEME: &str = "unix://";
/// In the bundle: where a later containerd finds the daemon.
const ADDRESS_FILE: &str = "address";

/// The working folder is the bundle.
pub(crate) fn start(args: &Args) -> io::Result<()> {
    // The daemon must not keep open what containerd may have left open.
    process::close_from(3);
    let bundle = std::env::current_dir()?;
    let socket = socket_path(args);
    let address = format!("{SCHEME}{}", socket.display());
    let Some(listener) = listen(&socket)? else {
        // It runs already: an id is served by one.
        write_address(&address)?;
        return tell(&address);
    };
    let ready = write_address(&address).and_then(|()| adjust_oom_score());
    let forked = ready.and_then(|()| process::fork());
    match forked {
        Ok(Forked::Parent(_)) => tell(&address),
        Ok(Forked::Child) => serve(args, bundle, listener, socket),
        Err(error) => {
            let _ = fs::remove_file(&socket);
            Err(error)
        }
    }
}

fn serve(args: &Args, bundle: PathBuf, listener: UnixListener, socket: PathBuf) -> io::Result<()> {
    process::detach()?;
    let facts = Facts {
        namespace: args.namespace.clone(),
        id: args.id.clone(),
        bundle,
        socket,
        events: std::env::var_os("TTRPC_ADDRESS").map(PathBuf::from).unwrap_or_default(),
    };
    let served = Daemon::new(facts, listener).and_then(Daemon::serve);
    if let Err(error) = &served {
        crate::host::log::error("the shim ends", error);
    }
    served
}

fn tell(address: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(address.as_bytes())?;
    stdout.flush()
}

fn socket_path(args: &Args) -> PathBuf {
    let name = Path::new(&args.address).join(&args.namespace).join(&args.id);
    Path::new(SOCKETS).join(hex::encode(Sha256::digest(name.as_os_str().as_encoded_bytes())))
}

/// `None` when somebody serves there. What a dead one left behind is taken away.
fn listen(socket: &Path) -> io::Result<Option<UnixListener>> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(SOCKETS)?;
    let listener = match UnixListener::bind(socket) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(socket).is_ok() {
                return Ok(None);
            }
            fs::remove_file(socket)?;
            UnixListener::bind(socket)?
        }
        result => result?,
    };
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(Some(listener))
}

fn write_address(address: &str) -> io::Result<()> {
    // In one step: containerd reads it after a crash of its own.
    let new = format!(".{ADDRESS_FILE}");
    fs::write(&new, address)?;
    fs::rename(new, ADDRESS_FILE)
}

/// The socket that a bundle's daemon serves on.
pub(crate) fn socket_of(bundle: &Path) -> Option<PathBuf> {
    let address = fs::read_to_string(bundle.join(ADDRESS_FILE)).ok()?;
    let path = address.strip_prefix(SCHEME)?;
    path.starts_with(SOCKETS).then(|| PathBuf::from(path))
}

/// Sooner than containerd, which is our parent; the daemon inherits it.
fn adjust_oom_score() -> io::Result<()> {
    let Some(parent) = rustix::process::getppid() else { return Ok(()) };
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", parent.as_raw_nonzero()))?;
    let score: i32 = score.trim().parse().map_err(io::Error::other)?;
    fs::write("/proc/self/oom_score_adj", (score + 1).min(1000).to_string())
}
