//! What plugins of addresses gave, on disk from the answer until the engine has noted it: a file for each.
//!
//! Not synced: it is for a gantryd that is killed between the answer and its own record of it, not for a power cut.

use std::{fs, io, os::unix::fs::DirBuilderExt as _, path::Path};

use gantry_domain::{Result, ports::Gift};

use super::RemoteNetworks;
use crate::blocking::blocking;

impl RemoteNetworks {
    pub(super) async fn keep_gift(&self, gift: Gift) {
        let folder = self.gifts.clone();
        let kept = blocking(move || Ok(keep(&folder, &gift)?)).await;
        if let Err(error) = kept {
            tracing::warn!(%error, "what a plugin gave is lost to it should gantryd be killed now");
        }
    }

    pub(super) async fn forget_gift(&self, gift: &Gift) {
        let path = self.gifts.join(name(gift));
        // Where it stays, the next gantryd finds it noted.
        let _ = blocking(move || Ok(fs::remove_file(path)?)).await;
    }

    pub(super) async fn kept_gifts(&self) -> Result<Vec<Gift>> {
        let folder = self.gifts.clone();
        blocking(move || Ok(all(&folder)?)).await
    }
}

fn keep(folder: &Path, gift: &Gift) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::write(folder.join(name(gift)), serde_json::to_vec(gift)?)
}

/// Those that are whole: half a file is of a gantryd that was killed before it had the answer.
fn all(folder: &Path) -> io::Result<Vec<Gift>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let read = |entry: io::Result<fs::DirEntry>| serde_json::from_slice(&fs::read(entry.ok()?.path()).ok()?).ok();
    Ok(entries.filter_map(read).collect())
}

/// A plugin's names may be of any length, and hold anything: FNV-1a of all of it.
fn name(gift: &Gift) -> String {
    let text = format!("{}\0{}\0{:?}", gift.ipam, gift.pool, gift.address);
    let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::plugins::Plugins;

    #[tokio::test]
    async fn a_gift_is_kept_until_it_is_noted() {
        let root = tempfile::tempdir().unwrap();
        let plugins = RemoteNetworks::new(root.path(), Plugins::default());
        assert!(plugins.kept_gifts().await.unwrap().is_empty());
        let gift = |address: &str| Gift { ipam: "far".into(), pool: "a/b".into(), address: address.parse().ok() };
        plugins.keep_gift(gift("10.0.0.2")).await;
        plugins.keep_gift(gift("")).await;
        plugins.keep_gift(gift("")).await;
        fs::write(root.path().join("gifts/half"), "{").unwrap();
        assert_eq!(plugins.kept_gifts().await.unwrap().len(), 2);
        plugins.forget_gift(&gift("")).await;
        plugins.forget_gift(&gift("")).await;
        assert_eq!(plugins.kept_gifts().await.unwrap(), [gift("10.0.0.2")]);
    }
}
