//! Which repositories of a registry are known to have a blob: a push then needs not send it (cross-repository mount).
//! Kept in a label of our own on the blob; what is in it was typed by a user, never taken from an image (T11).

use std::collections::HashMap;

use gantry_domain::{Digest, Result};

use super::content::Content;

const PREFIX: &str = "gantry.source/";
/// Repositories that are remembered for one registry.
const KEPT: usize = 8;
/// containerd's limit on key and value together.
const MAX_LABEL: usize = 4000;

/// For a blob that has just come from there.
pub fn label((host, path): (&str, &str)) -> HashMap<String, String> {
    let label = format!("{PREFIX}{host}");
    let fits = label.len() + path.len() <= MAX_LABEL;
    fits.then(|| (label, path.to_owned())).into_iter().collect()
}

/// Notes that `path` at `host` has the blob.
pub async fn add(content: &Content, digest: &Digest, (host, path): (&str, &str)) -> Result<()> {
    let mut known = of(content, digest, host).await?;
    if known.iter().any(|one| one == path) {
        return Ok(());
    }
    known.insert(0, path.to_owned());
    known.truncate(KEPT);
    let (label, value) = (format!("{PREFIX}{host}"), known.join(","));
    if label.len() + value.len() > MAX_LABEL {
        return Ok(());
    }
    content.set_labels(digest, &[(label, value)].into()).await
}

/// Paths at `host`, the latest first.
pub async fn of(content: &Content, digest: &Digest, host: &str) -> Result<Vec<String>> {
    let Some(info) = content.info(digest).await? else { return Ok(Vec::new()) };
    let value = info.labels.get(&format!("{PREFIX}{host}")).map(String::as_str).unwrap_or_default();
    Ok(value.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}
