//! What the shim has to say to nobody in particular: containerd copies its FIFO in the bundle to its own log.

use std::{fmt::Display, io};

use rustix::fs::{Mode, OFlags};

/// Without a containerd that reads, the line is lost; the shim waits for nobody.
pub(crate) fn error(what: &str, why: impl Display) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fifo) = rustix::fs::open("log", flags, Mode::empty()) else { return };
    let line = format!("level=error msg={:?} runtime=io.containerd.gantry.v1\n", format!("{what}: {why}"));
    let _: io::Result<usize> = rustix::io::write(fifo, line.as_bytes()).map_err(Into::into);
}
