//! Clients of a run: one connection each, made again when the companion dies and has a successor.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::Sink;
use gantry_domain::{
    ContainerId, Error, Result,
    log::Stream,
    ports::{AttachRequest, AttachStreams, OutputChunk},
};
use gantry_wire::{
    frame,
    stdio::{MAX_LOSS, Message, Role, VERSION},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;

use super::{Inner, folder::RunFolder, session::State};

/// Pieces on their way in gantryd: few, for the companion has the client's buffer.
const PIECES: usize = 4;
/// How long a client waits for the successor of a dead companion.
const SUCCESSION: Duration = Duration::from_secs(30);
/// Input is cut into frames of this size.
const INPUT_FRAME: usize = 64 << 10;

pub(super) async fn attach(inner: &Arc<Inner>, id: &ContainerId, request: AttachRequest) -> Result<AttachStreams> {
    let absent = || Error::not_found(format!("container {id} has no streams to attach to"));
    let session = inner.session(id).ok_or_else(absent)?;
    let folder = RunFolder::new(&inner.root, id);
    let joined = join(&folder, request).await.map_err(|error| absent().with_source(error))?;
    let (output, received) = mpsc::channel(PIECES);
    let (input, sent) = mpsc::channel(PIECES);
    let client = Client {
        inner: inner.clone(),
        id: id.clone(),
        run: session.setup.run,
        folder,
        request,
        terminal: session.setup.terminal,
        output,
        input: request.stdin.then_some(sent),
    };
    inner.tasks.spawn(client.run(joined.0, joined.1));
    let stdin = InputSink { sender: PollSender::new(input), ended: false };
    Ok(AttachStreams {
        log_position: joined.2,
        output: Box::pin(ReceiverStream::new(received)),
        stdin: request.stdin.then(|| Box::pin(stdin) as _),
    })
}

/// Connects and introduces the client: the connection, what was read beyond the answer, the position in the log.
async fn join(folder: &RunFolder, request: AttachRequest) -> io::Result<(UnixStream, BytesMut, Option<u64>)> {
    let socket = folder.connect()?;
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    let AttachRequest { stdin, stdout, stderr } = request;
    let hello = Message::Hello { version: VERSION, role: Role::Attach, stdin, stdout, stderr };
    socket.write_all(&frame::control(&hello)?).await?;
    let mut buffer = BytesMut::new();
    let answer = read_frame(&mut socket, &mut buffer).await?;
    let (_, data) = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
    match frame::message(&data)? {
        Message::Welcome { log_position, .. } => Ok((socket, buffer, log_position)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The next frame; `None` at the end. May be cancelled: what was read stays in `buffer`.
pub(super) async fn read_frame(
    socket: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<(u8, Bytes)>> {
    loop {
        if let Some(head) = buffer.first_chunk::<{ frame::HEADER }>() {
            let (kind, len) = frame::parse_header(head)?;
            if buffer.len() >= frame::HEADER + len {
                let mut whole = buffer.split_to(frame::HEADER + len);
                return Ok(Some((kind, whole.split_off(frame::HEADER).freeze())));
            }
            buffer.reserve(frame::HEADER + len - buffer.len());
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Why a conversation is over.
enum Over {
    /// The run's outputs are.
    Ended,
    /// Nobody here wants it any more.
    Unwanted,
    /// The companion is gone.
    Lost,
}

/// The task of an attached client. It ends with the run, or when both its streams were dropped.
struct Client {
    inner: Arc<Inner>,
    id: ContainerId,
    run: u64,
    folder: RunFolder,
    request: AttachRequest,
    terminal: bool,
    output: mpsc::Sender<Result<OutputChunk>>,
    input: Option<mpsc::Receiver<Bytes>>,
}

impl Client {
    async fn run(mut self, mut socket: UnixStream, mut buffer: BytesMut) {
        while let Over::Lost = self.converse(&mut socket, &mut buffer).await {
            let successor = tokio::time::timeout(SUCCESSION, self.successor()).await.ok().flatten();
            if self.request.stderr && !self.terminal {
                let text = format!("gantry: up to {MAX_LOSS} bytes of output were lost here: its logger was killed\n");
                let notice = OutputChunk { stream: Stream::Stderr, data: Bytes::from(text) };
                // A client that is gone is seen in the conversation.
                let _ = self.output.send(Ok(notice)).await;
            }
            let Some(successor) = successor else { return };
            (socket, buffer) = successor;
        }
    }

    async fn converse(&mut self, socket: &mut UnixStream, buffer: &mut BytesMut) -> Over {
        let (mut reading, mut writing) = socket.split();
        let (output, input) = (&self.output, &mut self.input);
        let outward = async {
            loop {
                let (kind, data) = match read_frame(&mut reading, buffer).await {
                    Ok(Some(read)) => read,
                    Ok(None) | Err(_) => return Over::Lost,
                };
                let stream = match kind {
                    1 => Stream::Stdout,
                    2 => Stream::Stderr,
                    frame::CONTROL if matches!(frame::message(&data), Ok(Message::End)) => return Over::Ended,
                    _ => continue,
                };
                // Without a receiver only the input matters.
                let _ = output.send(Ok(OutputChunk { stream, data })).await;
            }
        };
        let inward = async {
            while let Some(bytes) = next_input(input).await {
                if send_input(&mut writing, &bytes).await.is_err() {
                    std::future::pending::<()>().await; // reading tells why
                }
            }
            output.closed().await;
            Over::Unwanted
        };
        tokio::select! {
            over = outward => over,
            over = inward => over,
        }
    }

    /// A connection with the companion that took the place of the dead one; `None` when the run is over or closed.
    async fn successor(&self) -> Option<(UnixStream, BytesMut)> {
        let mut changes = self.inner.changes.subscribe();
        loop {
            let session = self.inner.session(&self.id).filter(|session| session.setup.run == self.run)?;
            if session.state() != State::Dead
                && let Ok((socket, buffer, _)) = join(&self.folder, self.request).await
            {
                return Some((socket, buffer));
            }
            match session.state() {
                State::Ended => return None,
                // Its death is about to be seen.
                State::Serving => {
                    session.settled().await;
                }
                State::Dead => changes.changed().await.ok()?,
            }
        }
    }
}

/// The next piece of input; `None` when there will be none.
async fn next_input(input: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    let next = input.as_mut()?.recv().await;
    if next.is_none() {
        *input = None;
    }
    next
}

/// An empty piece is the end of input.
async fn send_input(socket: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &Bytes) -> io::Result<()> {
    if bytes.is_empty() {
        return socket.write_all(&frame::header(0, 0)).await;
    }
    for piece in bytes.chunks(INPUT_FRAME) {
        socket.write_all(&frame::header(0, piece.len())).await?;
        socket.write_all(piece).await?;
    }
    Ok(())
}

/// A client's input. Closing it is the end of input; dropping it is not.
struct InputSink {
    sender: PollSender<Bytes>,
    ended: bool,
}

fn gone() -> Error {
    Error::cancelled("the container's input is closed")
}

impl Sink<Bytes> for InputSink {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.sender.poll_reserve(cx).map_err(|_| gone())
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            self.sender.abort_send();
            return Ok(());
        }
        self.sender.send_item(bytes).map_err(|_| gone())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.ended {
            std::task::ready!(self.sender.poll_reserve(cx)).map_err(|_| gone())?;
            self.sender.send_item(Bytes::new()).map_err(|_| gone())?;
            self.ended = true;
            self.sender.close();
        }
        Poll::Ready(Ok(()))
    }
}
