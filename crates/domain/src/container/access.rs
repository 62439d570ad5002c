//! How a container is found by what a client typed.

use crate::{ContainerId, Error, Result, id::is_full_id};

/// Docker's order: full id, exact name (with or without `/`), unique id prefix.
/// `NotFound` `No such container: x`; ambiguous is `InvalidParameter` `multiple IDs found with provided prefix: x`.
pub fn resolve<'a>(
    typed: &str,
    containers: impl Iterator<Item = (&'a ContainerId, &'a str)>,
) -> Result<&'a ContainerId> {
    if typed.is_empty() {
        return Err(Error::invalid("invalid name or ID supplied: \"\""));
    }
    let name = typed.strip_prefix('/').unwrap_or(typed);
    let full = is_full_id(typed);
    let (mut named, mut prefixed, mut ambiguous) = (None, None, false);
    for (id, its_name) in containers {
        if full && id.as_str() == typed {
            return Ok(id);
        }
        if its_name == name {
            named = Some(id);
        } else if id.as_str().starts_with(typed) {
            ambiguous |= prefixed.is_some();
            prefixed = Some(id);
        }
    }
    match (named, prefixed) {
        (Some(id), _) => Ok(id),
        (None, Some(_)) if ambiguous => {
            Err(Error::invalid(format!("multiple IDs found with provided prefix: {typed}")))
        }
        (None, Some(id)) => Ok(id),
        (None, None) => Err(Error::not_found(format!("No such container: {typed}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(first: &str) -> ContainerId {
        ContainerId::parse(&format!("{first}{}", "0".repeat(64 - first.len()))).unwrap()
    }

    #[test]
    fn full_id_then_name_then_unique_prefix() {
        let (a, b, c) = (id("abc1"), id("abc2"), id("d"));
        let all = || [(&a, "web"), (&b, "d0"), (&c, "abc1")].into_iter();
        assert_eq!(resolve(a.as_str(), all()).unwrap(), &a);
        assert_eq!(resolve("/web", all()).unwrap(), &a);
        assert_eq!(resolve("abc1", all()).unwrap(), &c, "a name that is another's prefix wins");
        assert_eq!(resolve("d0", all()).unwrap(), &b);
        assert_eq!(resolve("d00", all()).unwrap(), &c);
    }

    #[test]
    fn ambiguous_and_unknown_in_dockers_words() {
        let (a, b) = (id("abc1"), id("abc2"));
        let all = || [(&a, "x"), (&b, "y")].into_iter();
        let error = resolve("abc", all()).unwrap_err();
        assert_eq!(error.message(), "multiple IDs found with provided prefix: abc");
        let error = resolve("zzz", all()).unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(error.message(), "No such container: zzz");
        assert_eq!(resolve("", all()).unwrap_err().message(), "invalid name or ID supplied: \"\"");
    }
}
