//! Reading a container's log for the engine: a blocking reader on a thread of its own, batches through a short channel.

use std::path::PathBuf;

use bytes::Bytes;
use futures::StreamExt as _;
use gantry_domain::{
    Error, Result,
    log::{LogBatch, LogEntry, LogQuery, Stream},
    ports::{BoxStream, LogEnd},
};
use gantry_logs::{Batch, End, Query, Reader, stop_pair};
use tokio::{sync::mpsc, task::JoinHandle};

/// Batches that wait for a slow client; a batch has about 256 KiB.
const AHEAD: usize = 2;

/// Waits for the end of a following; it holds the other end of the reader's signal, so that the reader ends with it.
struct Until(Option<JoinHandle<()>>);

impl Drop for Until {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.take() {
            waiting.abort();
        }
    }
}

pub async fn read(path: PathBuf, query: LogQuery, end: LogEnd) -> Result<BoxStream<Result<LogBatch>>> {
    let (end, until) = ending(end)?;
    let query = Query {
        stdout: query.stdout,
        stderr: query.stderr,
        since: query.since.map(nanoseconds),
        until: query.until.map(nanoseconds),
        tail: query.tail,
    };
    let (batches, received) = mpsc::channel(AHEAD);
    // A thread, not the blocking pool: a reader that follows lives as long as its client.
    std::thread::Builder::new().name("log-read".into()).spawn(move || {
        let mut reader = match Reader::open(&path, query, end) {
            Ok(reader) => reader,
            Err(error) => return drop(batches.blocking_send(Err(failed(error)))),
        };
        loop {
            let next = match reader.next_batch() {
                Ok(Some(batch)) => Ok(translated(batch)),
                Ok(None) => return,
                Err(error) => Err(failed(error)),
            };
            let over = next.is_err();
            if batches.blocking_send(next).is_err() || over {
                return;
            }
        }
    })?;
    let stream = futures::stream::unfold((received, until), |(mut received, until)| async move {
        received.recv().await.map(|batch| (batch, (received, until)))
    });
    Ok(stream.boxed())
}

fn ending(end: LogEnd) -> Result<(End, Until)> {
    Ok(match end {
        LogEnd::Now => (End::Now, Until(None)),
        LogEnd::At(at) => (End::At(at), Until(None)),
        LogEnd::Until(until) => {
            let (stop, signal) = stop_pair()?;
            let waiting = tokio::spawn(async move {
                until.await;
                stop.stop();
            });
            (End::Follow(signal), Until(Some(waiting)))
        }
    })
}

fn nanoseconds(at: jiff::Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at.as_second() < 0 { i64::MIN } else { i64::MAX })
}

fn translated(batch: Batch) -> LogBatch {
    let entries = batch.entries.into_iter().map(|entry| LogEntry {
        stream: if entry.stream == gantry_logs::STDERR { Stream::Stderr } else { Stream::Stdout },
        at: jiff::Timestamp::from_nanosecond(i128::from(entry.at)).unwrap_or(jiff::Timestamp::UNIX_EPOCH),
        start: entry.start,
        len: entry.len,
        attrs: entry.attrs,
    });
    LogBatch { entries: entries.collect(), data: Bytes::from(batch.data) }
}

fn failed(error: std::io::Error) -> Error {
    Error::system(format!("cannot read the log: {error}")).with_source(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LINE: &str = "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.000000006Z\"}\n";

    fn all() -> LogQuery {
        LogQuery { stdout: true, stderr: true, ..LogQuery::default() }
    }

    async fn text(mut stream: BoxStream<Result<LogBatch>>) -> String {
        let mut text = String::new();
        while let Some(batch) = stream.next().await {
            text.push_str(std::str::from_utf8(&batch.unwrap().data).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn a_log_is_read_to_its_present_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        std::fs::write(&path, LINE.repeat(3)).unwrap();
        assert_eq!(text(read(path.clone(), all(), LogEnd::Now).await.unwrap()).await, "one\none\none\n");
        assert_eq!(text(read(path, all(), LogEnd::At(LINE.len() as u64)).await.unwrap()).await, "one\n");
    }

    #[tokio::test]
    async fn following_ends_after_what_was_written_before_the_end() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        std::fs::write(&path, LINE).unwrap();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let until = LogEnd::Until(Box::pin(async move { drop(ended.await) }));
        let mut stream = read(path.clone(), all(), until).await.unwrap();
        assert_eq!(&stream.next().await.unwrap().unwrap().data[..], b"one\n");
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(LINE.as_bytes()).unwrap();
        end.send(()).unwrap();
        assert_eq!(text(stream).await, "one\n");
    }
}
