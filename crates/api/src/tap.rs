//! A client's stream that both hyper and we read: bytes that hyper does not want yet wait here, and an end is noticed.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// Bytes read before anybody asked for them.
const AHEAD: usize = 16 << 10;

/// A connection of a client: unix socket, TCP or TLS.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether the peer has closed both directions, where the kernel can tell. It cannot for TCP until a write fails.
    fn hung_up(&self) -> bool {
        false
    }
}

impl ClientStream for tokio::io::DuplexStream {}

impl ClientStream for tokio::net::UnixStream {
    fn hung_up(&self) -> bool {
        poll_hung_up(self)
    }
}

impl ClientStream for tokio::net::TcpStream {
    fn hung_up(&self) -> bool {
        poll_hung_up(self)
    }
}

fn poll_hung_up(socket: &impl std::os::fd::AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Shared by hyper's connection and the loop around it; both run in one task, so the lock is never waited for.
pub struct Tap<S>(Arc<Mutex<State<S>>>);

struct State<S> {
    stream: S,
    ahead: BytesMut,
    ended: bool,
    /// hyper asked for bytes in this poll and got none: its waker is registered.
    asked: bool,
    gone: CancellationToken,
}

impl<S> Clone for Tap<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: ClientStream> Tap<S> {
    /// `gone` is cancelled at the end of the client's input.
    pub fn new(stream: S, gone: CancellationToken) -> Self {
        Self(Arc::new(Mutex::new(State { stream, ahead: BytesMut::new(), ended: false, asked: false, gone })))
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn before_poll(&self) {
        self.lock().asked = false;
    }

    /// Reads while hyper does not, so that the end of the client's input is seen.
    pub fn read_ahead(&self, cx: &mut Context<'_>) {
        let state = &mut *self.lock();
        while !state.asked && !state.ended && state.ahead.len() < AHEAD {
            let mut space = [0; 4096];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut state.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => state.ahead.extend_from_slice(buffer.filled()),
                Poll::Ready(_) => state.end(),
            }
        }
    }

    /// Puts bytes back that were read and not used.
    pub fn unread(&self, bytes: &[u8]) {
        let state = &mut *self.lock();
        let later = state.ahead.split();
        state.ahead.extend_from_slice(bytes);
        state.ahead.extend_from_slice(&later);
    }
}

impl<S> State<S> {
    fn end(&mut self) {
        self.ended = true;
        self.gone.cancel();
    }
}

impl<S: ClientStream> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.lock();
        if !state.ahead.is_empty() {
            let count = state.ahead.len().min(buffer.remaining());
            buffer.put_slice(&state.ahead[..count]);
            state.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        if state.ended {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut state.stream).poll_read(cx, buffer);
        match &polled {
            Poll::Pending => state.asked = true,
            Poll::Ready(Ok(())) if buffer.filled().len() > before || buffer.remaining() == 0 => {}
            Poll::Ready(_) => state.end(),
        }
        polled
    }
}

impl<S: ClientStream> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.lock().stream).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.lock().stream).poll_write_vectored(cx, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.lock().stream.is_write_vectored()
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_shutdown(cx)
    }
}

impl<S: ClientStream> ClientStream for Tap<S> {
    fn hung_up(&self) -> bool {
        self.lock().stream.hung_up()
    }
}
