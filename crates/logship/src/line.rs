//! A log's entries as the drivers see them.

use gantry_logs::{Batch, STDERR};

/// An entry without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    pub stderr: bool,
    /// Nanoseconds since the epoch.
    pub at: i64,
    pub text: &'a [u8],
    /// Where a long line was cut into several entries.
    pub part: Option<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The same for all parts of a line.
    pub id: String,
    /// From 1.
    pub ordinal: u64,
    pub last: bool,
}

/// Tells which entries belong together: of each stream, those up to the next newline.
#[derive(Debug, Default)]
pub struct Parts {
    open: [Option<(String, u64)>; 2],
}

impl Parts {
    pub fn lines<'a>(&mut self, batch: &'a Batch) -> Vec<Line<'a>> {
        batch.iter().map(|(entry, bytes)| self.line(entry.stream == STDERR, entry.at, bytes)).collect()
    }

    fn line<'a>(&mut self, stderr: bool, at: i64, bytes: &'a [u8]) -> Line<'a> {
        let open = &mut self.open[usize::from(stderr)];
        let (text, last) = match bytes.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (bytes, false),
        };
        let part = match (open.take(), last) {
            (None, true) => None,
            (before, last) => {
                let (id, ordinal) = before.unwrap_or_else(|| (format!("{at:032x}{:032x}", u8::from(stderr)), 0));
                if !last {
                    *open = Some((id.clone(), ordinal + 1));
                }
                Some(Part { id, ordinal: ordinal + 1, last })
            }
        };
        Line { stderr, at, text, part }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_parts_of_a_line_belong_together() {
        let mut parts = Parts::default();
        let whole = parts.line(false, 1, b"whole\n");
        assert_eq!((whole.text, whole.part), (&b"whole"[..], None));
        let first = parts.line(false, 2, b"begin").part.unwrap();
        assert_eq!(parts.line(true, 2, b"other\n").part, None);
        let last = parts.line(false, 3, b"end\n").part.unwrap();
        assert_eq!((first.ordinal, first.last, last.ordinal, last.last), (1, false, 2, true));
        assert_eq!((first.id.len(), &first.id), (64, &last.id));
        assert_eq!(parts.line(false, 4, b"next\n").part, None);
    }
}
