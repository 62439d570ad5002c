//! A connection over a pipe: heads, limits, hang-ups, and taking over.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

/// Serves `answer` on one end of a pipe; the loop is `serve_connection`'s own, the API is replaced.
fn serve<F>(answer: F) -> (DuplexStream, tokio::task::JoinHandle<()>)
where
    F: Fn(Request<Body>) -> BoxFuture<'static, Response> + Send + Sync + 'static,
{
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let answer = Arc::new(answer);
    let task = tokio::spawn(serve_with(theirs, move |request| answer(request), CancellationToken::new()));
    (ours, task)
}

async fn read_all(stream: &mut DuplexStream) -> String {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

async fn read_until(stream: &mut DuplexStream, end: &str) -> String {
    let mut all = String::new();
    while !all.ends_with(end) {
        all.push(char::from(stream.read_u8().await.unwrap()));
    }
    all
}

#[tokio::test]
async fn a_client_that_closed_its_sending_half_still_gets_its_answer() {
    let (mut client, task) = serve(|_| Box::pin(async { Response::new(Body::from("late")) }));
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("late"), "{answer}");
    task.await.unwrap();
}

#[tokio::test]
async fn ten_thousand_headers_are_refused_and_the_connection_ends() {
    let (mut client, task) = serve(|_| Box::pin(async { Response::new(Body::empty()) }));
    let mut head = String::from("GET / HTTP/1.1\r\n");
    (0..10_000).for_each(|n| head.push_str(&format!("x-{n}: y\r\n")));
    head.push_str("\r\n");
    let (mut reader, mut writer) = tokio::io::split(client);
    // The server may have answered and gone before it has read all of it.
    let _ = writer.write_all(head.as_bytes()).await;
    let mut answer = [0; 12];
    reader.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    client = reader.unsplit(writer);
    drop(client);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_in_its_time_ends_the_connection_however_it_drips() {
    let (mut client, task) = serve(|_| Box::pin(async { Response::new(Body::empty()) }));
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let began = tokio::time::Instant::now();
    while client.write_all(b"x").await.is_ok() && began.elapsed() < 2 * HEADER_TIMEOUT {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert!(began.elapsed() <= HEADER_TIMEOUT + Duration::from_secs(10), "{:?}", began.elapsed());
    task.await.unwrap();
}

#[tokio::test]
async fn an_answer_without_end_ends_when_the_client_goes() {
    let (mut client, task) = serve(|request| {
        let gone = request.extensions().get::<Client>().unwrap().gone.clone();
        let first = futures::stream::once(async { Bytes::from("first\n") });
        let body = futures::StreamExt::chain(first, futures::stream::pending());
        Box::pin(async move { crate::stream::chunked(None, body, gone) })
    });
    client.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = read_until(&mut client, "first\n").await;
    assert!(answer.contains("Transfer-Encoding: chunked"), "{answer}");
    drop(client);
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_head_of_a_stream_leaves_before_its_first_item() {
    let (mut client, task) = serve(|request| {
        let gone = request.extensions().get::<Client>().unwrap().gone.clone();
        Box::pin(async move { crate::stream::chunked(Some("application/json"), futures::stream::pending(), gone) })
    });
    client.write_all(b"POST /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.contains("Content-Type: application/json\r\n"), "{head}");
    drop(client);
    task.await.unwrap();
}

#[tokio::test]
async fn bytes_that_follow_the_request_reach_the_session() {
    let (mut client, task) = serve(|request| {
        let client = request.extensions().get::<Client>().unwrap().clone();
        Box::pin(async move {
            client
                .take_over(Takeover {
                    head: Bytes::from_static(b"HTTP/1.1 101 UPGRADED\r\n\r\n"),
                    session: Box::new(|mut peer| {
                        Box::pin(async move {
                            let mut input = Vec::new();
                            peer.stream.read_to_end(&mut input).await.unwrap();
                            peer.stream.write_all(&input).await.unwrap();
                            peer.stream.shutdown().await.unwrap();
                        })
                    }),
                })
                .await
        })
    });
    client.write_all(b"POST /attach HTTP/1.1\r\nHost: x\r\n\r\nearly ").await.unwrap();
    assert_eq!(read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 101 UPGRADED\r\n\r\n");
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, "early late");
    task.await.unwrap();
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let (mut client, task) = serve(|request| {
        let path = request.uri().path().to_owned();
        Box::pin(async move { Response::new(Body::from(path)) })
    });
    for path in ["/one", "/two"] {
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        read_until(&mut client, &format!("\r\n\r\n{path}")).await;
    }
    client.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut client, "\r\n\r\n/a").await;
    read_until(&mut client, "\r\n\r\n/b").await;
    drop(client);
    task.await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_server_ends_idle_connections_and_endless_answers() {
    let shutdown = CancellationToken::new();
    let (mut client, theirs) = tokio::io::duplex(4096);
    let answer = |request: Request<Body>| -> BoxFuture<'static, Response> {
        let gone = request.extensions().get::<Client>().unwrap().gone.clone();
        Box::pin(async move { crate::stream::chunked(None, futures::stream::pending(), gone) })
    };
    let task = tokio::spawn(serve_with(theirs, answer, shutdown.clone()));
    client.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
}
