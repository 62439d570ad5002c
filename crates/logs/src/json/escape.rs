//! Escaping as dockerd's jsonlog does: `<`, `>`, `&` and control characters as `\u00xx`, invalid UTF-8 as `\ufffd`.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends the inside of a JSON string.
pub(super) fn put(out: &mut Vec<u8>, mut bytes: &[u8]) {
    loop {
        let plain = plain_prefix(bytes);
        out.extend_from_slice(&bytes[..plain]);
        bytes = &bytes[plain..];
        match bytes.first() {
            None => return,
            Some(byte) if byte.is_ascii() => {
                put_ascii(out, *byte);
                bytes = &bytes[1..];
            }
            Some(_) => bytes = put_wide(out, bytes),
        }
    }
}

/// One in each byte.
const ONES: u64 = u64::MAX / 255;

/// The length of what may stand as it is. Eight bytes at a time by hand: nothing makes vectors of a loop in a companion
/// that is built for its size.
fn plain_prefix(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let found = special(u64::from_le_bytes(*word));
        if found != 0 {
            return number * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    let found = special(u64::from_le_bytes(last));
    bytes.len() - rest.len() + if found == 0 { rest.len() } else { found.trailing_zeros() as usize / 8 }
}

/// The top bit of each byte that may not stand as it is: control characters, `"`, `&`, `<`, `>`, `\` and what is above
/// ASCII. Bits above the first that is set may be wrong, for a subtraction borrows from them.
fn special(word: u64) -> u64 {
    let below = |bytes: u64, limit: u64| bytes.wrapping_sub(ONES * limit) & !bytes;
    // `"` and `&` differ in one bit, as do `<` and `>`.
    let is = |byte: u8, ignored: u64| below((word & !(ONES * ignored)) ^ (ONES * u64::from(byte)), 1);
    (word | below(word, 0x20) | is(b'"', 4) | is(b'<', 2) | is(b'\\', 0)) & (ONES << 7)
}

fn put_ascii(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// One run that starts with a byte above ASCII; returns what follows.
fn put_wide<'a>(out: &mut Vec<u8>, bytes: &'a [u8]) -> &'a [u8] {
    let run = bytes.iter().take_while(|byte| !byte.is_ascii()).count();
    for chunk in bytes[..run].utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\u{2028}' => out.extend_from_slice(b"\\u2028"),
                '\u{2029}' => out.extend_from_slice(b"\\u2029"),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        // Go replaces each byte that cannot be decoded, not each run of them.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    &bytes[run..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_special(byte: u8) -> bool {
        !(0x20..0x80).contains(&byte) || b"\"\\<>&".contains(&byte)
    }

    proptest! {
        #[test]
        fn the_first_special_byte_is_found(bytes in proptest::collection::vec(any::<u8>(), 0..40), plain in 0..30usize) {
            let mut text = vec![b'a'; plain];
            text.extend(bytes);
            let first = text.iter().position(|byte| is_special(*byte)).unwrap_or(text.len());
            prop_assert_eq!(plain_prefix(&text), first);
        }
    }

    #[test]
    fn every_byte_is_known_at_every_place() {
        for byte in 0..=255u8 {
            for place in 0..20 {
                let mut text = [b'~'; 20];
                text[place] = byte;
                let first = if is_special(byte) { place } else { text.len() };
                assert_eq!(plain_prefix(&text), first, "{byte} at {place}");
            }
        }
    }
}
