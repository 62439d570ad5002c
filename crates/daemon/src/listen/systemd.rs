//! Sockets that the service manager bound and handed over (`fd://`).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};

/// The first descriptor that is handed over, by systemd's convention.
const FIRST: usize = 3;

/// What was handed over; each socket can be taken once.
pub struct Inherited {
    sockets: Vec<Option<OwnedFd>>,
    names: Vec<String>,
}

impl Inherited {
    /// Takes the sockets from this process's environment; once, early.
    pub fn take() -> Self {
        let mut handed = ListenFd::from_env();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let sockets = (0..handed.len()).map(|index| handed.take_raw_fd(index).ok().flatten()).map(|fd| {
            // SAFETY: listenfd gives each descriptor of the service manager out once; nobody else owns it.
            let socket = unsafe { OwnedFd::from_raw_fd(fd?) };
            if let Err(error) = fcntl_setfd(&socket, FdFlags::CLOEXEC) {
                tracing::warn!(%error, fd = socket.as_raw_fd(), "a handed-over socket stays open in children");
            }
            Some(socket)
        });
        Self { sockets: sockets.collect(), names: names.split(':').map(str::to_owned).collect() }
    }

    /// The sockets that `fd://NAME` means: all, the one with that number, or those with that name.
    pub fn named(&mut self, name: &str) -> Result<Vec<OwnedFd>, String> {
        if self.sockets.is_empty() {
            return Err("no sockets found via socket activation: make sure the service was started by systemd".into());
        }
        let number = name.parse::<usize>().ok();
        let wanted = |index: usize| match number {
            _ if name.is_empty() || name == "*" => true,
            Some(number) => number == index + FIRST,
            None => self.names.get(index).is_some_and(|given| given == name),
        };
        let indices: Vec<usize> = (0..self.sockets.len()).filter(|&index| wanted(index)).collect();
        let found: Vec<OwnedFd> = indices.into_iter().filter_map(|index| self.sockets[index].take()).collect();
        if found.is_empty() { Err(format!("failed to find systemd socket: fd://{name}")) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn handed() -> Inherited {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = |name: &str| UnixListener::bind(folder.path().join(name)).map(OwnedFd::from).ok();
        Inherited { sockets: vec![socket("a"), socket("b")], names: vec!["api".into(), "other".into()] }
    }

    #[test]
    fn sockets_are_found_by_number_by_name_and_all() {
        assert_eq!(handed().named("").map(|found| found.len()), Ok(2));
        assert_eq!(handed().named("*").map(|found| found.len()), Ok(2));
        assert_eq!(handed().named("4").map(|found| found.len()), Ok(1));
        assert_eq!(handed().named("api").map(|found| found.len()), Ok(1));
        assert!(handed().named("5").is_err() && handed().named("nobody").is_err());
    }

    #[test]
    fn a_socket_is_taken_once() {
        let mut handed = handed();
        assert!(handed.named("3").is_ok() && handed.named("3").is_err());
    }

    #[test]
    fn none_handed_over_is_told_in_dockerds_words() {
        let mut none = Inherited { sockets: Vec::new(), names: Vec::new() };
        assert!(none.named("").expect_err("none").starts_with("no sockets found via socket activation"));
    }
}
