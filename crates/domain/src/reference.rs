//! References to images: `busybox`, `localhost:5000/a/b:tag`, `name@sha256:…`, normalised as Docker does.

use crate::{Digest, Result};

/// A fully qualified reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// `docker.io`
    pub domain: String,
    /// `library/busybox`
    pub path: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

impl Reference {
    /// Docker's `ParseNormalizedNamed`; `InvalidParameter` with its texts (`invalid reference format`,
    /// `invalid reference format: repository name (X) must be lowercase`, …). No tag is added.
    pub fn parse(_text: &str) -> Result<Self> {
        todo!()
    }
    /// With `latest` where there is neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(self) -> Self {
        todo!()
    }
    /// `docker.io/library/busybox:latest`, the name in the image store.
    pub fn canonical(&self) -> String {
        todo!()
    }
    /// `busybox:latest`, as Docker shows it.
    pub fn familiar(&self) -> String {
        todo!()
    }
    /// `busybox`.
    pub fn familiar_name(&self) -> String {
        todo!()
    }
}

/// Go's `path.Match`: `*`, `?`, `[a-z]` and `\\x`, none of which crosses a `/`. A malformed pattern matches nothing.
pub fn path_match(pattern: &str, text: &str) -> bool {
    glob(pattern.as_bytes(), text.as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            let end = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=end).any(|skip| glob(rest, &text[skip..]))
        }
        ([b'?', rest @ ..], [first, after @ ..]) => *first != b'/' && glob(rest, after),
        ([b'[', rest @ ..], [first, after @ ..]) => match class(rest, *first) {
            Some((true, rest)) => glob(rest, after),
            _ => false,
        },
        ([b'\\', wanted, rest @ ..], [first, after @ ..]) => wanted == first && glob(rest, after),
        ([wanted, rest @ ..], [first, after @ ..]) => wanted == first && glob(rest, after),
        _ => false,
    }
}

/// Whether a class (after its `[`) holds a byte, and what follows the class.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        match rest {
            [b']', after @ ..] => return Some((found != negated && byte != b'/', after)),
            [low, b'-', high, after @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                rest = after;
            }
            [one, after @ ..] => {
                found |= *one == byte;
                rest = after;
            }
            [] => return None,
        }
    }
}
