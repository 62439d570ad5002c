//! Go's `path.Match`, as Docker's `reference` filter uses it.

/// `*`, `?`, `[a-z]`, `[^a]` and `\x`, none of which crosses a `/`. A malformed pattern matches nothing.
pub fn path_match(pattern: &str, text: &str) -> bool {
    glob(pattern.as_bytes(), text.as_bytes())
}

/// Only the last star is ever tried anew: what an earlier one could take more, the later one can take as well. So the
/// work is at most the product of both lengths, whatever a client sends.
fn glob(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match pattern {
            [b'*', rest @ ..] => {
                star = Some((rest, text));
                pattern = rest;
                continue;
            }
            [] if text.is_empty() => return true,
            _ => {}
        }
        if let Some((rest, after)) = step(pattern, text) {
            (pattern, text) = (rest, after);
            continue;
        }
        // A part of the path that has ended is behind all its stars.
        match star {
            Some((rest, [first, after @ ..])) if *first != b'/' => {
                star = Some((rest, after));
                (pattern, text) = (rest, after);
            }
            _ => return false,
        }
    }
}

/// One element of a pattern that is no star, and the byte that it matches.
fn step<'a, 'b>(pattern: &'a [u8], text: &'b [u8]) -> Option<(&'a [u8], &'b [u8])> {
    let (first, after) = text.split_first()?;
    let (fits, rest) = match pattern {
        [b'?', rest @ ..] => (*first != b'/', rest),
        [b'[', rest @ ..] => class(rest, *first)?,
        [b'\\', wanted, rest @ ..] | [wanted, rest @ ..] => (wanted == first, rest),
        [] => return None,
    };
    fits.then_some((rest, after))
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
        assert!(path_match("a*/b*c/*", "ax/bccc/"));
        assert!(!path_match("*a/*", "ba/b/c"));
        assert!(path_match("\\*x", "*x") && !path_match("\\*x", "yx"));
    }

    #[test]
    fn many_stars_cost_no_more_than_their_length() {
        let text = "a".repeat(4_000);
        assert!(!path_match(&format!("{}b", "*a".repeat(1_000)), &text));
        assert!(path_match(&"*a".repeat(1_000), &text));
    }
}
