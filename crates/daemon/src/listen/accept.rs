//! The accept loop: it never ends by itself, whatever a client or a full table of descriptors does.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Listener, Socket, Stream};

/// How long a TLS client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after an error of accept, so that a host without descriptors is not also without a processor.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long connections may go on when the server ends.
const GRACE: Duration = Duration::from_secs(2);
/// TLS clients of one socket that have not shown a certificate yet; they have no place until they have.
const STRANGERS: usize = 64;

/// As Go's server answers.
const PLAIN: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
/// How long a client that was sent away may take to hear of it.
const LINGER: Duration = Duration::from_millis(500);

/// What one connection is served by.
pub trait Serve: Clone + Send + Sync + 'static {
    fn serve(&self, stream: Stream, shutdown: CancellationToken) -> impl Future<Output = ()> + Send;
}

/// What all sockets share.
#[derive(Clone)]
pub struct Door {
    /// TLS for TCP sockets.
    pub tls: Option<TlsAcceptor>,
    /// At most so many connections of one socket at once; the next ones wait in the kernel. Each socket has its own:
    /// strangers at one must not shut the others.
    pub places: usize,
    /// Cancelled when the server ends.
    pub shutdown: CancellationToken,
}

impl Door {
    /// The same with an equal part of the places for each of so many sockets.
    pub fn for_each_of(&self, sockets: usize) -> Self {
        Self { places: (self.places / sockets.max(1)).max(1), ..self.clone() }
    }
}

/// Accepts until the server ends, then waits a little for the connections and ends what is left of them.
pub async fn accept(listener: Listener, door: Door, api: impl Serve) {
    let mut connections = JoinSet::new();
    let tls = door.tls.clone().filter(|_| matches!(listener.socket, Socket::Tcp(_)));
    let places = Arc::new(Semaphore::new(door.places));
    let strangers = Arc::new(Semaphore::new(STRANGERS.min(door.places)));
    loop {
        while connections.try_join_next().is_some() {}
        let entered = if tls.is_some() { &strangers } else { &places };
        let entered = tokio::select! {
            entered = entered.clone().acquire_owned() => entered,
            () = door.shutdown.cancelled() => break,
        };
        let Ok(entered) = entered else { break };
        let stream = tokio::select! {
            stream = next(&listener) => stream,
            () = door.shutdown.cancelled() => break,
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, address = %listener.address, "accept");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        let (api, tls, shutdown, places) = (api.clone(), tls.clone(), door.shutdown.clone(), places.clone());
        connections.spawn(async move {
            let Some(stream) = secured(stream, tls.as_ref()).await else { return };
            let _place = match tls {
                None => Ok(entered),
                // Still among the strangers until there is a place.
                Some(_) => places.acquire_owned().await.inspect(|_| drop(entered)),
            };
            api.serve(stream, shutdown).await;
        });
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        connections.shutdown().await;
    }
}

async fn next(listener: &Listener) -> io::Result<Stream> {
    match &listener.socket {
        Socket::Unix(socket) => socket.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        Socket::Tcp(socket) => {
            let (stream, _) = socket.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
    }
}

/// Shakes hands where that is due; `None` for a client that did not.
async fn secured(stream: Stream, tls: Option<&TlsAcceptor>) -> Option<Stream> {
    let (stream, tls) = match (stream, tls) {
        (Stream::Tcp(stream), Some(tls)) => (stream, tls),
        (stream, _) => return Some(stream),
    };
    let shaken = async {
        let mut first = [0; 5];
        let seen = stream.peek(&mut first).await?;
        if is_plain(&first[..seen]) {
            send_away(stream).await?;
            return Err(io::Error::other("a plain HTTP request"));
        }
        tls.accept(stream).await
    };
    match tokio::time::timeout(HANDSHAKE, shaken).await {
        Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::info!(%error, "TLS handshake");
            None
        }
        Err(_) => {
            tracing::info!("TLS handshake took too long");
            None
        }
    }
}

/// The beginnings that Go's server looks for.
fn is_plain(first: &[u8]) -> bool {
    matches!(first, b"GET /" | b"HEAD " | b"POST " | b"PUT /" | b"OPTIO" | b"DELET")
}

/// Says what is wrong, and reads a little of what comes, so that the answer is not lost to a reset.
async fn send_away(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN).await?;
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    for _ in 0..16 {
        match tokio::time::timeout(LINGER, stream.read(&mut rest)).await {
            Ok(Ok(1..)) => {}
            _ => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
