//! The socket over which runc hands out a terminal's master. Source: runc's `docs/terminals.md`.

use std::{
    fs, io,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixListener},
};

use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, accept_with, recvmsg},
    termios::{Winsize, tcsetwinsize},
};

/// Listens in the working folder, the bundle: its whole path is longer than a socket's may be. Taken away on drop.
#[derive(Debug)]
pub(crate) struct ConsoleSocket {
    name: String,
    listener: UnixListener,
}

impl ConsoleSocket {
    pub(crate) fn new(name: String) -> io::Result<Self> {
        let _ = fs::remove_file(&name);
        let listener = UnixListener::bind(&name)?;
        // The runtime has connected by the time that it is asked for; one that has not must not be waited for.
        listener.set_nonblocking(true)?;
        Ok(Self { name, listener })
    }

    /// As the runtime is to be told it; it starts in the same folder.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The master that the runtime has sent before it ended.
    pub(crate) fn receive(&self) -> io::Result<OwnedFd> {
        let connection = accept_with(&self.listener, SocketFlags::CLOEXEC)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 64];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        recvmsg(&connection, &mut [IoSliceMut::new(&mut name)], &mut control, flags)?;
        let mut fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let master = fds.next().and_then(|mut fds| fds.next());
        let master = master.ok_or_else(|| io::Error::other("the runtime sent no terminal"))?;
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(master)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.name);
    }
}

pub(crate) fn resize(master: &OwnedFd, width: u32, height: u32) -> io::Result<()> {
    let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    let size = Winsize { ws_row: cells(height), ws_col: cells(width), ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(master, size)?)
}
