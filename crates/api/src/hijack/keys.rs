//! Detach keys: the sequence that leaves a terminal without ending its process.

use bytes::{BufMut as _, Bytes, BytesMut};
use gantry_domain::{Error, Result};

/// ctrl-p, ctrl-q.
const DEFAULT: [u8; 2] = [16, 17];

/// `a`, `ctrl-x`, `DEL`, or a comma list of such; empty is the default.
/// `InvalidParameter` `Invalid detach keys (x) provided`.
pub fn parse(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    text.split(',')
        .map(code)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Error::invalid(format!("Invalid detach keys ({text}) provided")))
}

fn code(key: &str) -> Option<u8> {
    if let [byte] = key.as_bytes() {
        return Some(*byte);
    }
    if key == "DEL" {
        return Some(127);
    }
    match key.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        b"@" => Some(0),
        [sign @ (b'[' | b'\\' | b']' | b'^' | b'_')] => Some(sign - b'@'),
        _ => None,
    }
}

/// Looks for the keys in what is typed, also when they come apart.
#[derive(Debug)]
pub struct Detector {
    keys: Vec<u8>,
    matched: usize,
}

impl Detector {
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// What is to reach the process, and whether the keys were completed. Keys held back are given on as soon as they
    /// turn out not to be the sequence.
    pub fn feed(&mut self, typed: Bytes) -> (Bytes, bool) {
        if self.matched == 0 && !typed.contains(&self.keys[0]) {
            return (typed, false);
        }
        let mut passed = BytesMut::with_capacity(typed.len() + self.matched);
        for byte in typed {
            while byte != self.keys[self.matched] && self.matched > 0 {
                self.step_back(&mut passed);
            }
            if byte != self.keys[self.matched] {
                passed.put_u8(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return (passed.freeze(), true);
            }
        }
        (passed.freeze(), false)
    }

    /// Gives up the first held key, and keeps as many of the rest as still begin the sequence.
    fn step_back(&mut self, passed: &mut BytesMut) {
        let held = self.matched;
        let kept =
            (1..held).find(|&from| self.keys[from..held] == self.keys[..held - from]).map_or(0, |from| held - from);
        passed.extend_from_slice(&self.keys[..held - kept]);
        self.matched = kept;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn typed(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detector = Detector::new(parse(keys).unwrap());
        let mut all = Vec::new();
        for piece in pieces {
            let (passed, detached) = detector.feed(Bytes::copy_from_slice(piece));
            all.extend_from_slice(&passed);
            if detached {
                return (all, true);
            }
        }
        (all, false)
    }

    #[test]
    fn keys_are_named_as_in_docker() {
        assert_eq!(parse("").unwrap(), [16, 17]);
        assert_eq!(parse("ctrl-a,b,ctrl-\\,DEL,ctrl-@").unwrap(), [1, b'b', 28, 127, 0]);
        assert_eq!(parse("ctrl-a,nosuch").unwrap_err().message(), "Invalid detach keys (ctrl-a,nosuch) provided");
        assert!(parse("ctrl-A").is_err());
    }

    #[test]
    fn the_sequence_detaches_whole_or_in_pieces() {
        assert_eq!(typed("", &[b"ls\x10\x11rest"]), (b"ls".to_vec(), true));
        assert_eq!(typed("", &[b"x\x10", b"\x11"]), (b"x".to_vec(), true));
    }

    #[test]
    fn a_sequence_that_is_not_completed_reaches_the_process() {
        assert_eq!(typed("", &[b"\x10", b"a"]), (b"\x10a".to_vec(), false));
        assert_eq!(typed("", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(typed("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
    }
}
