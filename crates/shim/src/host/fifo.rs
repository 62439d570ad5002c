//! The standard streams of a process, from the paths in containerd's request. Source: containerd's `cio`.
//!
//! A FIFO goes to the process itself, so its bytes pass through nobody, save for the outputs of the first process (see
//! `container/relay.rs`). Beside it the shim holds ends of its own:
//!
//! | stream | held | why | until |
//! |---|---|---|---|
//! | stdin | writing end | the process sees the end when CloseIO says so, not when a client has gone | CloseIO |
//! | stdin | reading end | who opens the FIFO after a quick process has ended must not have to wait for a reader | Delete |
//! | output | both ends | a reader that dies and is replaced costs the process nothing: no EPIPE | the exit |

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat},
    io::Errno,
};

/// Paths as containerd gave them; an empty one stands for `/dev/null`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// The ends that the shim holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) stdin_writer: Option<OwnedFd>,
    pub(crate) stdin_reader: Option<OwnedFd>,
    pub(crate) outputs: Vec<OwnedFd>,
}

/// A description of the process's own: what it does to its flags concerns nobody else.
pub(crate) fn input(path: &str, held: &mut Held) -> io::Result<Option<OwnedFd>> {
    if path.is_empty() {
        return Ok(None);
    }
    let path = file(path)?;
    let given = open_at(path, OFlags::RDONLY)?;
    if is_fifo(&given)? {
        held.stdin_reader = Some(open_at(path, OFlags::RDONLY)?);
        held.stdin_writer = Some(open_at(path, OFlags::WRONLY)?);
        blocking(&given)?;
    }
    Ok(Some(given))
}

/// Where output goes.
#[derive(Debug)]
pub(crate) enum Output {
    /// Open for writing, ready for a process.
    File(OwnedFd),
    /// Open at both ends, which does not wait for a reader; another end is opened by `writer`.
    Fifo(OwnedFd),
}

pub(crate) fn output(path: &str) -> io::Result<Option<Output>> {
    if path.is_empty() {
        return Ok(None);
    }
    if let Some(path) = path.strip_prefix("file://") {
        return append(path).map(|file| Some(Output::File(file)));
    }
    let path = file(path)?;
    let both = open_at(path, OFlags::RDWR)?;
    let output = if is_fifo(&both)? { Output::Fifo(both) } else { Output::File(append(path)?) };
    Ok(Some(output))
}

/// A process's end of an output whose other ends are held.
pub(crate) fn writer(path: &str) -> io::Result<OwnedFd> {
    let given = open_at(file(path)?, OFlags::WRONLY)?;
    blocking(&given)?;
    Ok(given)
}

/// Both ends of a terminal's stream, for the shim carries its bytes: `stdin` to read, else to write.
pub(crate) fn open_both(path: &str) -> io::Result<Option<OwnedFd>> {
    if path.is_empty() {
        return Ok(None);
    }
    let path = file(path)?;
    let fd = open_at(path, OFlags::RDWR)?;
    if !is_fifo(&fd)? {
        return Err(io::Error::other(format!("{path} is not a FIFO, as a terminal's streams must be")));
    }
    Ok(Some(fd))
}

fn append(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?)
}

fn file(path: &str) -> io::Result<&str> {
    let path = path.strip_prefix("fifo://").unwrap_or(path);
    match path.split_once("://") {
        Some((scheme, _)) => Err(io::Error::other(format!(
            "streams of kind {scheme:?} are not offered by this shim: use FIFOs, or the runtime io.containerd.runc.v2"
        ))),
        None => Ok(path),
    }
}

fn open_at(path: &str, access: OFlags) -> io::Result<OwnedFd> {
    rustix::fs::open(Path::new(path), access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("open {path}: {error}")))
}

fn is_fifo(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Fifo)
}

fn blocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? - OFlags::NONBLOCK)?)
}

/// Reads what is there; `None` where there is nothing now.
pub(crate) fn read(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    none_yet(rustix::io::read(fd, buffer))
}

/// Writes what is taken; `None` where nothing is taken now.
pub(crate) fn write(fd: &OwnedFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    none_yet(rustix::io::write(fd, bytes))
}

fn none_yet(result: Result<usize, Errno>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs::File, io::Read as _};

    use rustix::fs::{CWD, mknodat};

    use super::*;

    fn fifo(dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn an_output_ends_when_process_and_shim_have_closed_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(dir.path(), "out");
        let reader = open_at(&path, OFlags::RDONLY).unwrap();
        let held = output(&path).unwrap();
        let stdout = writer(&path).unwrap();
        assert_eq!(write(&stdout, b"hello").unwrap(), Some(5));
        drop(stdout);
        let mut buffer = [0; 16];
        assert_eq!(read(&reader, &mut buffer).unwrap(), Some(5));
        assert_eq!(read(&reader, &mut buffer).unwrap(), None, "the shim holds it open");
        drop(held);
        assert_eq!(read(&reader, &mut buffer).unwrap(), Some(0));
    }

    #[test]
    fn input_ends_when_both_the_client_and_the_shim_have_closed_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(dir.path(), "in");
        let mut held = Held::default();
        let given = input(&path, &mut held).unwrap();
        let client = open_at(&path, OFlags::WRONLY).unwrap();
        write(&client, b"text").unwrap();
        drop(client);
        held.stdin_writer = None;
        let mut all = String::new();
        File::from(given.unwrap()).read_to_string(&mut all).unwrap();
        assert_eq!(all, "text");
    }

    #[test]
    fn a_stream_that_a_program_would_serve_is_refused_with_advice() {
        let error = output("binary:///bin/logger").unwrap_err().to_string();
        assert!(error.contains("io.containerd.runc.v2"), "{error}");
    }
}
