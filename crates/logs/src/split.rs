//! Cuts what a container writes into entries as dockerd does: at newlines, and after 16 KiB of a line without one.

/// A longer line becomes several entries; all but the last have no newline.
pub const MAX_LINE: usize = 16 << 10;

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    /// Calls `entry` for each entry that `bytes` completes.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut entry: impl FnMut(&[u8])) {
        while let Some(at) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(at + 1);
            if self.pending.is_empty() && line.len() <= MAX_LINE {
                entry(line);
            } else {
                self.extend(line, &mut entry);
                entry(&self.pending);
                self.pending.clear();
            }
            bytes = rest;
        }
        self.extend(bytes, &mut entry);
    }

    /// Adds to the pending line, giving out each full 16 KiB. A newline is the last byte if there is one, and is not
    /// counted: dockerd sees a line of exactly 16 KiB as one entry without and one of just the newline.
    fn extend(&mut self, mut bytes: &[u8], entry: &mut impl FnMut(&[u8])) {
        while self.pending.len() + bytes.len() >= MAX_LINE {
            let room = MAX_LINE - self.pending.len();
            if bytes.len() == room && bytes.last() == Some(&b'\n') {
                break;
            }
            let (part, rest) = bytes.split_at(room);
            self.pending.extend_from_slice(part);
            entry(&self.pending);
            self.pending.clear();
            bytes = rest;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// What there is of an unfinished line, as an entry without a newline.
    pub(crate) fn finish(&mut self, entry: impl FnOnce(&[u8])) {
        if !self.pending.is_empty() {
            entry(&self.pending);
            self.pending = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(input: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut splitter = Splitter::default();
        for bytes in input.chunks(piece) {
            splitter.push(bytes, |entry| out.push(entry.to_vec()));
        }
        splitter.finish(|entry| out.push(entry.to_vec()));
        out
    }

    #[test]
    fn a_line_of_exactly_16_kib_is_followed_by_a_bare_newline() {
        let mut input = vec![b'x'; MAX_LINE];
        input.extend_from_slice(b"\nnext\n");
        for piece in [1, 7, MAX_LINE, MAX_LINE + 1, input.len()] {
            let lens: Vec<usize> = entries(&input, piece).iter().map(Vec::len).collect();
            assert_eq!(lens, [MAX_LINE, 1, 5], "{piece}");
        }
    }

    #[test]
    fn one_byte_less_than_16_kib_is_one_entry() {
        let mut input = vec![b'x'; MAX_LINE - 1];
        input.push(b'\n');
        for piece in [1, 1000, input.len()] {
            assert_eq!(entries(&input, piece), [input.clone()]);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_pieces_do_not_matter(
            lines in proptest::collection::vec(0..3 * MAX_LINE, 0..6), piece in 1..70_000usize, open in 0..10usize,
        ) {
            let mut input = Vec::new();
            for len in lines {
                input.resize(input.len() + len, b'a');
                input.push(b'\n');
            }
            input.resize(input.len() + open, b'z');
            let whole = entries(&input, input.len().max(1));
            prop_assert_eq!(&entries(&input, piece), &whole);
            prop_assert_eq!(whole.concat(), input);
        }
    }
}
