//! Docker's json-file: one object a line, `{"log":"…\n","stream":"stdout","attrs":{…},"time":"…"}`.

mod escape;
mod scan;

pub(crate) use scan::Scanner;

use crate::{batch::STDERR, format::Record, time::TimeText};

/// Appends one record, byte for byte as dockerd writes it.
pub(crate) fn encode(out: &mut Vec<u8>, time: &mut TimeText, record: &Record<'_>) {
    out.extend_from_slice(b"{\"log\":\"");
    escape::put(out, record.line);
    out.extend_from_slice(if record.stream == STDERR {
        b"\",\"stream\":\"stderr\""
    } else {
        b"\",\"stream\":\"stdout\""
    });
    if !record.attrs.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(record.attrs);
    }
    out.extend_from_slice(b",\"time\":\"");
    time.put(record.at, out);
    out.extend_from_slice(b"\"}\n");
}

/// Whole lines at the start of `bytes`.
pub(crate) fn whole(bytes: &[u8]) -> (usize, u64) {
    let end = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
    (end, memchr::memchr_iter(b'\n', &bytes[..end]).count() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{batch::STDOUT, format::Step};

    fn encoded(line: &[u8], attrs: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let record = Record { stream: STDOUT, at: 1_700_000_000_000_000_000, attrs, line };
        encode(&mut out, &mut TimeText::default(), &record);
        out
    }

    #[test]
    fn the_text_is_dockers() {
        let line = b"a\t<b>&\"\\\x01\r\xff\xe2\x80\xa8\xc3\xa9\n";
        let expected = "{\"log\":\"a\\u0009\\u003cb\\u003e\\u0026\\\"\\\\\\u0001\\r\\ufffd\\u2028\u{e9}\\n\",\
            \"stream\":\"stdout\",\"attrs\":{\"tag\":\"x\"},\"time\":\"2023-11-14T22:13:20Z\"}\n";
        assert_eq!(String::from_utf8(encoded(line, b"{\"tag\":\"x\"}")).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn every_line_comes_back(line in proptest::collection::vec(any::<u8>(), 0..300), attrs in any::<bool>()) {
            let bytes = encoded(&line, if attrs { b"{\"k\":\"v\"}" } else { b"" });
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let mut data = Vec::new();
            let Step::Record { used, at, stream, attrs: read } = Scanner::default().next(&bytes, &mut data) else {
                panic!("not a record")
            };
            prop_assert_eq!((used, at, stream), (bytes.len(), 1_700_000_000_000_000_000, STDOUT));
            prop_assert_eq!(read.is_some(), attrs);
            prop_assert_eq!(value["log"].as_str().unwrap().as_bytes(), &data[..]);
            if std::str::from_utf8(&line).is_ok() {
                prop_assert_eq!(data, line);
            }
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            bytes.push(b'\n');
            let (mut at, mut data, mut scanner) = (0, Vec::new(), Scanner::default());
            while at < bytes.len() {
                match scanner.next(&bytes[at..], &mut data) {
                    Step::Record { used, .. } | Step::Damaged { used } => at += used,
                    Step::Incomplete => panic!("a whole line"),
                }
            }
        }
    }
}
