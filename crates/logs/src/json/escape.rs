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

/// Whether a byte may not stand as it is. Written without a table so that it becomes vector instructions.
fn special(byte: u8) -> bool {
    !(0x20..0x80).contains(&byte) | (byte == b'"') | (byte == b'\\') | (byte == b'<') | (byte == b'>') | (byte == b'&')
}

fn plain_prefix(bytes: &[u8]) -> usize {
    let (chunks, _) = bytes.as_chunks::<32>();
    let clean = chunks.iter().take_while(|chunk| !chunk.iter().fold(false, |any, byte| any | special(*byte))).count();
    let start = clean * 32;
    start + bytes[start..].iter().take_while(|byte| !special(**byte)).count()
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
