//! Answers that go on: progress in JSON lines, events, logs in stdcopy frames. Each item is flushed as it comes.

use std::{convert::Infallible, fmt::Write as _};

use axum::{body::Body, response::Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use gantry_domain::{
    log::{LogBatch, LogEntry, Stream as Source},
    ports::{BoxStream, ByteStream},
};
use http::{HeaderValue, header};
use tokio_util::sync::CancellationToken;

/// Header of one stdcopy frame: stream, three zeros, length (big endian).
pub fn frame(buffer: &mut BytesMut, stream: Source, data: &[u8]) {
    buffer.reserve(8 + data.len());
    frame_head(buffer, stream, data.len());
    buffer.extend_from_slice(data);
}

fn frame_head(buffer: &mut BytesMut, stream: Source, len: usize) {
    buffer.put_slice(&[stream as u8, 0, 0, 0]);
    buffer.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

/// 200 with chunks that are sent as they come, until `gone`; the head leaves before the first.
pub fn chunked(
    content_type: Option<&'static str>,
    chunks: impl Stream<Item = Bytes> + Send + 'static,
    gone: CancellationToken,
) -> Response {
    let chunks = chunks.take_until(gone.cancelled_owned()).map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(chunks));
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

/// A stream of bytes (an archive). What breaks off does so visibly: the last chunk is missing.
pub fn bytes(content_type: &'static str, stream: ByteStream) -> Response {
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// One JSON object a line, ended as Docker's `streamformatter` ends it.
pub fn json_line<T: serde::Serialize>(value: &T, end: &str) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a message could not be written as JSON");
        Vec::new()
    });
    line.extend_from_slice(end.as_bytes());
    line.into()
}

/// How log entries are to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogFormat {
    pub framed: bool,
    pub timestamps: bool,
    pub details: bool,
}

/// The body of `docker logs`; an error on the way is a frame of the engine's own.
pub fn logs(
    batches: BoxStream<gantry_domain::Result<LogBatch>>,
    format: LogFormat,
) -> impl Stream<Item = Bytes> + Send {
    batches.map(move |batch| match batch {
        Ok(batch) => render(&batch, format),
        Err(error) => {
            tracing::warn!(error = ?error, "reading a log broke off");
            let text = format!("Error grabbing logs: {}\n", error.message());
            let mut buffer = BytesMut::new();
            if format.framed {
                frame(&mut buffer, Source::System, text.as_bytes());
            } else {
                buffer.extend_from_slice(text.as_bytes());
            }
            buffer.freeze()
        }
    })
}

/// One batch as it goes over the wire, in one buffer.
pub fn render(batch: &LogBatch, format: LogFormat) -> Bytes {
    let each = if format.framed { 8 } else { 0 } + if format.timestamps { 31 } else { 0 };
    let mut buffer = BytesMut::with_capacity(batch.data.len() + batch.entries.len() * each);
    let mut clock = Clock::default();
    let mut details = String::new();
    for entry in &batch.entries {
        let data = &batch.data[entry.start as usize..][..entry.len as usize];
        if format.details {
            details.clear();
            write_details(&mut details, entry);
        }
        let stamp = if format.timestamps { 31 } else { 0 };
        if format.framed {
            frame_head(&mut buffer, entry.stream, stamp + details.len() + data.len());
        }
        if format.timestamps {
            clock.write(&mut buffer, entry.at);
        }
        buffer.extend_from_slice(details.as_bytes());
        buffer.extend_from_slice(data);
    }
    buffer.freeze()
}

/// `k=v,k2=v2 `, sorted and escaped as in a query; a blank alone when there are none.
fn write_details(text: &mut String, entry: &LogEntry) {
    let attrs = entry.attrs.iter().flat_map(|attrs| attrs.iter());
    for (index, (key, value)) in attrs.enumerate() {
        if index > 0 {
            text.push(',');
        }
        query_escape(text, key);
        text.push('=');
        query_escape(text, value);
    }
    text.push(' ');
}

/// Go's `url.QueryEscape`.
fn query_escape(text: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            b' ' => text.push('+'),
            byte => {
                // Writing to a String cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
}

/// Writes `2006-01-02T15:04:05.000000000Z `; the date is worked out once a second.
#[derive(Default)]
struct Clock {
    second: Option<i64>,
    /// `2006-01-02T15:04:05.`
    prefix: [u8; 20],
}

impl Clock {
    fn write(&mut self, buffer: &mut BytesMut, at: jiff::Timestamp) {
        let nanos = at.as_nanosecond();
        let second = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
        if self.second != Some(second) {
            self.second = Some(second);
            let whole = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            let mut text = String::with_capacity(24);
            // Writing to a String cannot fail.
            let _ = write!(text, "{}.", whole.strftime("%Y-%m-%dT%H:%M:%S"));
            let count = text.len().min(20);
            self.prefix[..count].copy_from_slice(&text.as_bytes()[..count]);
        }
        let mut rest = nanos.rem_euclid(1_000_000_000);
        let mut tail = *b"000000000Z ";
        for digit in tail[..9].iter_mut().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        buffer.put_slice(&self.prefix);
        buffer.put_slice(&tail);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn batch(lines: &[(Source, &str, &str)]) -> LogBatch {
        let mut data = Vec::new();
        let entries = lines
            .iter()
            .map(|(stream, at, text)| {
                let start = data.len() as u32;
                data.extend_from_slice(text.as_bytes());
                LogEntry { stream: *stream, at: at.parse().unwrap(), start, len: text.len() as u32, attrs: None }
            })
            .collect();
        LogBatch { data: data.into(), entries }
    }

    #[test]
    fn frames_carry_stream_and_length() {
        let batch =
            batch(&[(Source::Stdout, "2026-01-02T03:04:05Z", "a\n"), (Source::Stderr, "2026-01-02T03:04:05Z", "bc\n")]);
        let framed = render(&batch, LogFormat { framed: true, ..LogFormat::default() });
        assert_eq!(&framed[..], b"\x01\0\0\0\0\0\0\x02a\n\x02\0\0\0\0\0\0\x03bc\n");
        assert_eq!(&render(&batch, LogFormat::default())[..], b"a\nbc\n");
    }

    #[test]
    fn log_timestamps_have_nine_digits_and_lie_inside_the_frame() {
        let batch = batch(&[
            (Source::Stdout, "2026-01-02T03:04:05Z", "a\n"),
            (Source::Stdout, "2026-01-02T03:04:05.000000070Z", "b\n"),
            (Source::Stdout, "1969-12-31T23:59:59.5Z", "c\n"),
        ]);
        let text = render(&batch, LogFormat { timestamps: true, ..LogFormat::default() });
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            "2026-01-02T03:04:05.000000000Z a\n2026-01-02T03:04:05.000000070Z b\n1969-12-31T23:59:59.500000000Z c\n"
        );
        let framed = render(&batch, LogFormat { timestamps: true, framed: true, ..LogFormat::default() });
        assert_eq!(framed[7], 33);
    }

    #[test]
    fn details_are_sorted_and_escaped() {
        let mut batch = batch(&[(Source::Stdout, "2026-01-02T03:04:05Z", "x\n")]);
        let attrs = [("b", "1 2"), ("a", "ü/=")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        batch.entries[0].attrs = Some(Box::new(attrs.into()));
        let text = render(&batch, LogFormat { details: true, ..LogFormat::default() });
        assert_eq!(&text[..], b"a=%C3%BC%2F%3D,b=1+2 x\n");
    }

    /// Not a law but a figure: `cargo test --release -- --ignored --nocapture log_rendering`.
    #[test]
    #[ignore = "a measurement"]
    fn log_rendering_speed() {
        let line = format!("{}\n", "x".repeat(99));
        let one = (Source::Stdout, "2026-01-02T03:04:05.123456789Z", line.as_str());
        let batch = batch(&vec![one; 10_000]);
        let begin = std::time::Instant::now();
        let mut total = 0;
        for _ in 0..67 {
            total += render(&batch, LogFormat { framed: true, timestamps: true, details: false }).len();
        }
        println!("{total} bytes in {:?}", begin.elapsed());
    }
}
