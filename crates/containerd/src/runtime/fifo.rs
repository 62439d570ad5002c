//! FIFOs of an exec: made in a folder of their own, opened without waiting for the other side.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use gantry_domain::ExecId;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

/// Bytes that the kernel holds for us in each FIFO, against stalls at every 64 KiB of a large transfer.
const CAPACITY: usize = 256 << 10;
/// How long the shim may take to open its end of stdin after it has said that the process runs.
const OPEN_PATIENCE: Duration = Duration::from_secs(1);

/// The folder of one exec and the paths in it; an absent stream has an empty path, which the shim takes for null.
#[derive(Debug, Clone)]
pub struct Fifos {
    pub folder: PathBuf,
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
}

/// Which streams an exec has.
#[derive(Debug, Clone, Copy)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl Fifos {
    pub fn at(parent: &Path, exec: &ExecId, streams: Streams) -> Self {
        let folder = parent.join(exec.as_str());
        let path = |wanted: bool, name: &str| match wanted {
            true => folder.join(name).to_string_lossy().into_owned(),
            false => String::new(),
        };
        Self {
            stdin: path(streams.stdin, "stdin"),
            stdout: path(streams.stdout, "stdout"),
            stderr: path(streams.stderr, "stderr"),
            folder,
        }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        [&self.stdin, &self.stdout, &self.stderr].into_iter().filter(|path| !path.is_empty())
    }

    /// An exec without streams needs no folder.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    pub fn make(&self) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        for path in self.all() {
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        }
        Ok(())
    }

    /// Whether the streams that are wanted are there, after a restart.
    pub fn present(&self) -> bool {
        self.all().all(|path| Path::new(path).exists())
    }

    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Opens an output for reading. Nothing must be read before a writer has been there: it would look like the end.
pub fn reader(path: &str) -> io::Result<Option<Receiver>> {
    if path.is_empty() {
        return Ok(None);
    }
    let receiver = OpenOptions::new().open_receiver(path)?;
    // A host may limit it; the usual 64 KiB do as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&receiver, CAPACITY);
    Ok(Some(receiver))
}

/// Opens stdin for writing as soon as the shim reads it. Ours is never a reading end, so that a shim that has stopped
/// reading shows as a broken pipe.
pub async fn writer(path: &str) -> io::Result<Option<Sender>> {
    if path.is_empty() {
        return Ok(None);
    }
    let end = tokio::time::Instant::now() + OPEN_PATIENCE;
    loop {
        match OpenOptions::new().open_sender(path) {
            Ok(sender) => {
                let _ = rustix::pipe::fcntl_setpipe_size(&sender, CAPACITY);
                return Ok(Some(sender));
            }
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) && tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
