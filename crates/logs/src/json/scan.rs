//! Reads json-file lines: our own and dockerd's shape by hand, anything else by serde_json.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;

use crate::{
    batch::{STDERR, STDOUT},
    format::Step,
    time::TimeParser,
};

#[derive(Debug, Default)]
pub(crate) struct Scanner {
    time: TimeParser,
}

/// Any json-file line, with its fields in any order.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
}

impl Scanner {
    /// The record at the start of `bytes`; its line is appended to `data`, which is as before if there is none.
    pub(crate) fn next(&mut self, bytes: &[u8], data: &mut Vec<u8>) -> Step {
        let before = data.len();
        if let Some(step) = self.quick(bytes, data) {
            return step;
        }
        data.truncate(before);
        let Some(end) = memchr::memchr(b'\n', bytes) else { return Step::Incomplete };
        self.thorough(&bytes[..end], data).unwrap_or(Step::Damaged { used: end + 1 })
    }

    /// `None` when the line is unusual or not whole.
    fn quick(&mut self, bytes: &[u8], data: &mut Vec<u8>) -> Option<Step> {
        let text = bytes.strip_prefix(b"{\"log\":\"")?;
        let rest = unescape(text, data)?.strip_prefix(b",\"stream\":\"std")?;
        let (stream, rest) = match rest.split_first_chunk::<4>()? {
            (b"out\"", rest) => (STDOUT, rest),
            (b"err\"", rest) => (STDERR, rest),
            _ => return None,
        };
        let rest = rest.strip_prefix(b",\"time\":\"")?;
        let close = rest.iter().take(40).position(|byte| *byte == b'"')?;
        let at = self.time.parse(&rest[..close])?;
        let rest = rest[close..].strip_prefix(b"\"}\n")?;
        Some(Step::Record { used: bytes.len() - rest.len(), stream, at, attrs: None })
    }

    fn thorough(&mut self, line: &[u8], data: &mut Vec<u8>) -> Option<Step> {
        let parsed: Line<'_> = serde_json::from_slice(line).ok()?;
        let at = self.time.parse(parsed.time.as_bytes())?;
        data.extend_from_slice(parsed.log.as_bytes());
        let stream = if parsed.stream == "stderr" { STDERR } else { STDOUT };
        Some(Step::Record { used: line.len() + 1, stream, at, attrs: parsed.attrs.map(Box::new) })
    }
}

/// Appends the string's text up to its closing quote and returns what follows the quote. `None` for what dockerd does
/// not write, or when the quote is not there.
fn unescape<'a>(mut text: &'a [u8], data: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let at = memchr::memchr3(b'"', b'\\', b'\n', text)?;
        data.extend_from_slice(&text[..at]);
        let rest = &text[at..];
        let used = match (rest[0], rest.get(1)) {
            (b'"', _) => return Some(&rest[1..]),
            (b'\\', Some(b'n')) => push(data, b'\n'),
            (b'\\', Some(b'r')) => push(data, b'\r'),
            (b'\\', Some(b't')) => push(data, b'\t'),
            (b'\\', Some(byte @ (b'"' | b'\\' | b'/'))) => push(data, *byte),
            (b'\\', Some(b'u')) => {
                let code = hex4(rest.get(2..6)?)?;
                // Surrogates are for serde_json.
                data.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
                6
            }
            _ => return None,
        };
        text = &rest[used..];
    }
}

fn push(data: &mut Vec<u8>, byte: u8) -> usize {
    data.push(byte);
    2
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, byte| Some(value << 4 | char::from(*byte).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(line: &str) -> (Step, String) {
        let mut data = Vec::new();
        let step = Scanner::default().next(line.as_bytes(), &mut data);
        (step, String::from_utf8(data).unwrap())
    }

    #[test]
    fn another_writers_order_and_escapes_are_read() {
        let line = "{ \"time\":\"1970-01-01T00:00:01Z\", \"stream\":\"stderr\", \"log\":\"\\ud83d\\ude00\\b\\n\"}\n";
        let (step, text) = read(line);
        assert_eq!(step, Step::Record { used: line.len(), stream: STDERR, at: 1_000_000_000, attrs: None });
        assert_eq!(text, "\u{1f600}\u{8}\n");
    }

    #[test]
    fn a_line_is_incomplete_up_to_its_last_byte() {
        let line = "{\"log\":\"a\\u003cb\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:01.5Z\"}\n";
        for end in 0..line.len() {
            assert_eq!(read(&line[..end]), (Step::Incomplete, String::new()), "{end}");
        }
        assert_eq!(read(line).1, "a<b\n");
    }

    #[test]
    fn a_line_that_is_no_record_is_passed_over() {
        assert_eq!(read("garbage\n{").0, Step::Damaged { used: 8 });
    }
}
