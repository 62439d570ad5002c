//! Attach and exec: the connection leaves HTTP and carries the streams of a process.
//!
//! ```text
//! client ──stdin──► detach keys? ──► sink        its end closes the process's input
//! client ◄─frames── output stream                its end closes our half, and the session
//! ```

pub mod keys;
pub mod websocket;

use std::time::Duration;

use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _, future::BoxFuture};
use gantry_domain::{
    Error, Result,
    log::Stream as Source,
    ports::{BoxStream, ByteSink, OutputChunk},
};
use http::{HeaderMap, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::{
    app::App,
    server::{Client, Peer, Takeover},
    stream::frame,
    tap::ClientStream,
};
use keys::Detector;

pub const RAW: &str = "application/vnd.docker.raw-stream";
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// One read of a client's input, bytes.
const READ: usize = 32 << 10;
/// How often a client that closed its sending half is asked whether it is still there.
const LOOK: Duration = Duration::from_secs(1);

/// What a connection is to carry.
pub struct Session {
    /// Output in stdcopy frames, else raw.
    pub framed: bool,
    /// Opened when the head has been sent: what an exec writes at once would else come with the head, and be lost by
    /// clients that take the socket from under a buffered reader (docker-py).
    pub streams: BoxFuture<'static, Result<Streams>>,
}

/// The streams of a process.
pub struct Streams {
    pub output: BoxStream<Result<OutputChunk>>,
    pub stdin: Option<ByteSink>,
    /// Present where the keys are to be looked for.
    pub detach: Option<Detector>,
    /// Told when the keys were typed.
    pub on_detach: Box<dyn FnOnce() + Send>,
}

impl Streams {
    /// Only tells why there is no process: the client reads it as output, and the exit code by inspect.
    fn complaint(error: &Error) -> Self {
        tracing::debug!(error = ?error, "a session did not begin");
        let text = OutputChunk { stream: Source::Stdout, data: Bytes::from(format!("{}\r\n", error.message())) };
        Self {
            output: Box::pin(futures::stream::iter([Ok(text)])),
            stdin: None,
            detach: None,
            on_detach: Box::new(|| {}),
        }
    }
}

/// How the answer begins: `101 UPGRADED` for a client that asked for an upgrade, else `200 OK`; bytes follow.
pub fn head(request: &HeaderMap, content_type: &str, app: &App) -> Bytes {
    let mut headers = HeaderMap::new();
    crate::version::add_headers(&mut headers, app);
    let mut head = start_of_head(request, content_type);
    for (name, value) in &headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head.freeze()
}

fn start_of_head(request: &HeaderMap, content_type: &str) -> BytesMut {
    let mut head = BytesMut::with_capacity(256);
    if request.contains_key(header::UPGRADE) {
        head.extend_from_slice(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: ");
        head.extend_from_slice(content_type.as_bytes());
        head.extend_from_slice(b"\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n");
    } else {
        head.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: ");
        head.extend_from_slice(RAW.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head
}

/// Takes the connection over for `session`.
pub async fn upgrade(client: &Client, head: Bytes, session: Session) -> Response {
    let session = Box::new(move |peer| -> BoxFuture<'static, ()> { Box::pin(run(peer, session)) });
    client.take_over(Takeover { head, session }).await
}

/// An error of attach: dockerd has left HTTP's JSON behind by then and writes plain text.
pub fn refuse(error: Error) -> Response {
    let error = crate::error::ApiError::from(error);
    let mut response = Response::new(axum::body::Body::from(format!("{}\r\n", error.message)));
    *response.status_mut() = error.status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(RAW));
    response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}

/// How long a client may take to see that the output has ended.
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);

async fn run(peer: Peer, session: Session) {
    let (mut reader, mut writer) = tokio::io::split(peer.stream);
    let Session { framed, streams } = session;
    let streams = streams.await.unwrap_or_else(|error| Streams::complaint(&error));
    let Streams { output, stdin, detach, on_detach } = streams;
    let mut stdin = stdin;
    let outcome = tokio::select! {
        // Output first: what the process wrote before the client left is still sent.
        biased;
        end = copy_output(output, &mut writer, framed) => end,
        end = copy_input(&mut reader, &mut stdin, detach, &*peer.hung_up) => end,
    };
    match outcome {
        End::Detached => on_detach(),
        End::OutputOver => {}
        End::ClientGone => {
            tracing::debug!("attached client went away");
            // Also where it was the output that could not be written.
            close(stdin).await;
        }
    }
    if let Err(error) = writer.shutdown().await {
        tracing::debug!(%error, "attached client went before its stream was closed");
    }
    // Closing on input that was not read would reset the connection, and the client would lose the end of the output.
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut reader, &mut tokio::io::sink())).await;
}

enum End {
    /// The process's output has ended and was written.
    OutputOver,
    Detached,
    ClientGone,
}

async fn copy_output(
    mut output: BoxStream<Result<OutputChunk>>,
    writer: &mut WriteHalf<Box<dyn ClientStream>>,
    framed: bool,
) -> End {
    let mut buffer = BytesMut::new();
    while let Some(chunk) = output.next().await {
        let written = match chunk {
            Ok(chunk) if framed => {
                buffer.clear();
                frame(&mut buffer, chunk.stream, &chunk.data);
                writer.write_all(&buffer).await
            }
            Ok(chunk) => writer.write_all(&chunk.data).await,
            Err(error) => {
                tracing::warn!(error = ?error, "output of a session broke off");
                buffer.clear();
                let text = format!("{}\r\n", error.message());
                if framed {
                    frame(&mut buffer, Source::System, text.as_bytes());
                } else {
                    buffer.extend_from_slice(text.as_bytes());
                }
                writer.write_all(&buffer).await
            }
        };
        if written.is_err() || writer.flush().await.is_err() {
            return End::ClientGone;
        }
    }
    End::OutputOver
}

/// Ends only when the client detached or is gone; the end of its input alone leaves the output going.
async fn copy_input(
    reader: &mut ReadHalf<Box<dyn ClientStream>>,
    stdin: &mut Option<ByteSink>,
    mut detach: Option<Detector>,
    hung_up: &(dyn Fn() -> bool + Send + Sync),
) -> End {
    let mut buffer = BytesMut::with_capacity(READ);
    loop {
        buffer.reserve(READ);
        // A failed read is a reset connection.
        let Ok(count) = reader.read_buf(&mut buffer).await else {
            return End::ClientGone;
        };
        if count == 0 {
            close(stdin.take()).await;
            return until(hung_up).await;
        }
        let Some(sink) = stdin.as_mut() else {
            buffer.clear();
            continue;
        };
        let typed = buffer.split().freeze();
        let (typed, detached) = match detach.as_mut() {
            Some(detector) => detector.feed(typed),
            None => (typed, false),
        };
        if !typed.is_empty() && sink.send(typed).await.is_err() {
            // The process no longer reads; its output may still come.
            *stdin = None;
        }
        if detached {
            return End::Detached;
        }
    }
}

async fn close(stdin: Option<ByteSink>) {
    if let Some(mut sink) = stdin
        && let Err(error) = sink.close().await
    {
        tracing::debug!(error = ?error, "end of input did not reach the process");
    }
}

/// A client that closed its sending half still reads, or is gone: only the socket knows.
async fn until(hung_up: &(dyn Fn() -> bool + Send + Sync)) -> End {
    while !hung_up() {
        tokio::time::sleep(LOOK).await;
    }
    End::ClientGone
}

#[cfg(test)]
mod tests;
