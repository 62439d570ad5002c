//! What the engine knows of the image store: names looked up, manifests read once, chains of unpacked layers.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gantry_domain::{
    Digest, Error, Result,
    image::{Descriptor, NamedImage, PlatformImage},
    platform::Platform,
    ports::{ImageStore, LayerUsage},
    reference::Reference,
};
use parking_lot::Mutex;

/// How old the list of names may be: others may write to containerd too.
const NAMES_AGE: Duration = Duration::from_secs(2);
/// Images whose manifest and config are kept in memory.
const KEPT: usize = 64;

/// A name in the store that stands for no name: `gantry-dangling@sha256:…`.
pub(crate) fn dangling_name(target: &Digest) -> String {
    format!("{}{target}", gantry_domain::image::DANGLING)
}

pub(crate) fn is_dangling(name: &str) -> bool {
    name.starts_with(gantry_domain::image::DANGLING)
}

/// An image ready to make a container of.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub target: Descriptor,
    pub image: PlatformImage,
    pub chain_id: String,
    /// For the client: the platform is not the host's.
    pub warning: Option<String>,
}

/// The image store with what was read of it lately.
pub(crate) struct Catalog {
    store: Arc<dyn ImageStore>,
    names: Mutex<Option<(Instant, Arc<Vec<NamedImage>>)>>,
    /// Grows with each `forget`: what was asked for before it is not kept after it.
    changes: AtomicU64,
    resolved: Mutex<HashMap<(Digest, Option<Platform>), Resolved>>,
}

impl Catalog {
    pub fn new(store: Arc<dyn ImageStore>) -> Self {
        Self { store, names: Mutex::default(), changes: AtomicU64::new(0), resolved: Mutex::default() }
    }

    /// To be called after each change of ours.
    pub fn forget(&self) {
        // Each is counted with its lock held, so that nobody keeps an old answer between the two.
        let mut names = self.names.lock();
        let mut resolved = self.resolved.lock();
        self.changes.fetch_add(1, Ordering::SeqCst);
        *names = None;
        resolved.clear();
    }

    pub async fn names(&self) -> Result<Arc<Vec<NamedImage>>> {
        if let Some((at, names)) = self.names.lock().as_ref()
            && at.elapsed() < NAMES_AGE
        {
            return Ok(names.clone());
        }
        let before = self.changes.load(Ordering::SeqCst);
        let names = Arc::new(self.store.names().await?);
        let mut kept = self.names.lock();
        if self.changes.load(Ordering::SeqCst) == before {
            *kept = Some((Instant::now(), names.clone()));
        }
        Ok(names)
    }

    /// What a typed name, id, short id or `name@digest` means.
    pub async fn resolve(&self, typed: &str) -> Result<Descriptor> {
        let names = self.names().await?;
        find(&names, typed)?.cloned().ok_or_else(|| no_such_image(typed))
    }

    /// An image with its layers unpacked, for the host's platform or the one asked for.
    pub async fn for_container(&self, typed: &str, platform: Option<&Platform>) -> Result<Resolved> {
        let before = self.changes.load(Ordering::SeqCst);
        let target = self.resolve(typed).await?;
        let key = (target.digest.clone(), platform.cloned());
        if let Some(known) = self.resolved.lock().get(&key) {
            return Ok(known.clone());
        }
        let platforms = self.store.platforms(&target).await?;
        let image = choose(&platforms, platform).ok_or_else(|| absent_platform(typed, platform))?.clone();
        let chain_id = self.store.unpack(&image).await?;
        let host = Platform::host();
        let warning = (platform.is_none() && (image.platform.os != host.os || image.platform.architecture != host.architecture))
            .then(|| {
                format!(
                    "The requested image's platform ({}) does not match the detected host platform ({host}) and no specific \
                     platform was requested",
                    image.platform
                )
            });
        let resolved = Resolved { target, image, chain_id, warning };
        let mut kept = self.resolved.lock();
        if self.changes.load(Ordering::SeqCst) == before {
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(key, resolved.clone());
        }
        Ok(resolved)
    }

    /// What list shows as a container's image: the name as typed, or the id where the name by now points elsewhere.
    pub fn shown_as(&self, typed: &str, id: Option<&Digest>) -> String {
        let Some(id) = id else { return typed.to_owned() };
        let names = self.names.lock().as_ref().map(|(_, names)| names.clone());
        let Some(names) = names else { return typed.to_owned() };
        match find(&names, typed) {
            Ok(Some(found)) if found.digest == *id => typed.to_owned(),
            _ => id.to_string(),
        }
    }

    /// Every id that a filter's value means.
    pub async fn ids_of(&self, typed: &str) -> Result<Vec<Digest>> {
        match self.resolve(typed).await {
            Ok(found) => Ok(vec![found.digest]),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The layers of what a filter's value means, for each platform that has some.
    pub async fn layers_of(&self, typed: &str) -> Result<Vec<Vec<Digest>>> {
        let platforms = match self.resolve(typed).await {
            Ok(found) => self.store.platforms(&found).await?,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        let layers = platforms.into_iter().map(|image| image.config.rootfs.diff_ids);
        Ok(layers.filter(|layers| !layers.is_empty()).collect())
    }

    pub async fn count(&self) -> Result<i64> {
        let names = self.names().await?;
        Ok(names.iter().map(|named| &named.target.digest).collect::<HashSet<_>>().len() as i64)
    }

    /// Bytes of the unpacked layers from this chain id down.
    pub async fn layers(&self) -> Result<HashMap<String, LayerUsage>> {
        let layers = self.store.layer_usage().await?;
        Ok(layers.into_iter().map(|layer| (layer.chain_id.clone(), layer)).collect())
    }

    /// Bytes of all blobs and unpacked layers.
    pub async fn total_size(&self) -> Result<i64> {
        let blobs: u64 = self.store.blobs().await?.iter().map(|(_, size)| size).sum();
        let layers: u64 = self.store.layer_usage().await?.iter().map(|layer| layer.size).sum();
        Ok((blobs + layers) as i64)
    }
}

/// The layers from the top down.
pub(crate) fn chain<'a>(layers: &'a HashMap<String, LayerUsage>, top: &str) -> Vec<&'a LayerUsage> {
    let mut found = Vec::new();
    let mut next = top;
    while let Some(layer) = layers.get(next) {
        found.push(layer);
        next = &layer.parent;
    }
    found
}

/// The manifest for a platform: the one asked for, or the host's, or the only one there is.
pub(crate) fn choose<'a>(platforms: &'a [PlatformImage], wanted: Option<&Platform>) -> Option<&'a PlatformImage> {
    match wanted {
        Some(wanted) => platforms.iter().find(|image| fits(&image.platform, wanted)),
        None => {
            let host = Platform::host();
            platforms.iter().find(|image| fits(&image.platform, &host)).or_else(|| platforms.first())
        }
    }
}

pub(crate) fn fits(have: &Platform, wanted: &Platform) -> bool {
    have.os == wanted.os
        && have.architecture == wanted.architecture
        && (wanted.variant.is_empty() || have.variant.is_empty() || have.variant == wanted.variant)
}

fn absent_platform(typed: &str, platform: Option<&Platform>) -> Error {
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    Error::not_found(format!(
        "image with reference {typed} was found but does not provide the specified platform ({platform})"
    ))
}

pub(crate) fn no_such_image(typed: &str) -> Error {
    let shown =
        Reference::parse(typed).map_or_else(|_| typed.to_owned(), |reference| reference.with_default_tag().familiar());
    Error::not_found(format!("No such image: {shown}"))
}

/// A name first, then an id or the beginning of one.
fn find<'a>(names: &'a [NamedImage], typed: &str) -> Result<Option<&'a Descriptor>> {
    if let Ok(digest) = Digest::parse(typed) {
        return Ok(names.iter().map(|named| &named.target).find(|target| target.digest == digest));
    }
    let reference = Reference::parse(typed);
    if let Ok(reference) = &reference
        && let Some(found) = by_reference(names, reference)
    {
        return Ok(Some(found));
    }
    let hex = typed.strip_prefix("sha256:").unwrap_or(typed);
    if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return reference.map(|_| None);
    }
    let mut found: Vec<&Descriptor> =
        names.iter().map(|named| &named.target).filter(|target| target.digest.hex().starts_with(hex)).collect();
    found.dedup_by(|a, b| a.digest == b.digest);
    found.sort_by(|a, b| a.digest.cmp(&b.digest));
    found.dedup_by(|a, b| a.digest == b.digest);
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Error::not_found(format!("ambiguous reference: {typed}"))),
    }
}

fn by_reference<'a>(names: &'a [NamedImage], reference: &Reference) -> Option<&'a Descriptor> {
    if let Some(digest) = &reference.digest {
        let repository = reference.familiar_name();
        return names
            .iter()
            .find(|named| {
                named.target.digest == *digest
                    && Reference::parse(&named.name).is_ok_and(|known| known.familiar_name() == repository)
            })
            .map(|named| &named.target);
    }
    let canonical = reference.clone().with_default_tag().canonical();
    names.iter().find(|named| named.name == canonical).map(|named| &named.target)
}
