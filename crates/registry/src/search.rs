//! `docker search`: the first version's search, which Docker Hub and some registries still serve.

use gantry_domain::{
    Error, Result,
    reference::Reference,
    registry::{RegistryAuth, SearchResult},
};
use http::{HeaderMap, Method};
use serde::Deserialize;

use crate::{
    Registries,
    endpoint::{self, Ask, Endpoint, Place, Target},
};

/// Docker Hub's index, which is not its registry.
const HUB_INDEX: &str = "index.docker.io";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Found {
    results: Vec<SearchResult>,
}

impl Registries {
    pub(crate) async fn search_index(&self, term: &str, limit: u32, auth: &RegistryAuth) -> Result<Vec<SearchResult>> {
        let (index, term) = split(term)?;
        let place = Place {
            authority: index.clone(),
            scheme: None,
            prefix: "/v1".into(),
            headers: HeaderMap::new(),
            tls: None,
            pull: true,
            push: false,
            stands_for: None,
        };
        let owner = crate::address::authority(&auth.server_address).ok().filter(|_| !auth.is_empty());
        let known = owner.is_some_and(|owner| owner == crate::address::authority(&index).unwrap_or_default());
        let endpoint = Endpoint::new(place, known.then(|| auth.clone()), self.config());
        let fields = [("q", term.as_str()), ("n", &limit.to_string())];
        let query = serde_html_form::to_string(fields).map_err(|error| Error::invalid(error.to_string()))?;
        let mut ask = Ask::new(Method::GET, String::new(), "");
        ask.target = Target::Path(format!("/search?{query}"));
        let answer = endpoint.send(ask).await?;
        if answer.status != http::StatusCode::OK {
            return Err(Error::system(format!("Unexpected status code {}", answer.status.as_u16())));
        }
        let found: Found = serde_json::from_slice(&endpoint::whole(answer).await?)
            .map_err(|error| Error::system(format!("error decoding registry search results: {error}")))?;
        Ok(found.results)
    }
}

/// `host/term`, or a term for Docker Hub; its `library/` is not part of its names there.
fn split(term: &str) -> Result<(String, String)> {
    if term.contains("://") {
        return Err(Error::invalid(format!("invalid repository name: {term:?} must not contain a scheme")));
    }
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            let host = if host == "docker.io" { HUB_INDEX } else { host };
            // The host must be one that a reference may have.
            Reference::parse(&format!("{host}/x"))?;
            Ok((host.to_owned(), rest.to_owned()))
        }
        _ => Ok((HUB_INDEX.to_owned(), term.strip_prefix("library/").unwrap_or(term).to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_term_may_name_its_index() {
        for (typed, index, term) in [
            ("busybox", HUB_INDEX, "busybox"),
            ("library/busybox", HUB_INDEX, "busybox"),
            ("ann/tool", HUB_INDEX, "ann/tool"),
            ("docker.io/ann/tool", HUB_INDEX, "ann/tool"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000", "a/b"),
            ("localhost/x", "localhost", "x"),
        ] {
            assert_eq!(split(typed).unwrap(), (index.to_owned(), term.to_owned()), "{typed}");
        }
        assert!(split("https://reg.example/x").is_err());
    }
}
