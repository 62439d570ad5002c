//! Attach over a WebSocket (RFC 6455): one stream of bytes each way, never in Docker's frames.
//!
//! ```text
//! client ──messages──► WebSocketStream ──► detach keys? ──► stdin     a Close, or the end of its half: end of input
//!    ▲                      └─ pongs ─┐
//!    └────── one frame a chunk ◄──────┴─◄── output                    its end: Close, and the session
//! ```
//!
//! Reading and writing are apart: a client whose input has ended still gets the output, as from dockerd, and
//! tungstenite alone would write no more.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _, future::BoxFuture};
use gantry_domain::{
    Error, Result,
    ports::{BoxStream, ByteSink, OutputChunk},
};
use http::{HeaderMap, header};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::derive_accept_key,
        protocol::{
            CloseFrame, Role, WebSocketConfig,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};

use super::{End, LINGER, Streams, close, keys::Detector, until};
use crate::server::{Client, Peer, Takeover};

/// Input that a client may send in one message, bytes.
const MAX_MESSAGE: usize = 16 << 20;
/// Pongs that wait to be written; a client that only pings and never reads waits with them.
const REPLIES: usize = 16;

/// The answer to a client that asked for a WebSocket; in the words of the library that dockerd uses.
pub fn head(request: &HeaderMap) -> Result<Bytes> {
    let text = |name| request.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok()).unwrap_or_default();
    let upgrade = text(header::CONNECTION).to_ascii_lowercase().contains("upgrade");
    if !upgrade || !text(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return Err(Error::invalid("not websocket protocol"));
    }
    if text(header::SEC_WEBSOCKET_VERSION) != "13" {
        return Err(Error::invalid("missing or bad WebSocket Version"));
    }
    let key = text(header::SEC_WEBSOCKET_KEY);
    if key.is_empty() {
        return Err(Error::invalid("mismatch challenge/response"));
    }
    let accept = derive_accept_key(key.as_bytes());
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
    );
    let protocol = text(header::SEC_WEBSOCKET_PROTOCOL).trim();
    if !protocol.is_empty() {
        if protocol.contains(',') {
            return Err(Error::invalid("missing or bad WebSocket-Protocol"));
        }
        head.push_str(&format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
    }
    head.push_str("\r\n");
    Ok(Bytes::from(head))
}

/// Takes the connection over. Before API 1.28 messages are of type text, whatever the bytes.
pub async fn upgrade(client: &Client, head: Bytes, streams: Streams, kind: Data) -> axum::response::Response {
    let session = Box::new(move |peer| -> BoxFuture<'static, ()> { Box::pin(run(peer, streams, kind)) });
    client.take_over(Takeover { head, session }).await
}

async fn run(peer: Peer, streams: Streams, kind: Data) {
    let (mut reader, mut writer) = tokio::io::split(peer.stream);
    let (replies, mut answers) = mpsc::channel(REPLIES);
    let Streams { output, stdin, detach, on_detach } = streams;
    let input = async {
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let joined = tokio::io::join(&mut reader, Replies(tokio_util::sync::PollSender::new(replies)));
        let socket = WebSocketStream::from_raw_socket(joined, Role::Server, Some(config)).await;
        copy_input(socket, stdin, detach, &*peer.hung_up).await
    };
    let outcome = tokio::select! {
        // Output first: what the process wrote before the client left is still sent.
        biased;
        end = copy_output(output, &mut writer, &mut answers, kind) => end,
        end = input => end,
    };
    if matches!(outcome, End::Detached) {
        on_detach();
    }
    let farewell = Frame::close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
    let ended = async {
        writer.write_all(&encoded(farewell)?).await?;
        writer.shutdown().await
    };
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a client went before its WebSocket was closed");
    }
    // Closing on input that was not read would reset the connection, and the client would lose the end of the output.
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut reader, &mut tokio::io::sink())).await;
}

async fn copy_output(
    mut output: BoxStream<Result<OutputChunk>>,
    writer: &mut (impl AsyncWrite + Unpin),
    answers: &mut mpsc::Receiver<Bytes>,
    kind: Data,
) -> End {
    loop {
        let frame = tokio::select! {
            Some(answer) = answers.recv() => answer,
            chunk = output.next() => {
                let data = match chunk {
                    None => return End::OutputOver,
                    Some(Ok(chunk)) => chunk.data,
                    Some(Err(error)) => {
                        tracing::warn!(error = ?error, "output of a session broke off");
                        Bytes::from(format!("{}\r\n", error.message()))
                    }
                };
                let Ok(frame) = encoded(Frame::message(data, OpCode::Data(kind), true)) else {
                    return End::ClientGone;
                };
                frame
            }
        };
        if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
            return End::ClientGone;
        }
    }
}

async fn copy_input<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    mut stdin: Option<ByteSink>,
    mut detach: Option<Detector>,
    hung_up: &(dyn Fn() -> bool + Send + Sync),
) -> End {
    let had_input = stdin.is_some();
    while let Some(message) = socket.next().await {
        let typed = match message {
            Ok(Message::Binary(data)) => data,
            Ok(Message::Text(text)) => Bytes::from(text),
            // Without input there is nothing that the end of it could mean but good-bye.
            Ok(Message::Close(_)) if !had_input => return End::ClientGone,
            Ok(Message::Close(_)) => break,
            Ok(_) => continue,
            Err(error) => {
                if !matches!(error, tungstenite::Error::Protocol(_)) {
                    tracing::debug!(%error, "a WebSocket was not closed in order");
                }
                break;
            }
        };
        let Some(sink) = stdin.as_mut() else { continue };
        let (typed, detached) = match detach.as_mut() {
            Some(detector) => detector.feed(typed),
            None => (typed, false),
        };
        if !typed.is_empty() && sink.send(typed).await.is_err() {
            // The process no longer reads; its output may still come.
            stdin = None;
        }
        if detached {
            return End::Detached;
        }
    }
    close(stdin).await;
    until(hung_up).await
}

fn encoded(frame: Frame) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(frame.len());
    frame.format(&mut bytes).map_err(io::Error::other)?;
    Ok(BytesMut::from(bytes.as_slice()).freeze())
}

/// Where the reading side puts what it has to answer. Each write holds whole frames.
struct Replies(tokio_util::sync::PollSender<Bytes>);

impl AsyncWrite for Replies {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        std::task::ready!(self.0.poll_reserve(cx)).map_err(|_| gone())?;
        self.0.send_item(Bytes::copy_from_slice(frames)).map_err(|_| gone())?;
        Poll::Ready(Ok(frames.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    const ASKED: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_key_of_the_rfc_is_answered_as_the_rfc_says() {
        let head = head(&request(&ASKED)).unwrap();
        let text = String::from_utf8_lossy(&head);
        assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
        assert!(text.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{text}");
    }

    #[test]
    fn who_does_not_ask_for_a_websocket_is_refused() {
        for (left_out, why) in [
            ("upgrade", "not websocket protocol"),
            ("sec-websocket-version", "missing or bad WebSocket Version"),
            ("sec-websocket-key", "mismatch challenge/response"),
        ] {
            let rest: Vec<_> = ASKED.into_iter().filter(|(name, _)| *name != left_out).collect();
            assert_eq!(head(&request(&rest)).unwrap_err().message(), why);
        }
    }
}
