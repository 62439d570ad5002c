//! A companion that stands ready, and how it gets its work: starting a container starts no process here.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use gantry_domain::{
    Error, Result,
    ports::{LogSink, StdioSetup},
};
use gantry_wire::{
    frame,
    stdio::{Assign, Log, LogFormat, Message, VERSION},
};
use parking_lot::Mutex;
use tokio::process::{Child, Command};
use tokio_util::task::TaskTracker;

use super::{Placing, folder::RunFolder};

/// A spare that does not answer for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// A killed one is gone at once, but where the kernel is busy for it.
const DYING: Duration = Duration::from_secs(5);

pub(super) struct Spares {
    shelf: Arc<Shelf>,
    tasks: TaskTracker,
}

struct Shelf {
    binary: PathBuf,
    ready: Mutex<Option<Spare>>,
}

struct Spare {
    control: UnixStream,
    child: Child,
}

/// A companion at work.
pub(super) struct Placed {
    pub(super) control: UnixStream,
    pub(super) child: Option<Child>,
    pub(super) pid: u32,
    /// Kept so that what is written is there for a successor.
    pub(super) outputs: Vec<OwnedFd>,
}

impl Spares {
    pub(super) fn new(binary: PathBuf, tasks: TaskTracker) -> Self {
        Self { shelf: Arc::new(Shelf { binary, ready: Mutex::new(None) }), tasks }
    }

    /// Starts the next spare in the background, if there is none.
    pub(super) fn refill(&self) {
        if self.shelf.ready.lock().is_some() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let shelf = self.shelf.clone();
        self.tasks.spawn_blocking(move || match shelf.start() {
            // One that came second is dropped, and ends with its socket.
            Ok(spare) => *shelf.ready.lock() = Some(spare),
            Err(error) => tracing::warn!(%error, binary = %shelf.binary.display(), "cannot start a spare companion"),
        });
    }
}

impl Shelf {
    fn start(&self) -> io::Result<Spare> {
        let (control, theirs) = UnixStream::pair()?;
        // With the socket as its input the child needs no descriptor passed by number.
        let child = Command::new(&self.binary)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            .current_dir("/")
            .spawn()?;
        control.set_read_timeout(Some(PATIENCE))?;
        control.set_write_timeout(Some(PATIENCE))?;
        Ok(Spare { control, child })
    }
}

/// Blocking: makes what the run needs and hands it to a spare; returns when the companion has it.
pub(super) fn place(spares: &Spares, setup: &StdioSetup, folder: &RunFolder, placing: Placing) -> Result<Placed> {
    let successor = matches!(placing, Placing::Successor(_));
    let outputs = match placing {
        Placing::First => {
            folder.create(setup)?;
            folder.open_outputs(setup)?
        }
        Placing::Successor(Some(dead)) if !dead.outputs.is_empty() => {
            dead.outputs.iter().map(OwnedFd::try_clone).collect::<io::Result<Vec<OwnedFd>>>()?
        }
        Placing::Successor(_) => folder.open_outputs(setup)?,
    };
    let input = folder.open_input(setup)?;
    let listener = folder.listen()?;
    let fds: Vec<BorrowedFd<'_>> =
        [listener.as_fd()].into_iter().chain(outputs.iter().chain(&input).map(|fd| fd.as_fd())).collect();
    let assign = Message::Assign(assignment(setup, folder, successor));
    let ready = spares.shelf.ready.lock().take();
    let placed = match ready {
        // The spare may have been killed while it waited.
        Some(spare) => assign_to(spare, &assign, &fds).or_else(|refused| match refused {
            Refused::Dead(_) => assign_to(spares.shelf.start().map_err(Refused::Dead)?, &assign, &fds),
            said => Err(said),
        }),
        None => spares.shelf.start().map_err(Refused::Dead).and_then(|spare| assign_to(spare, &assign, &fds)),
    };
    // Before the next spare is forked, which would have a copy until it executes its program.
    drop(listener);
    spares.refill();
    let (control, child, pid) = placed.map_err(|refused| match refused {
        Refused::Dead(error) => Error::system("the companion did not start").with_source(error),
        Refused::Said(message) => Error::system(message),
    })?;
    Ok(Placed { control, child: Some(child), pid, outputs })
}

enum Refused {
    Dead(io::Error),
    Said(String),
}

/// A spare that does not take the work has ended when this returns: it might come to itself and read beside another.
fn assign_to(
    mut spare: Spare,
    assign: &Message,
    fds: &[BorrowedFd<'_>],
) -> std::result::Result<(UnixStream, Child, u32), Refused> {
    match hand_over(&spare.control, assign, fds) {
        Ok(pid) => Ok((spare.control, spare.child, pid)),
        Err(refused) => match end(&mut spare.child) {
            Ok(()) => Err(refused),
            Err(error) => Err(Refused::Said(format!("a companion that does not answer cannot be ended: {error}"))),
        },
    }
}

/// Kills a companion that was not placed, and waits for its end. Blocks.
fn end(child: &mut Child) -> io::Result<()> {
    child.start_kill()?;
    let limit = Instant::now() + DYING;
    while child.try_wait()?.is_none() {
        if Instant::now() > limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn hand_over(mut control: &UnixStream, assign: &Message, fds: &[BorrowedFd<'_>]) -> std::result::Result<u32, Refused> {
    frame::send(control, assign, fds).map_err(Refused::Dead)?;
    let answer = frame::read(&mut control).map_err(Refused::Dead)?;
    let (_, data) = answer.ok_or_else(|| Refused::Dead(io::ErrorKind::UnexpectedEof.into()))?;
    match frame::message(&data).map_err(Refused::Dead)? {
        Message::Ready { pid, .. } => Ok(pid),
        Message::Failed { message } => Err(Refused::Said(message)),
        _ => Err(Refused::Dead(io::ErrorKind::InvalidData.into())),
    }
}

fn assignment(setup: &StdioSetup, folder: &RunFolder, successor: bool) -> Assign {
    let log = match &setup.log {
        LogSink::None => None,
        LogSink::JsonFile(file) => Some((LogFormat::JsonFile, file)),
        LogSink::Local(file) => Some((LogFormat::Local, file)),
    };
    Assign {
        version: VERSION,
        id: setup.id.to_string(),
        run: setup.run,
        folder: folder.path().to_owned(),
        terminal: setup.terminal,
        stdin: setup.stdin,
        stdin_once: setup.stdin_once,
        stderr: !setup.terminal,
        log: log.map(|(format, file)| Log {
            format,
            path: file.path.clone(),
            max_size: file.max_size,
            max_files: file.max_files,
            compress: file.compress,
            attrs: file.attrs.clone(),
        }),
        successor,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_spare_that_does_not_answer_has_ended_before_another_is_asked() {
        let (control, _theirs) = UnixStream::pair().unwrap();
        control.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id().unwrap();
        let refused = assign_to(Spare { control, child }, &Message::TaskExited, &[]);
        assert!(matches!(refused, Err(Refused::Dead(_))));
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
    }
}
