//! A registry that answers from a function and remembers what it was sent; on loopback, for the tests.
#![allow(clippy::unwrap_used)]

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Mutex,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A request as it came: `GET /v2/`, its Authorization, its body.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub authorization: Option<String>,
    pub body: String,
}

type Reply = Response<Full<Bytes>>;

pub struct Stub {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A plain or a TLS server; `answer` gets the server's own address and each request.
pub async fn serve(
    tls: Option<TlsAcceptor>,
    answer: impl Fn(SocketAddr, &Seen) -> Reply + Send + Sync + 'static,
) -> Stub {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (record, answer) = (seen.clone(), Arc::new(answer));
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, record, answer) = (tls.clone(), record.clone(), answer.clone());
            connections.spawn(async move {
                let answer = move |seen: &Seen| answer(address, seen);
                match tls {
                    None => one(stream, record, answer).await,
                    // A client that does not speak TLS is not our concern.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            one(stream, record, answer).await;
                        }
                    }
                }
            });
        }
    });
    Stub { address, seen, task }
}

async fn one<S>(stream: S, record: Arc<Mutex<Vec<Seen>>>, answer: impl Fn(&Seen) -> Reply)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = &answer;
    let service = service_fn(move |request: Request<Incoming>| {
        let record = record.clone();
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
            let body = String::from_utf8(request.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
            let seen = Seen { line, authorization, body };
            let reply = answer(&seen);
            record.lock().await.push(seen);
            Ok::<_, Infallible>(reply)
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

pub fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut reply = Response::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    reply.body(Full::from(body.to_owned())).unwrap()
}
