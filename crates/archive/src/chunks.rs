//! Bytes on their way from an async body through blocking threads: pulled piece by piece, shared and not copied.

use bytes::Bytes;
use futures::StreamExt as _;
use gantry_domain::{Error, Result, ports::ByteStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Largest piece that is handed on in one go, in bytes; bounds what waits in a channel.
pub const PIECE: usize = 256 << 10;
/// Pieces that wait between two threads.
pub const DEPTH: usize = 32;

/// A source of bytes for a blocking thread; `None` is the proper end, a cut is an error.
pub trait Chunks: Send {
    fn next(&mut self) -> Result<Option<Bytes>>;
}

impl<T: Chunks + ?Sized> Chunks for Box<T> {
    fn next(&mut self) -> Result<Option<Bytes>> {
        (**self).next()
    }
}

/// The receiving end of a pipe; not for use on a runtime's thread.
pub struct Pipe {
    receiver: mpsc::Receiver<Piece>,
    /// Its end was read; asking again gives the end again.
    ended: bool,
}

/// What goes through a pipe. A pipe that closes without `End` was cut.
pub enum Piece {
    Data(Bytes),
    End,
    Failed(Error),
}

/// The sending end.
#[derive(Clone)]
pub struct PipeSender(mpsc::Sender<Piece>);

pub fn pipe() -> (PipeSender, Pipe) {
    pipe_of(DEPTH)
}

/// One in which so many pieces may wait.
pub fn pipe_of(depth: usize) -> (PipeSender, Pipe) {
    let (sender, receiver) = mpsc::channel(depth);
    (PipeSender(sender), Pipe { receiver, ended: false })
}

impl PipeSender {
    /// From a blocking thread; `false` when nobody reads any more.
    pub fn send(&self, data: Bytes) -> bool {
        self.0.blocking_send(Piece::Data(data)).is_ok()
    }
    /// The same from a task.
    pub async fn push(&self, data: Bytes) -> bool {
        self.0.send(Piece::Data(data)).await.is_ok()
    }
    pub async fn finish(self) {
        // A reader that went away has told its own error.
        let _ = self.0.send(Piece::End).await;
    }
    pub fn end(self) {
        // A reader that went away has told its own error.
        let _ = self.0.blocking_send(Piece::End);
    }
}

impl PipeSender {
    /// The other end reads this error.
    pub fn fail(self, error: Error) {
        // A reader that went away has told its own error.
        let _ = self.0.blocking_send(Piece::Failed(error));
    }
}

impl Chunks for Pipe {
    fn next(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        match self.receiver.blocking_recv() {
            Some(Piece::Data(data)) => Ok(Some(data)),
            Some(Piece::End) => {
                self.ended = true;
                Ok(None)
            }
            Some(Piece::Failed(error)) => Err(error),
            None => Err(Error::cancelled("the transfer was cut off")),
        }
    }
}

/// Carries a body into a pipe until its end, its error, or until nobody wants it any more.
pub async fn feed(mut body: ByteStream, into: PipeSender, stop: CancellationToken) {
    loop {
        let item = tokio::select! {
            item = body.next() => item,
            () = stop.cancelled() => Some(Err(Error::cancelled("the client went away"))),
        };
        let piece = match item {
            None => Piece::End,
            Some(Err(error)) => Piece::Failed(error),
            Some(Ok(mut data)) => {
                while data.len() > PIECE {
                    if into.0.send(Piece::Data(data.split_to(PIECE))).await.is_err() {
                        return;
                    }
                }
                Piece::Data(data)
            }
        };
        let last = !matches!(piece, Piece::Data(_));
        if into.0.send(piece).await.is_err() || last {
            return;
        }
    }
}

/// `Read` on chunks, for the decoders. A chunk's error travels inside the `io::Error`; see [`unwrap_io`].
pub struct ChunkRead<C> {
    pub source: C,
    pub current: Bytes,
    /// Bytes taken from the source.
    pub taken: u64,
}

impl<C: Chunks> ChunkRead<C> {
    fn fill(&mut self) -> std::io::Result<()> {
        while self.current.is_empty() {
            match self.source.next().map_err(std::io::Error::other)? {
                Some(chunk) => {
                    self.taken += chunk.len() as u64;
                    self.current = chunk;
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

impl<C: Chunks> std::io::Read for ChunkRead<C> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.fill()?;
        let count = self.current.len().min(into.len());
        into[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

impl<C: Chunks> std::io::BufRead for ChunkRead<C> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.fill()?;
        Ok(&self.current)
    }
    fn consume(&mut self, count: usize) {
        let _ = self.current.split_to(count);
    }
}

/// The error of a decoder: what the source said, or else damaged input.
pub fn unwrap_io(error: std::io::Error) -> Error {
    let text = error.to_string();
    let kind = error.kind();
    match error.into_inner().map(|inner| inner.downcast::<Error>()) {
        Some(Ok(inner)) => *inner,
        _ if kind == std::io::ErrorKind::UnexpectedEof => Error::invalid("unexpected EOF"),
        _ => Error::invalid(format!("cannot decompress the archive: {text}")),
    }
}

/// Chunks already at hand.
#[cfg(test)]
pub struct Ready(pub std::collections::VecDeque<Bytes>);

#[cfg(test)]
impl Chunks for Ready {
    fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.pop_front())
    }
}
