//! Go's `path.Match`, as Docker's `reference` filter uses it.

/// `*`, `?`, `[a-z]`, `[^a]` and `\x`, none of which crosses a `/`. A malformed pattern matches nothing.
pub fn path_match(pattern: &str, text: &str) -> bool {
    glob(pattern.as_bytes(), text.as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            let end = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_in_its_part_of_the_path() {
        assert!(path_match("busy*", "busybox:latest"));
        assert!(path_match("*/box", "a/box"));
        assert!(!path_match("*box", "a/box"));
        assert!(path_match("[a-c]?x", "box"));
        assert!(!path_match("[^b]ox", "box"));
        assert!(!path_match("[b", "b"));
    }
}
