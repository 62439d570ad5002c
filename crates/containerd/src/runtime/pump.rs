//! Output of an exec, from its FIFOs to whoever reads the stream.
//!
//! Memory is bounded: one chunk is read only when the one before has been taken, and a reader that never reads makes
//! the process wait, as under dockerd. When the reader has gone, output is drained so that the process goes on.

use std::{io, time::Duration};

use bytes::BytesMut;
use gantry_domain::{Error, Result, log::Stream, ports::OutputChunk};
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver, sync::mpsc::Sender};
use tokio_util::sync::CancellationToken;

const CHUNK: usize = 64 << 10;
/// A process may leave children behind that keep its outputs open. After its exit the stream ends when nothing came
/// for this long (dockerd gives as much) …
const GRACE: Duration = Duration::from_secs(2);
/// … or after this many bytes: FIFO, pipe and shim together hold less, so what comes later is the children's.
const HELD: usize = 1 << 20;

/// Carries both outputs until they end. `exited` is cancelled at the process's exit.
pub async fn carry(
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    to: Sender<Result<OutputChunk>>,
    exited: &CancellationToken,
) {
    tokio::join!(one(Stream::Stdout, stdout, to.clone(), exited), one(Stream::Stderr, stderr, to, exited));
}

async fn one(stream: Stream, source: Option<Receiver>, to: Sender<Result<OutputChunk>>, exited: &CancellationToken) {
    let Some(mut source) = source else { return };
    let mut buffer = BytesMut::new();
    let mut since_exit = 0;
    while since_exit <= HELD {
        let count = match read(&mut source, &mut buffer, exited).await {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) => {
                let _ = to.send(Err(Error::from(error).context("reading the output of an exec"))).await;
                return;
            }
        };
        if exited.is_cancelled() {
            since_exit += count;
        }
        // An error means that nobody reads any more; the rest is drained.
        let _ = to.send(Ok(OutputChunk { stream, data: buffer.split().freeze() })).await;
    }
}

/// 0 at the end: no writer is left, or only such as do not belong to the process.
async fn read(source: &mut Receiver, buffer: &mut BytesMut, exited: &CancellationToken) -> io::Result<usize> {
    if buffer.capacity() < CHUNK / 2 {
        *buffer = BytesMut::with_capacity(CHUNK);
    }
    let silence = async {
        exited.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        count = source.read_buf(buffer) => count,
        () = silence => Ok(0),
    }
}
