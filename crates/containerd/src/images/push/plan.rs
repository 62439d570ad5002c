//! What a push sends: the whole of an index where it is here, else the one manifest that is.

use gantry_domain::{
    Error, Result,
    image::{Descriptor, PlatformImage},
    platform::Platform,
};

use crate::images::{
    content::Content,
    documents::{self, Document},
    platforms::{self, Found},
};

pub struct Plan {
    /// What the tag will point to.
    pub target: Descriptor,
    /// The index that `target` stands for, if it does and was not asked for.
    pub instead_of: Option<Descriptor>,
    /// Manifests and indexes below the target, inner ones first.
    pub inner: Vec<Descriptor>,
    pub configs: Vec<Descriptor>,
    /// Each once, the lowest first.
    pub layers: Vec<Descriptor>,
}

impl Plan {
    pub async fn make(content: &Content, target: &Descriptor, wanted: Option<&Platform>) -> Result<Self> {
        let found = platforms::walk(content, target).await?;
        if !documents::is_index(&target.media_type) {
            check_platform(content, target, wanted).await?;
            return Self::of(content, target.clone(), &found).await;
        }
        if wanted.is_none() && is_whole(content, &found).await? {
            return Self::of(content, target.clone(), &found).await;
        }
        let here = platforms::platforms(content, target).await?;
        let chosen = choose(&here, wanted).ok_or_else(|| absent(target, wanted))?;
        let manifest = plain(&chosen.manifest);
        let document = found.into_iter().filter(|one| one.descriptor.digest == manifest.digest).collect::<Vec<_>>();
        let instead_of = wanted.is_none().then(|| target.clone());
        Ok(Self { instead_of, ..Self::of(content, manifest, &document).await? })
    }

    async fn of(content: &Content, target: Descriptor, found: &[Found]) -> Result<Self> {
        let mut plan = Self { target, instead_of: None, inner: Vec::new(), configs: Vec::new(), layers: Vec::new() };
        for one in found.iter().rev() {
            if one.descriptor.digest != plan.target.digest {
                plan.inner.push(plain(&one.descriptor));
            }
            let Document::Manifest(manifest) = &one.document else { continue };
            add(&mut plan.configs, std::slice::from_ref(&manifest.config));
            add(&mut plan.layers, &manifest.layers);
        }
        for blob in plan.configs.iter().chain(&plan.layers) {
            if !content.claim(&blob.digest).await? {
                return Err(Error::not_found(format!("content digest {}: not found", blob.digest)));
            }
        }
        Ok(plan)
    }
}

/// Layers that must not be passed on stay where they are.
fn add(to: &mut Vec<Descriptor>, blobs: &[Descriptor]) {
    for blob in blobs {
        let foreign = blob.media_type.contains("nondistributable") || blob.media_type.contains(".foreign.");
        if !foreign && to.iter().all(|known| known.digest != blob.digest) {
            to.push(plain(blob));
        }
    }
}

/// What a request names it by, without what an index says of it.
fn plain(descriptor: &Descriptor) -> Descriptor {
    documents::descriptor(&descriptor.media_type, descriptor.digest.clone(), descriptor.size.max(0) as u64)
}

/// Whether every document that the index names is here, with all its blobs.
async fn is_whole(content: &Content, found: &[Found]) -> Result<bool> {
    for one in found {
        let wanted: Vec<&Descriptor> = match &one.document {
            Document::Index(entries) => entries.iter().collect(),
            Document::Manifest(manifest) => manifest.layers.iter().chain([&manifest.config]).collect(),
        };
        for descriptor in wanted {
            if content.size(&descriptor.digest).await?.is_none() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn choose<'a>(here: &'a [PlatformImage], wanted: Option<&Platform>) -> Option<&'a PlatformImage> {
    let whole: Vec<&PlatformImage> = here.iter().filter(|image| image.complete).collect();
    let host = Platform::host();
    let fits = |platform: &Platform| whole.iter().find(|image| platforms::matches(&image.platform, platform));
    match wanted {
        Some(wanted) => fits(wanted),
        None => fits(&host).or(whole.first()),
    }
    .copied()
}

async fn check_platform(content: &Content, target: &Descriptor, wanted: Option<&Platform>) -> Result<()> {
    let Some(platform) = wanted else { return Ok(()) };
    let here = platforms::platforms(content, target).await?;
    if here.iter().any(|image| platforms::matches(&image.platform, platform)) {
        return Ok(());
    }
    Err(absent(target, wanted))
}

fn absent(target: &Descriptor, wanted: Option<&Platform>) -> Error {
    match wanted {
        Some(platform) => Error::not_found(format!(
            "image with reference {} was found but does not provide the specified platform ({platform})",
            target.digest
        )),
        None => Error::not_found(format!("no platform of {} is here whole", target.digest)),
    }
}
