//! Input of an exec: a sink into its FIFO whose closing is the end of input.
//!
//! The shim keeps a writing end of its own, so the process sees the end only when the shim is told (CloseIO). A sink
//! that is dropped without being closed leaves the input open, for the next gantryd to go on with.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures::{Sink, future::BoxFuture};
use gantry_domain::{ContainerId, Error, ExecId, Result};
use tokio::{io::AsyncWrite, net::unix::pipe::Sender};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::task;
use crate::client::Client;

pub struct Stdin {
    pipe: Option<Sender>,
    pending: Bytes,
    /// After the exit the shim still holds the FIFO open, and a full one would never take more.
    exited: Pin<Box<WaitForCancellationFutureOwned>>,
    end: End,
}

enum End {
    /// A terminal: the shim would close the whole console.
    Leave,
    Tell {
        client: Client,
        container: ContainerId,
        exec: ExecId,
    },
    Telling(BoxFuture<'static, Result<()>>),
}

impl Stdin {
    pub fn new(pipe: Sender, exited: CancellationToken) -> Self {
        Self { pipe: Some(pipe), pending: Bytes::new(), exited: Box::pin(exited.cancelled_owned()), end: End::Leave }
    }

    /// The process sees the end of its input when the sink is closed.
    #[must_use]
    pub fn ending(self, client: Client, container: ContainerId, exec: ExecId) -> Self {
        Self { end: End::Tell { client, container, exec }, ..self }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let broken = || Err(io::Error::from(io::ErrorKind::BrokenPipe));
            let Some(pipe) = &mut self.pipe else { return Poll::Ready(broken()) };
            if self.exited.as_mut().poll(cx).is_ready() {
                return Poll::Ready(broken());
            }
            let count = ready!(Pin::new(pipe).poll_write(cx, &self.pending))?;
            self.pending.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<Bytes> for Stdin {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, item: Bytes) -> Result<()> {
        self.pending = item;
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_write(cx).map_err(|error| Error::from(error).context("writing to the input of an exec"))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // What a process no longer reads is no reason to keep its input open.
        let _ = ready!(self.poll_write(cx));
        self.pending = Bytes::new();
        self.pipe = None;
        if let End::Tell { client, container, exec } = &self.end {
            let (client, container, exec) = (client.clone(), container.clone(), exec.clone());
            self.end = End::Telling(Box::pin(async move {
                match task::close_stdin(&client, &container, Some(&exec)).await {
                    Err(error) if !error.is_not_found() => Err(error),
                    _ => Ok(()),
                }
            }));
        }
        let End::Telling(telling) = &mut self.end else { return Poll::Ready(Ok(())) };
        let told = ready!(telling.as_mut().poll(cx));
        self.end = End::Leave;
        Poll::Ready(told)
    }
}
