//! A registry's refusals in the words of dockerd.

use gantry_domain::Error;
use http::StatusCode;

use super::Repository;
use crate::refusal::Refusal;

impl Repository {
    /// Why there is no manifest; `tag` is empty where all were asked for.
    pub(super) fn no_manifest(&self, refusal: &Refusal, tag: &str) -> Error {
        let (shown, text) = (&self.shown, &refusal.text);
        let at = if tag.contains(':') { '@' } else { ':' };
        match refusal.code.as_str() {
            "DENIED" => Error::not_found(format!(
                "pull access denied for {shown}, repository does not exist or may require 'docker login': {text}"
            )),
            "NAME_UNKNOWN" => Error::not_found(format!("repository {shown} not found: {text}")),
            "MANIFEST_UNKNOWN" => Error::not_found(format!("manifest for {shown}{at}{tag} not found: {text}")),
            _ if refusal.status == StatusCode::NOT_FOUND => {
                Error::not_found(format!("manifest for {shown}{at}{tag} not found: manifest unknown: manifest unknown"))
            }
            _ => refusal.error(),
        }
    }
}
