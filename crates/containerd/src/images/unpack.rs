//! Layers become snapshots, each once: from what a load has staged already, or from the blobs.

use std::{collections::HashMap, sync::Arc};

use containerd_client::{services::v1::ApplyRequest, types};
use gantry_domain::{
    Digest, Error, Result,
    id::random_hex,
    image::{Descriptor, PlatformImage},
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    chunks,
    content::Content,
    limits::Limits,
    snapshots::{Snapshots, Staged, chain_ids},
    threads,
};
use crate::client;

/// Unpacks under one lease.
#[derive(Clone)]
pub struct Unpacker {
    pub content: Content,
    pub snapshots: Snapshots,
    pub limits: Limits,
    pub locks: ChainLocks,
}

/// Where the unpacking of a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Begun,
    Done,
}

/// Layers that were extracted while they arrived, by the digest of their blob.
pub type StagedLayers = HashMap<Digest, Staged>;

/// One unpacking of a chain, or transfer of a blob, at a time: the others wait and find it done.
#[derive(Clone, Default)]
pub struct ChainLocks(Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>);

impl ChainLocks {
    pub async fn lock(&self, chain: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        self.of(chain).lock_owned().await
    }

    /// `None` where somebody works on it.
    pub fn try_lock(&self, chain: &Digest) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        self.of(chain).try_lock_owned().ok()
    }

    fn of(&self, chain: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock();
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(chain.clone()).or_default().clone()
    }
}

impl Unpacker {
    /// Chain id of the top layer, which is there and is kept by the config's label; empty for an image without layers.
    pub async fn unpack(&self, image: &PlatformImage, staged: &mut StagedLayers) -> Result<String> {
        self.unpack_with(image, staged, &|_, _| ()).await
    }

    /// The same, telling of each layer.
    pub async fn unpack_with(
        &self,
        image: &PlatformImage,
        staged: &mut StagedLayers,
        tell: &(dyn Fn(Step, &Descriptor) + Send + Sync),
    ) -> Result<String> {
        let diff_ids = &image.config.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            return Err(Error::invalid(format!(
                "mismatched image rootfs and manifest layers: {} and {}",
                diff_ids.len(),
                image.layers.len()
            )));
        }
        // Also where the snapshots are here already: the blobs of this image must be what its config lists, as far as they came just now.
        for (layer, diff_id) in image.layers.iter().zip(diff_ids) {
            if let Some(staged) = staged.get(&layer.digest) {
                check_diff_id(staged.extracted.diff_id.as_ref().unwrap_or(&layer.digest), diff_id)?;
            }
        }
        let chain = chain_ids(diff_ids);
        let Some(top) = chain.last() else { return Ok(String::new()) };
        let mut next = chain.len();
        while next > 0 && !self.snapshots.claim(&chain[next - 1]).await? {
            next -= 1;
        }
        make_durable(staged).await?;
        for at in next..chain.len() {
            let parent = at.checked_sub(1).map_or("", |below| chain[below].as_str());
            tell(Step::Begun, &image.layers[at]);
            self.layer(&image.layers[at], &diff_ids[at], parent, &chain[at], staged).await?;
            tell(Step::Done, &image.layers[at]);
        }
        let label = format!("containerd.io/gc.ref.snapshot.{}", self.snapshots.name());
        self.content.set_labels(&image.config_digest, &[(label, top.to_string())].into()).await?;
        Ok(top.to_string())
    }

    async fn layer(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        parent: &str,
        chain: &Digest,
        staged: &mut StagedLayers,
    ) -> Result<()> {
        let _alone = self.locks.lock(chain).await;
        if self.snapshots.claim(chain).await? {
            return Ok(());
        }
        if !self.snapshots.is_overlay() {
            // Its files would belong to the host's users.
            self.snapshots.check_plain_owners()?;
            return self.apply_by_containerd(layer, diff_id, parent, chain).await;
        }
        let staged = match staged.remove(&layer.digest) {
            Some(staged) => staged,
            None => self.stage(layer).await?,
        };
        check_diff_id(staged.extracted.diff_id.as_ref().unwrap_or(&layer.digest), diff_id)?;
        self.snapshots.adopt(staged, parent, chain).await
    }

    /// Extracts a layer from its blob.
    pub async fn stage(&self, layer: &Descriptor) -> Result<Staged> {
        let body = self.content.stream(&layer.digest).await?;
        let (sender, source) = chunks::pipe();
        let (snapshots, limits) = (self.snapshots.clone(), self.limits);
        let runtime = tokio::runtime::Handle::current();
        let extracted = threads::run("gantry-extract", move || snapshots.stage(&runtime, source, limits));
        let (extracted, ()) = tokio::join!(extracted, chunks::feed(body, sender, CancellationToken::new()));
        extracted
    }

    async fn apply_by_containerd(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        parent: &str,
        chain: &Digest,
    ) -> Result<()> {
        let key = format!("gantry-unpack-{}", &random_hex()[..24]);
        let mounts = self.snapshots.prepare_mounts(&key, parent).await?;
        let diff = types::Descriptor {
            media_type: layer.media_type.clone(),
            digest: layer.digest.to_string(),
            size: layer.size,
            annotations: HashMap::new(),
        };
        let request = ApplyRequest { diff: Some(diff), mounts, payloads: HashMap::new(), sync_fs: true };
        let answer = self.content.client().diff().apply(request).await.map_err(client::error)?.into_inner();
        let found = answer.applied.map(|applied| applied.digest).unwrap_or_default();
        if found != diff_id.as_str() {
            return Err(Error::invalid(format!("wrong diff id calculated on extraction: {found}, expected {diff_id}")));
        }
        self.snapshots.commit(&key, chain).await
    }
}

/// One writing for all layers, whose names then change one by one.
async fn make_durable(staged: &mut StagedLayers) -> Result<()> {
    let Some(some) = staged.values().find(|layer| !layer.durable) else { return Ok(()) };
    some.synced().await?;
    staged.values_mut().for_each(|layer| layer.durable = true);
    Ok(())
}

/// The plain bytes of a layer have the digest that the image's config lists.
fn check_diff_id(found: &Digest, listed: &Digest) -> Result<()> {
    if found == listed {
        return Ok(());
    }
    Err(Error::invalid(format!("wrong diff id calculated on extraction: {found}, expected {listed}")))
}
