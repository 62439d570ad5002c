//! What every handler is given: the engine, and what the API says of itself.

use std::sync::Arc;

use gantry_domain::container::validate::ApiVersion;
use gantry_engine::Engine;

/// The newest version of Docker's API that is served.
pub const MAX_VERSION: ApiVersion = ApiVersion(1, 51);
/// The oldest one; `DOCKER_MIN_API_VERSION` may raise it.
pub const MIN_VERSION: ApiVersion = ApiVersion(1, 24);
/// Longest body that is taken as JSON or as a form, bytes.
pub const MAX_JSON_BODY: usize = 16 << 20;

/// State of the router.
#[derive(Clone)]
pub struct App {
    pub engine: Arc<Engine>,
    pub about: Arc<About>,
}

/// What the API says of the program that serves it.
#[derive(Debug, Clone)]
pub struct About {
    pub version: String,
    pub git_commit: String,
    /// RFC 3339, or empty.
    pub build_time: String,
    pub min_version: ApiVersion,
}

impl Default for About {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            git_commit: String::new(),
            build_time: String::new(),
            min_version: MIN_VERSION,
        }
    }
}

/// `1.51`.
pub fn text(version: ApiVersion) -> String {
    format!("{}.{}", version.0, version.1)
}
