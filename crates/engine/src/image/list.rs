//! `GET /images/json` and `GET /images/{name}/json`.

use std::collections::{BTreeMap, HashMap};

use gantry_domain::{
    ContainerId, Digest, Error, Result,
    container::Snapshot,
    filter::Filters,
    glob::path_match,
    image::{Descriptor, ManifestEntry, NamedImage, PlatformImage},
    platform::Platform,
    ports::LayerUsage,
    reference::Reference,
};
use jiff::Timestamp;

use super::{ImageDetails, ImageInspect, ImageList, ManifestDetails, catalog};
use crate::{
    Engine,
    parts::{Parts, readable},
};

const KEYS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

impl Engine {
    /// Newest first.
    pub async fn image_list(&self, request: ImageList) -> Result<Vec<ImageDetails>> {
        let filters = &request.filters;
        filters.check_keys(KEYS)?;
        let dangling = if filters.contains("dangling") { Some(filters.bool_or("dangling", false)?) } else { None };
        let until = until(filters)?;
        let before = self.created_of(filters, "before").await?;
        let since = self.created_of(filters, "since").await?;
        let layers = self.parts.catalog.layers().await?;
        let mut list = Vec::new();
        let mut names = self.parts.catalog.names().await?.as_ref().clone();
        // Of an image with more names only those that are meant are shown.
        names.retain(|named| reference_matches(filters, &named.name));
        for names in by_target(&names).into_values() {
            let details = details(&self.parts, &names, None, &layers).await;
            let Some(mut details) = readable("image", &names[0].name, details)? else { continue };
            let created = created(&details);
            let labels =
                details.image.as_ref().and_then(|image| image.config.config.labels.clone()).unwrap_or_default();
            let chosen = dangling.is_none_or(|wanted| wanted == details.is_dangling())
                && prune_labels_match(filters, &labels)
                && before.is_none_or(|limit| created < Some(limit))
                && until.is_none_or(|limit| details.last_tagged.0 < Some(limit))
                && since.is_none_or(|limit| created > Some(limit));
            if chosen {
                if request.manifests {
                    details.manifests = manifests(&self.parts, &details.target, &layers).await?;
                }
                list.push(details);
            }
        }
        if request.shared_size {
            let top =
                |details: &ImageDetails| details.image.as_ref().map(|image| self.parts.ports.images.chain_id(image));
            let tops: Vec<String> = list.iter().map(|details| top(details).unwrap_or_default()).collect();
            add_shared_sizes(&mut list, &layers, &tops);
        }
        list.sort_by(|a, b| created(b).cmp(&created(a)).then_with(|| a.id.cmp(&b.id)));
        Ok(list)
    }

    pub async fn image_inspect(&self, name: &str, request: ImageInspect) -> Result<ImageDetails> {
        let mut details = self.image_details(name, request.platform.clone()).await?;
        if request.manifests {
            let layers = self.parts.catalog.layers().await?;
            details.manifests = manifests(&self.parts, &details.target, &layers).await?;
        }
        if let Some(image) = details.image.as_ref().filter(|_| request.platform.is_some()) {
            (details.id, details.target) = (image.manifest.digest.clone(), image.manifest.clone());
        }
        Ok(details)
    }

    pub(crate) async fn image_details(&self, name: &str, platform: Option<Platform>) -> Result<ImageDetails> {
        let target = self.parts.catalog.resolve(name).await?;
        let names = self.parts.catalog.names().await?;
        let names: Vec<&NamedImage> = names.iter().filter(|named| named.target.digest == target.digest).collect();
        let layers = self.parts.catalog.layers().await?;
        let details = details(&self.parts, &names, platform.as_ref(), &layers).await?;
        if platform.is_some() && details.image.is_none() {
            let platform = platform.unwrap_or_default();
            return Err(Error::not_found(format!(
                "image with reference {name} was found but does not provide the specified platform ({platform})"
            )));
        }
        Ok(details)
    }

    async fn created_of(&self, filters: &Filters, key: &str) -> Result<Option<Timestamp>> {
        let mut found = None;
        for name in filters.values(key) {
            found = created(&self.image_details(name, None).await?);
        }
        Ok(found)
    }
}

fn created(details: &ImageDetails) -> Option<Timestamp> {
    details.image.as_ref().and_then(|image| image.config.created).and_then(|created| created.0)
}

fn by_target(names: &[NamedImage]) -> BTreeMap<&Digest, Vec<&NamedImage>> {
    let mut groups: BTreeMap<&Digest, Vec<&NamedImage>> = BTreeMap::new();
    for named in names {
        groups.entry(&named.target.digest).or_default().push(named);
    }
    groups
}

/// One image with all its names; `names` is not empty.
pub(crate) async fn details(
    parts: &Parts,
    names: &[&NamedImage],
    platform: Option<&Platform>,
    layers: &HashMap<String, LayerUsage>,
) -> Result<ImageDetails> {
    let target: Descriptor =
        names.first().map(|named| named.target.clone()).ok_or_else(|| Error::not_found("No such image"))?;
    let platforms = parts.ports.images.platforms(&target).await?;
    let image = catalog::choose(&platforms, platform).cloned();
    let references = names
        .iter()
        .filter(|named| !catalog::is_dangling(&named.name))
        .filter_map(|named| Reference::parse(&named.name).ok());
    let (mut repo_tags, mut repo_digests) = (Vec::new(), Vec::new());
    for reference in references {
        repo_digests.push(format!("{}@{}", reference.familiar_name(), target.digest));
        if reference.tag.is_some() {
            repo_tags.push(reference.familiar());
        }
    }
    repo_tags.sort();
    repo_digests.sort();
    repo_digests.dedup();
    let mut size = 0;
    for image in &platforms {
        size += image.content_size();
        let top = parts.ports.images.chain_id(image);
        size += catalog::chain(layers, &top).iter().map(|layer| layer.size as i64).sum::<i64>();
    }
    let index =
        if target.digest == image.as_ref().map_or(&target, |image| &image.manifest).digest { 0 } else { target.size };
    let content_size = index + image.as_ref().map_or(target.size, PlatformImage::content_size);
    let containers = parts.claims.lock().image_users(&target.digest).len() as i64;
    let last_tagged = names.iter().map(|named| named.updated_at).max().unwrap_or_default();
    Ok(ImageDetails {
        id: target.digest.clone(),
        target,
        repo_tags,
        repo_digests,
        image,
        platforms,
        manifests: Vec::new(),
        size,
        content_size,
        shared_size: -1,
        containers,
        last_tagged,
    })
}

async fn manifests(
    parts: &Parts,
    target: &Descriptor,
    layers: &HashMap<String, LayerUsage>,
) -> Result<Vec<ManifestDetails>> {
    let entries = parts.ports.images.manifests(target).await?;
    let unpacked = |image: &PlatformImage| {
        let top = parts.ports.images.chain_id(image);
        catalog::chain(layers, &top).iter().map(|layer| layer.size as i64).sum()
    };
    let details = |entry: ManifestEntry| ManifestDetails {
        unpacked: entry.image.as_ref().map_or(0, unpacked),
        containers: made_of(parts, &entry.descriptor.digest),
        entry,
    };
    Ok(entries.into_iter().map(details).collect())
}

/// Containers by the platform's manifest.
fn made_of(parts: &Parts, manifest: &Digest) -> Vec<ContainerId> {
    let is_of = |snapshot: &Snapshot| {
        snapshot.record.image.manifest.as_ref().is_some_and(|made_of| made_of.digest == *manifest)
    };
    parts.snapshots().into_iter().filter(is_of).map(|snapshot| snapshot.record.id.clone()).collect()
}

/// Bytes of the unpacked layers that another image in the list has too.
fn add_shared_sizes(list: &mut [ImageDetails], layers: &HashMap<String, LayerUsage>, tops: &[String]) {
    let chains: Vec<Vec<&LayerUsage>> = tops.iter().map(|top| catalog::chain(layers, top)).collect();
    let mut users: HashMap<&str, usize> = HashMap::new();
    for layer in chains.iter().flatten() {
        *users.entry(layer.chain_id.as_str()).or_default() += 1;
    }
    for (details, chain) in list.iter_mut().zip(&chains) {
        let shared = chain.iter().filter(|layer| users[layer.chain_id.as_str()] > 1);
        details.shared_size = shared.map(|layer| layer.size as i64).sum();
    }
}

/// `until` of list and prune: a time or an age is resolved by the client; the server takes seconds or RFC 3339.
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let mut values = filters.values("until");
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::invalid("more than one until filter specified"));
    }
    parse_until(text).map(Some).ok_or_else(|| Error::invalid(format!("failed to parse until filter: {text}")))
}

fn parse_until(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    if let Some((seconds, nanos)) = text.split_once('.') {
        let nanos: i32 = format!("{nanos:0<9}").get(..9)?.parse().ok()?;
        return Timestamp::new(seconds.parse().ok()?, nanos).ok();
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    let age: jiff::SignedDuration = text.parse().ok()?;
    Timestamp::now().checked_sub(age).ok()
}

/// All of `label` hold and none of `label!`.
pub(crate) fn prune_labels_match(filters: &Filters, labels: &BTreeMap<String, String>) -> bool {
    filters.labels_match("label", labels) && filters.no_label_matches("label!", labels)
}

/// A pattern in the manner of Go's `path.Match`, on familiar names with and without tag.
fn reference_matches(filters: &Filters, name: &str) -> bool {
    if !filters.contains("reference") {
        return true;
    }
    let reference = Reference::parse(name).ok().filter(|_| !catalog::is_dangling(name));
    reference.is_some_and(|reference| {
        let shown = [reference.familiar(), reference.familiar_name()];
        filters.values("reference").any(|pattern| shown.iter().any(|name| path_match(pattern, name)))
    })
}
