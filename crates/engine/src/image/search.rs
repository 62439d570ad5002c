//! What registries tell without giving anything: `GET /images/search`, `GET /distribution/{name}/json`.

use gantry_domain::{
    Digest, Error, Result,
    filter::Filters,
    id::is_full_id,
    reference::Reference,
    registry::{Distribution, RegistryAuth, SearchResult},
};

use crate::Engine;

const KEYS: &[&str] = &["is-automated", "is-official", "stars"];
/// How many repositories are asked for where the client does not say.
const LIMIT: i64 = 25;
const MOST: i64 = 100;

impl Engine {
    pub async fn image_search(
        &self,
        term: &str,
        limit: Option<i64>,
        filters: &Filters,
        auth: &RegistryAuth,
    ) -> Result<Vec<SearchResult>> {
        filters.check_keys(KEYS)?;
        let automated = flag(filters, "is-automated")?;
        let official = flag(filters, "is-official")?;
        let stars = stars(filters)?;
        let limit = match limit {
            None | Some(0) => LIMIT,
            Some(limit @ 1..=MOST) => limit,
            Some(limit) => {
                return Err(Error::invalid(format!("limit {limit} is outside the range of [1, {MOST}]")));
            }
        };
        let found = self.parts.ports.registry.search(term, limit as u32, auth).await?;
        let fits = |one: &SearchResult| {
            automated.is_none_or(|wanted| wanted == one.is_automated)
                && official.is_none_or(|wanted| wanted == one.is_official)
                && one.star_count >= stars
        };
        Ok(found.into_iter().filter(fits).collect())
    }

    pub async fn distribution_inspect(&self, name: &str, auth: &RegistryAuth) -> Result<Distribution> {
        if is_full_id(name) || Digest::parse(name).is_ok() {
            return Err(Error::system("no manifest found for full image ID"));
        }
        let reference = Reference::parse(name)?;
        self.parts.ports.registry.distribution(&reference, auth).await
    }
}

fn flag(filters: &Filters, key: &str) -> Result<Option<bool>> {
    if filters.contains(key) { filters.bool_or(key, false).map(Some) } else { Ok(None) }
}

/// The largest of all that were given.
fn stars(filters: &Filters) -> Result<i64> {
    let parsed: Result<Vec<i64>> = filters
        .values("stars")
        .map(|text| text.parse().map_err(|_| Error::invalid(format!("invalid filter 'stars=[{text}]'"))))
        .collect();
    Ok(parsed?.into_iter().max().unwrap_or(0))
}
