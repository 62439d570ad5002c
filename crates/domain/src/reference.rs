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
