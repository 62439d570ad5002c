//! A session over a pipe: framing, both ends of input and output, detach keys.
#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use gantry_domain::log::Stream;
use tokio::io::DuplexStream;

use super::*;

/// What the process got: bytes, then whether its input was ended.
type Input = Arc<Mutex<(Vec<u8>, bool)>>;

fn sink(input: &Input) -> ByteSink {
    struct Recorder(Input);
    impl futures::Sink<Bytes> for Recorder {
        type Error = gantry_domain::Error;
        fn poll_ready(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn start_send(self: std::pin::Pin<&mut Self>, item: Bytes) -> Result<()> {
            self.0.lock().unwrap().0.extend_from_slice(&item);
            Ok(())
        }
        fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn poll_close(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<()>> {
            self.0.lock().unwrap().1 = true;
            std::task::Poll::Ready(Ok(()))
        }
    }
    Box::pin(Recorder(input.clone()))
}

struct Fixture {
    client: DuplexStream,
    input: Input,
    output: tokio::sync::mpsc::UnboundedSender<Result<OutputChunk>>,
    detached: Arc<AtomicBool>,
    gone: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

fn session(framed: bool, keys: Option<&str>) -> Fixture {
    let (client, server) = tokio::io::duplex(64 << 10);
    let (output, chunks) = tokio::sync::mpsc::unbounded_channel();
    let (input, detached, gone) =
        (Input::default(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (told, asked) = (detached.clone(), gone.clone());
    let streams = Streams {
        output: Box::pin(futures::stream::unfold(chunks, |mut chunks| async {
            let chunk = chunks.recv().await?;
            Some((chunk, chunks))
        })),
        stdin: Some(sink(&input)),
        detach: keys.map(|text| Detector::new(keys::parse(text).unwrap())),
        on_detach: Box::new(move || told.store(true, Ordering::SeqCst)),
    };
    let session = Session { framed, streams: Box::pin(async { Ok(streams) }) };
    let peer = Peer { stream: Box::new(server), hung_up: Box::new(move || asked.load(Ordering::SeqCst)) };
    Fixture { client, input, output, detached, gone, task: tokio::spawn(run(peer, session)) }
}

fn chunk(stream: Stream, text: &str) -> Result<OutputChunk> {
    Ok(OutputChunk { stream, data: Bytes::from(text.to_owned()) })
}

#[tokio::test]
async fn output_is_framed_without_a_terminal_and_ends_the_session() {
    let mut fixture = session(true, None);
    fixture.output.send(chunk(Stream::Stdout, "out")).unwrap();
    fixture.output.send(chunk(Stream::Stderr, "err")).unwrap();
    drop(fixture.output);
    let mut all = Vec::new();
    fixture.client.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err");
    fixture.task.await.unwrap();
}

#[tokio::test]
async fn the_end_of_input_leaves_the_output_going() {
    let mut fixture = session(false, None);
    fixture.client.write_all(b"in").await.unwrap();
    fixture.client.shutdown().await.unwrap();
    fixture.output.send(chunk(Stream::Stdout, "after")).unwrap();
    let mut read = [0; 5];
    fixture.client.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"after");
    drop(fixture.output);
    fixture.task.await.unwrap();
    assert_eq!(*fixture.input.lock().unwrap(), (b"in".to_vec(), true));
}

#[tokio::test]
async fn a_client_that_is_gone_ends_the_session() {
    let fixture = session(false, None);
    fixture.gone.store(true, Ordering::SeqCst);
    drop(fixture.client);
    fixture.task.await.unwrap();
    assert!(fixture.input.lock().unwrap().1, "its input was ended");
}

#[tokio::test]
async fn a_client_that_is_gone_when_output_comes_ends_the_input_too() {
    let fixture = session(false, None);
    fixture.output.send(chunk(Stream::Stdout, "for nobody")).unwrap();
    drop(fixture.client);
    fixture.task.await.unwrap();
    assert!(fixture.input.lock().unwrap().1, "a program that reads to its end would wait for ever");
}

#[tokio::test]
async fn detach_keys_end_the_session_and_not_the_input() {
    let mut fixture = session(false, Some("ctrl-a,d"));
    fixture.client.write_all(b"ls\x01d").await.unwrap();
    let mut rest = Vec::new();
    fixture.client.read_to_end(&mut rest).await.unwrap();
    fixture.task.await.unwrap();
    assert!(fixture.detached.load(Ordering::SeqCst));
    assert_eq!(*fixture.input.lock().unwrap(), (b"ls".to_vec(), false));
}

#[tokio::test]
async fn a_process_that_did_not_start_is_told_as_output() {
    let (mut client, server) = tokio::io::duplex(4096);
    let peer = Peer { stream: Box::new(server), hung_up: Box::new(|| false) };
    let streams = Box::pin(async { Err(Error::invalid("no such program")) });
    run(peer, Session { framed: false, streams }).await;
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "no such program\r\n");
}

#[test]
fn a_client_that_asks_for_no_upgrade_gets_200_and_raw() {
    let mut headers = HeaderMap::new();
    let old = start_of_head(&headers, MULTIPLEXED);
    assert_eq!(&old[..], b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n");
    headers.insert("upgrade", http::HeaderValue::from_static("tcp"));
    let new = start_of_head(&headers, MULTIPLEXED);
    assert_eq!(
        &new[..],
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\n\
          Upgrade: tcp\r\n"
    );
}
