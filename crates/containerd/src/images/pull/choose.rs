//! Which manifest of an index is wanted, and whether it is one that we can take.

use gantry_domain::{
    Error, Result,
    image::{Descriptor, ImageConfig},
    platform::Platform,
};

use super::Job;
use crate::images::{
    documents::{self, Document, Manifest},
    limits::MAX_INDEX_DEPTH,
    platforms,
};

/// Documents that are read in search of a platform.
const MAX_LOOKS: usize = 32;

pub struct Chosen {
    pub descriptor: Descriptor,
    /// Each once, the lowest first.
    pub layers: Vec<Descriptor>,
}

impl Job {
    /// From index or manifest to the manifest for the platform that was asked for, else for the host's.
    pub async fn choose(&self, target: &Descriptor) -> Result<Chosen> {
        let wanted = self.platform.clone().unwrap_or_else(Platform::host);
        let mut looks = 0;
        let mut level = vec![target.clone()];
        for _ in 0..=MAX_INDEX_DEPTH {
            let mut below = Vec::new();
            for descriptor in level {
                looks += 1;
                if looks > MAX_LOOKS {
                    return Err(Error::invalid("the index leads to too many documents"));
                }
                match self.document(&descriptor).await? {
                    Document::Index(entries) => below.extend(candidates(entries, &wanted)),
                    Document::Manifest(manifest) => return self.take(descriptor, *manifest, &wanted).await,
                }
            }
            if below.is_empty() {
                return Err(no_match(&wanted));
            }
            level = below;
        }
        Err(Error::invalid(format!("indexes are nested more than {MAX_INDEX_DEPTH} deep")))
    }

    async fn take(&self, descriptor: Descriptor, manifest: Manifest, wanted: &Platform) -> Result<Chosen> {
        check_types(&manifest)?;
        let config: ImageConfig = documents::parse_config(&self.config(&manifest.config).await?)?;
        // A lone manifest is taken as it is, unless a platform was asked for.
        if self.platform.is_some() && !platforms::matches(&config.platform(), wanted) {
            return Err(no_match(wanted));
        }
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(Error::invalid(format!(
                "mismatched image rootfs and manifest layers: {} and {}",
                config.rootfs.diff_ids.len(),
                manifest.layers.len()
            )));
        }
        let mut layers: Vec<Descriptor> = Vec::new();
        for layer in manifest.layers {
            if layers.iter().all(|known| known.digest != layer.digest) {
                layers.push(layer);
            }
        }
        Ok(Chosen { descriptor, layers })
    }
}

/// The entry that fits, and indexes of which nobody says for what they are.
fn candidates(entries: Vec<Descriptor>, wanted: &Platform) -> Vec<Descriptor> {
    let images = entries.into_iter().filter(|entry| !documents::is_attestation(entry));
    let fits = |entry: &Descriptor| entry.platform.as_ref().is_some_and(|have| platforms::matches(have, wanted));
    let (mut fitting, rest): (Vec<_>, Vec<_>) = images.partition(fits);
    // The very variant goes before one that merely fits.
    fitting.sort_by_key(|entry| entry.platform.as_ref().is_none_or(|have| have.variant != wanted.variant));
    fitting.truncate(1);
    if fitting.is_empty() {
        fitting.extend(
            rest.into_iter().filter(|entry| entry.platform.is_none() && documents::is_index(&entry.media_type)),
        );
    }
    fitting
}

/// Layers that must not be passed on are not in the registry, and no URL of a manifest's is followed (T19).
fn check_types(manifest: &Manifest) -> Result<()> {
    let known = matches!(&*manifest.config.media_type, documents::DOCKER_CONFIG | documents::OCI_CONFIG);
    let layers = manifest.layers.iter().map(|layer| layer.media_type.as_str());
    let other = layers.filter(|kind| !documents::is_layer(kind));
    let wrong = std::iter::once(manifest.config.media_type.as_str()).filter(|_| !known).chain(other).next();
    match wrong {
        None => Ok(()),
        Some(kind) => Err(Error::invalid(format!("unsupported media type {kind}"))),
    }
}

fn no_match(wanted: &Platform) -> Error {
    Error::not_found(format!(
        "no matching manifest for {wanted} in the manifest list entries: no match for platform in manifest: not found"
    ))
}
