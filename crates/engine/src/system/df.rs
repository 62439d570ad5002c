//! `GET /system/df`: what images, containers and volumes hold on the disk.

use std::time::Duration;

use gantry_domain::{ErrorKind, Result, volume::VolumeRecord};

use super::{DiskUsage, DiskUsageKinds, VolumeUsage};
use crate::{
    Engine,
    container::ContainerList,
    image::ImageList,
    parts::{readable, within},
};

/// For one volume of millions of files.
const COUNTING: Duration = Duration::from_secs(300);

/// What is mounted from elsewhere, or is a plugin's, holds nothing on this disk; and a server that is away would not
/// answer.
fn is_ours(volume: &VolumeRecord) -> bool {
    let mounted = volume.options.iter().flatten().any(|(key, value)| key != "size" && !value.is_empty());
    volume.driver == "local" && !mounted
}

impl Engine {
    pub async fn system_df(&self, kinds: DiskUsageKinds) -> Result<DiskUsage> {
        let mut usage = DiskUsage { build_cache: kinds.build_cache, ..DiskUsage::default() };
        if kinds.images {
            usage.layers_size = self.parts.catalog.total_size().await?;
            usage.images = Some(self.image_list(ImageList { shared_size: true, ..ImageList::default() }).await?);
        }
        if kinds.containers {
            let all = ContainerList { all: true, size: true, ..ContainerList::default() };
            usage.containers = Some(self.container_list(all).await?);
        }
        if kinds.volumes {
            usage.volumes = Some(self.volume_usage().await?);
        }
        Ok(usage)
    }

    async fn volume_usage(&self) -> Result<Vec<VolumeUsage>> {
        let volumes: Vec<_> = {
            let claims = self.parts.claims.lock();
            let ours = claims.volumes.values().filter(|volume| is_ours(volume));
            ours.map(|volume| (volume.clone(), claims.volume_users(&volume.name).len())).collect()
        };
        let mut usage = Vec::with_capacity(volumes.len());
        for (volume, references) in volumes {
            let size = within(COUNTING, "counting a volume", self.parts.ports.volumes.usage(&volume)).await;
            let size = match size {
                // Not known, in Docker's sign for it.
                Err(error) if error.kind() == ErrorKind::Cancelled => Some(-1),
                size => readable("volume", &volume.name, size)?.map(|size| size as i64),
            };
            let Some(size) = size else { continue };
            usage.push(VolumeUsage { volume, size, references: references as i64 });
        }
        Ok(usage)
    }
}
