//! Names in the image store, and the names that archives give to their images.

use std::collections::BTreeMap;

use gantry_domain::{
    Digest, Result,
    image::{DANGLING, Descriptor},
    reference::Reference,
};
use serde::Deserialize;

const CONTAINERD_NAME: &str = "io.containerd.image.name";
const OCI_NAME: &str = "org.opencontainers.image.ref.name";

/// The name that keeps an image which has no other.
pub fn dangling(digest: &Digest) -> String {
    format!("{DANGLING}{digest}")
}

/// One image of a docker-archive's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ArchiveImage {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

/// `repositories` of archives from before `manifest.json`: repository → tag → layer.
pub type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// The store's form of a name out of an archive.
pub fn canonical(name: &str) -> Result<String> {
    Ok(Reference::parse(name)?.with_default_tag().canonical())
}

/// The name as Docker shows it.
pub fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// What an entry of `index.json` is called: containerd's full name, else the OCI annotation when it is one.
pub fn of_descriptor(descriptor: &Descriptor) -> Result<Option<String>> {
    let Some(annotations) = &descriptor.annotations else { return Ok(None) };
    if let Some(name) = annotations.get(CONTAINERD_NAME) {
        return canonical(name).map(Some);
    }
    match annotations.get(OCI_NAME) {
        // Only a tag: of which repository nobody says.
        Some(name) if !name.contains([':', '/', '@']) => Ok(None),
        Some(name) => canonical(name).map(Some),
        None => Ok(None),
    }
}

/// The annotations by which `of_descriptor` and other engines find the name again.
pub fn annotations(name: &str) -> BTreeMap<String, String> {
    let tag = match Reference::parse(name) {
        Ok(Reference { tag: Some(tag), .. }) => tag,
        _ => name.to_owned(),
    };
    BTreeMap::from([(CONTAINERD_NAME.to_owned(), name.to_owned()), (OCI_NAME.to_owned(), tag)])
}
