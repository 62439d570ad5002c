//! A run's folder: FIFOs, the companion's socket, the mark of a clean end.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::DirBuilderExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use gantry_domain::{
    ContainerId,
    ports::{StdioPaths, StdioSetup},
};
use gantry_wire::stdio::{ENDED, SOCKET};
use rustix::fs::{CWD, FileType, Mode, OFlags};

/// What a FIFO holds while nobody reads: as much as an unprivileged process may ask for.
const PIPE_SIZE: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(super) struct RunFolder {
    path: PathBuf,
}

/// Ids of the runs that have a folder below `root`.
pub(super) fn list(root: &Path) -> io::Result<Vec<ContainerId>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| ContainerId::parse(&name).ok()).collect())
}

impl RunFolder {
    pub(super) fn new(root: &Path, id: &ContainerId) -> Self {
        Self { path: root.join(id.as_str()) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes the folder, for its owner only, and the FIFOs.
    pub(super) fn create(&self, setup: &StdioSetup) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        for path in [self.stdin(setup), Some(self.path.join("out")), self.stderr(setup)].into_iter().flatten() {
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        }
        Ok(())
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn paths(&self, setup: &StdioSetup) -> StdioPaths {
        let text = |path: Option<PathBuf>| path.map_or_else(String::new, |path| path.to_string_lossy().into_owned());
        StdioPaths {
            stdin: text(self.stdin(setup)),
            stdout: text(Some(self.path.join("out"))),
            stderr: text(self.stderr(setup)),
        }
    }

    fn stdin(&self, setup: &StdioSetup) -> Option<PathBuf> {
        setup.stdin.then(|| self.path.join("in"))
    }

    fn stderr(&self, setup: &StdioSetup) -> Option<PathBuf> {
        (!setup.terminal).then(|| self.path.join("err"))
    }

    /// Reading ends of the outputs, which do not block and may come before a writer.
    pub(super) fn open_outputs(&self, setup: &StdioSetup) -> io::Result<Vec<OwnedFd>> {
        [Some(self.path.join("out")), self.stderr(setup)]
            .into_iter()
            .flatten()
            .map(|path| open(&path, OFlags::RDONLY))
            .collect()
    }

    /// The writing end of the input; open for reading too, so that it can be opened before the shim's end.
    pub(super) fn open_input(&self, setup: &StdioSetup) -> io::Result<Option<OwnedFd>> {
        self.stdin(setup).map(|path| open(&path, OFlags::RDWR)).transpose()
    }

    /// The companion's socket, made anew.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        let (_held, path) = self.socket()?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(path)
    }

    /// Fails with `NotFound` or `ConnectionRefused` when there is no companion.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        let (_held, path) = self.socket()?;
        UnixStream::connect(path)
    }

    /// A short name of the socket: a socket's path has at most 107 bytes, and roots can be deep.
    fn socket(&self) -> io::Result<(OwnedFd, PathBuf)> {
        let folder = rustix::fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
        Ok((folder, path))
    }

    /// The run whose companion said that all output is in the log.
    pub(super) fn ended_run(&self) -> Option<u64> {
        fs::read_to_string(self.path.join(ENDED)).ok()?.trim().parse().ok()
    }
}

fn open(path: &Path, access: OFlags) -> io::Result<OwnedFd> {
    let fifo = rustix::fs::open(path, access | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    // Fewer bytes where the user's pipes hold many already: slower, not wrong.
    let _ = rustix::pipe::fcntl_setpipe_size(&fifo, PIPE_SIZE);
    Ok(fifo)
}
