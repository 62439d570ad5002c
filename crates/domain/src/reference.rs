//! References to images: `busybox`, `localhost:5000/a/b:tag`, `name@sha256:…`, normalised as Docker does.

use std::sync::LazyLock;

use regex::Regex;

use crate::{Digest, Error, Result, id::is_full_id};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
/// Longest path, as in the distribution grammar.
const MAX_PATH: usize = 255;

/// The grammar of `distribution/reference`: domain, path, tag, digest.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let domain = format!(r"(?:{label}(?:\.{label})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?");
    let part = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    let tag = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
    let digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
    Regex::new(&format!("^({domain})/({part}(?:/{part})*)(?::({tag}))?(?:@({digest}))?$"))
        .expect("the pattern is a constant that the tests compile")
});

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
    pub fn parse(text: &str) -> Result<Self> {
        if is_full_id(text) {
            return Err(Error::invalid(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (domain, rest) = split_domain(text);
        let remote = rest.split_once(':').map_or(rest.as_str(), |(remote, _)| remote);
        if remote.to_lowercase() != remote {
            return Err(Error::invalid(format!(
                "invalid reference format: repository name ({remote}) must be lowercase"
            )));
        }
        let full = format!("{domain}/{rest}");
        let found = REFERENCE.captures(&full).ok_or_else(|| Error::invalid("invalid reference format"))?;
        let group = |number: usize| found.get(number).map(|part| part.as_str().to_owned());
        let path = group(2).unwrap_or_default();
        if path.len() > MAX_PATH {
            return Err(Error::invalid(format!("repository name must not be more than {MAX_PATH} characters")));
        }
        let digest = group(4).as_deref().map(parse_digest).transpose()?;
        Ok(Self { domain: group(1).unwrap_or_default(), path, tag: group(3), digest })
    }

    /// With `latest` where there is neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// `docker.io/library/busybox:latest`, the name in the image store.
    pub fn canonical(&self) -> String {
        self.with_suffix(format!("{}/{}", self.domain, self.path))
    }

    /// `busybox:latest`, as Docker shows it.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.path.clone(),
        }
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest.as_str());
        }
        name
    }
}

/// What stands before the first slash is a registry if it looks like a host: a dot, a port, `localhost`, or upper case.
fn split_domain(text: &str) -> (&str, String) {
    let (domain, remote) = match text.split_once('/') {
        Some((LEGACY_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first => {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !remote.contains('/') {
        return (domain, format!("{OFFICIAL}{remote}"));
    }
    (domain, remote.to_owned())
}

fn parse_digest(text: &str) -> Result<Digest> {
    match text.split_once(':') {
        Some(("sha256", hex)) if hex.len() != 64 => Err(Error::invalid("invalid checksum digest length")),
        Some(("sha256", _)) => Digest::parse(text),
        _ => Err(Error::invalid("unsupported digest algorithm")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_names_are_dockers() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (typed, canonical, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("a/b", "docker.io/a/b", "a/b"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("Registry/x", "Registry/x", "Registry/x"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            (&format!("x@{digest}"), &format!("docker.io/library/x@{digest}"), &format!("x@{digest}")),
            (&format!("x:t@{digest}"), &format!("docker.io/library/x:t@{digest}"), &format!("x:t@{digest}")),
        ] {
            let reference = Reference::parse(typed).unwrap();
            assert_eq!((reference.canonical().as_str(), reference.familiar().as_str()), (canonical, familiar));
        }
        assert_eq!(Reference::parse("busybox").unwrap().with_default_tag().familiar(), "busybox:latest");
        assert_eq!(Reference::parse("library/a/b").unwrap().familiar_name(), "library/a/b");
    }

    #[test]
    fn bad_ones_are_refused_in_dockers_words() {
        let id = "0".repeat(64);
        let long = "a".repeat(250);
        for (typed, text) in [
            ("", "invalid reference format".to_owned()),
            ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase".to_owned()),
            ("a/B:t", "invalid reference format: repository name (a/B) must be lowercase".to_owned()),
            ("a:", "invalid reference format".to_owned()),
            ("-a", "invalid reference format".to_owned()),
            ("a//b", "invalid reference format".to_owned()),
            ("a\n", "invalid reference format".to_owned()),
            ("../a", "invalid reference format".to_owned()),
            ("x@sha256:1234", "invalid reference format".to_owned()),
            (&format!("x@sha256:{}", "a".repeat(40)), "invalid checksum digest length".to_owned()),
            (&format!("x@sha1:{}", "a".repeat(40)), "unsupported digest algorithm".to_owned()),
            (&id, format!("invalid repository name ({id}), cannot specify 64-byte hexadecimal strings")),
            (&long, "repository name must not be more than 255 characters".to_owned()),
        ] {
            assert_eq!(Reference::parse(typed).unwrap_err().message(), text, "{typed}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_stable_under_its_own_names(text in "[a-zA-Z0-9./:@_-]{0,40}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(&Reference::parse(&reference.canonical()).unwrap(), &reference);
                prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
            }
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = Reference::parse(&text);
        }
    }
}
