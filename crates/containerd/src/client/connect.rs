//! The connector: a unix socket that may be away for a while, because containerd is being started again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{net::UnixStream, time::Instant};
use tonic::transport::{Channel, Endpoint};

/// How long calls wait for containerd, counted from the first attempt that failed.
pub const PATIENCE: Duration = Duration::from_secs(10);
pub const FIRST_PAUSE: Duration = Duration::from_millis(5);
pub const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// An outage that nobody asked about for this long counts as a new one.
const FORGET: Duration = Duration::from_secs(15);

const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// A channel that connects when first used, and again whenever the connection is lost.
pub fn channel(socket: &Path) -> Channel {
    let outage = Arc::new(Mutex::new(Outage::default()));
    let socket: Arc<Path> = Arc::from(socket);
    // No keep-alive pings: grpc-go answers frequent ones by closing the connection, and a unix socket tells by itself.
    Endpoint::from_static("http://containerd")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector_lazy(tower::service_fn(move |_| {
            let (socket, outage) = (socket.clone(), outage.clone());
            async move { connect(&socket, &outage).await.map(TokioIo::new) }
        }))
}

/// Since when containerd has been missed. Requests queue behind one another in a channel: were the patience counted
/// for each, the tenth would wait ten times as long.
#[derive(Default)]
struct Outage {
    began: Option<Instant>,
    last_attempt: Option<Instant>,
}

impl Outage {
    /// Notes a failed attempt and returns when patience ends.
    fn missed(&mut self, now: Instant) -> Instant {
        if self.last_attempt.is_none_or(|last| now - last > FORGET) {
            self.began = None;
        }
        self.last_attempt = Some(now);
        *self.began.get_or_insert(now) + PATIENCE
    }
}

async fn connect(socket: &Path, outage: &Mutex<Outage>) -> io::Result<UnixStream> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match UnixStream::connect(socket).await {
            Ok(stream) => {
                *outage.lock() = Outage::default();
                return Ok(stream);
            }
            Err(error) => error,
        };
        let now = Instant::now();
        if now >= outage.lock().missed(now) {
            return Err(away(socket.to_owned(), error));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn away(socket: PathBuf, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("containerd does not answer on {}: {error}", socket.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_counted_from_the_first_miss() {
        let start = Instant::now();
        let mut outage = Outage::default();
        assert_eq!(outage.missed(start), start + PATIENCE);
        assert_eq!(outage.missed(start + Duration::from_secs(9)), start + PATIENCE);
    }

    #[test]
    fn an_outage_nobody_asked_about_is_a_new_one() {
        let start = Instant::now();
        let mut outage = Outage::default();
        outage.missed(start);
        let later = start + FORGET + Duration::from_secs(1);
        assert_eq!(outage.missed(later), later + PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_never_answers_ends_patience() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let started = Instant::now();
        let outage = Mutex::default();
        let error = connect(&dir.path().join("none.sock"), &outage).await.expect_err("nobody listens");
        assert!(error.to_string().contains("containerd does not answer"), "{error}");
        assert!(started.elapsed() >= PATIENCE);
        let again = Instant::now();
        connect(&dir.path().join("none.sock"), &outage).await.expect_err("nobody listens");
        assert!(again.elapsed() < Duration::from_secs(1), "the second call does not wait as long again");
    }
}
