//! One connection: hyper's HTTP/1.1 on a stream that we keep hold of.
//!
//! Two things that hyper alone does not give: an answer that takes the connection over whatever its status (Docker's
//! attach answers `101 UPGRADED`, or `200 OK` and raw bytes), and word of a client that went away while an answer
//! without an end is being made, although a client may close its sending half and still read.

use std::{convert::Infallible, future::poll_fn, pin::Pin, task::Poll, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use http::{Request, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{io::AsyncWriteExt as _, sync::mpsc};
use tokio_util::sync::CancellationToken;

use drain::Drained;

use crate::{
    error::ApiError,
    tap::{ClientStream, Tap},
    version::Api,
};

/// A request's head must be there within this time, as in dockerd.
const HEADER_TIMEOUT: Duration = Duration::from_secs(300);
/// More headers than this are answered 431.
const MAX_HEADERS: usize = 1_000;

/// What a handler can learn of the connection, in the request's extensions.
#[derive(Clone)]
pub struct Client {
    /// Cancelled when the client has closed its sending half or gone, and when the server ends. Answers that wait for
    /// something (events, logs, wait) end with it; verbs that change something do not look at it.
    pub gone: CancellationToken,
    takeovers: mpsc::Sender<Takeover>,
}

impl Client {
    /// Nobody to hang up, and nothing to take over.
    pub fn without_connection() -> Self {
        Self { gone: CancellationToken::new(), takeovers: mpsc::channel(1).0 }
    }

    /// Ends HTTP on this connection: `head` is written, then `session` has the stream. Whoever awaits it is dropped
    /// when the connection changes hands; it returns only where there is no connection to take over.
    pub async fn take_over(&self, takeover: Takeover) -> Response {
        if self.takeovers.send(takeover).await.is_err() {
            return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "this connection cannot carry a stream")
                .into_response();
        }
        std::future::pending().await
    }
}

/// A connection's life after HTTP.
pub struct Takeover {
    pub head: Bytes,
    pub session: Box<dyn FnOnce(Peer) -> BoxFuture<'static, ()> + Send>,
}

/// The client at the other end of a connection that was taken over.
pub struct Peer {
    pub stream: Box<dyn ClientStream>,
    /// Whether it has closed both directions, as far as the kernel can tell.
    pub hung_up: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Serves a connection until it ends. `shutdown` lets the request in hand finish and ends answers without an end.
/// To be run in a task that its owner awaits or aborts.
pub async fn serve_connection<S: ClientStream>(stream: S, api: Api, shutdown: CancellationToken) {
    let answer = move |request| -> BoxFuture<'static, Response> {
        let api = api.clone();
        Box::pin(async move { api.call(request).await })
    };
    serve_with(stream, answer, shutdown).await;
}

async fn serve_with<S, F>(stream: S, answer: F, shutdown: CancellationToken)
where
    S: ClientStream,
    F: Fn(Request<Body>) -> BoxFuture<'static, Response>,
{
    let gone = shutdown.child_token();
    let tap = Tap::new(stream, gone.clone());
    let (sender, mut takeovers) = mpsc::channel(1);
    let client = Client { gone, takeovers: sender };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client.clone());
        let waits = request.headers().contains_key(header::EXPECT);
        let answer = answer(request.map(|body| Body::new(Drained::new(body, waits))));
        Box::pin(answer.map(Ok::<_, Infallible>)) as BoxFuture<'static, _>
    });
    let mut connection = http1::Builder::new()
        .half_close(true)
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(tap.clone()), service);

    let mut stopping = Some(Box::pin(shutdown.clone().cancelled_owned()));
    let taken = poll_fn(|cx| {
        if let Some(stop) = stopping.as_mut()
            && stop.as_mut().poll(cx).is_ready()
        {
            stopping = None;
            Pin::new(&mut connection).graceful_shutdown();
        }
        tap.before_poll();
        if let Poll::Ready(end) = Pin::new(&mut connection).poll(cx) {
            if let Err(error) = end {
                tracing::debug!(%error, "connection ended");
            }
            return Poll::Ready(None);
        }
        if let Poll::Ready(Some(takeover)) = takeovers.poll_recv(cx) {
            return Poll::Ready(Some(takeover));
        }
        tap.read_ahead(cx);
        Poll::Pending
    })
    .await;

    if let Some(takeover) = taken {
        let parts = connection.into_parts();
        tap.unread(&parts.read_buf);
        drop(parts);
        run_takeover(tap, takeover, shutdown).await;
    }
}

async fn run_takeover<S: ClientStream>(mut tap: Tap<S>, takeover: Takeover, shutdown: CancellationToken) {
    if let Err(error) = tap.write_all(&takeover.head).await {
        tracing::debug!(%error, "client went before its stream began");
    }
    let asked = tap.clone();
    let peer = Peer { stream: Box::new(tap), hung_up: Box::new(move || asked.hung_up()) };
    // The session runs even so: it closes the streams that it was given.
    tokio::select! {
        () = (takeover.session)(peer) => {}
        () = shutdown.cancelled() => {}
    }
}

mod drain;
#[cfg(test)]
mod tests;
