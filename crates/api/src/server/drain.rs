//! A request's body that is read to its end even where its handler is not interested any more: a client that still
//! sends must be able to read why its request was refused, and finds a broken pipe where nobody reads.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

/// Longer than this nobody is given for the rest of a request that has its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nobody's rest is read beyond this. A client that sends more has to wait, and can read its answer meanwhile.
const MOST: usize = 16 << 20;

/// How long a client that sends more than [`MOST`] has for reading its answer before the connection ends.
const LINGER: Duration = Duration::from_secs(2);

pub(super) struct Drained {
    /// `None` once its end was seen.
    body: Option<Incoming>,
    /// A client that waits for `100 Continue` sends nothing before somebody reads.
    begun: bool,
}

impl Drained {
    pub(super) fn new(body: Incoming, expects_continue: bool) -> Self {
        Self { body: Some(body), begun: !expects_continue }
    }
}

impl Body for Drained {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.begun = true;
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| self.begun && !body.is_end_stream()) else { return };
        let rest = async move {
            let mut read = 0;
            while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > MOST {
                    return tokio::time::sleep(LINGER).await;
                }
            }
        };
        // It ends with the connection, and by itself.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(PATIENCE, rest));
        }
    }
}
