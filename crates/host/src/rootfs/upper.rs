//! A container's own layer, without a mount: whether it changed certain files, and how much may be in it.

use std::{
    io,
    path::{Path, PathBuf},
};

use gantry_domain::{Error, Result, container::validate::NO_STORAGE_QUOTA, ports::RootMount};

use crate::quota;

/// `true` whenever it cannot be ruled out: no overlay, a link on the way, a whole folder replaced.
pub fn changes(mounts: &[RootMount], paths: &[Vec<PathBuf>]) -> bool {
    let [mount] = mounts else { return true };
    let option = |key: &str| mount.options.iter().find_map(|option| option.strip_prefix(key));
    let Some(upper) = option("upperdir=") else { return true };
    let lowers: Vec<&Path> = option("lowerdir=").unwrap_or_default().split(':').map(Path::new).collect();
    paths.iter().any(|names| changed(Path::new(upper), names) || lowers.iter().any(|lower| has_link(lower, names)))
}

/// The uppermost layer that has something of this name in its root decides.
pub fn is_link(mounts: &[RootMount], name: &str) -> bool {
    mounts
        .iter()
        .flat_map(layers)
        .find_map(|layer| layer.join(name).symlink_metadata().ok())
        .is_some_and(|found| found.is_symlink())
}

/// The folders of a mount, from the top.
fn layers(mount: &RootMount) -> Vec<PathBuf> {
    let option = |key: &str| mount.options.iter().find_map(|option| option.strip_prefix(key));
    let upper = option("upperdir=").into_iter();
    let lowers = option("lowerdir=").into_iter().flat_map(|text| text.split(':'));
    let layers: Vec<PathBuf> = upper.chain(lowers).map(PathBuf::from).collect();
    if layers.is_empty() { vec![mount.source.clone().into()] } else { layers }
}

/// Of the layer and of the folder in which overlayfs prepares what goes there.
pub fn limit(mounts: &[RootMount], bytes: u64) -> Result<()> {
    let refused = || Error::invalid(NO_STORAGE_QUOTA);
    let [mount] = mounts else { return Err(refused()) };
    let option = |key: &str| mount.options.iter().find_map(|option| option.strip_prefix(key)).map(Path::new);
    let (Some(upper), Some(work)) = (option("upperdir="), option("workdir=")) else { return Err(refused()) };
    quota::limit(&[upper, work], bytes).map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported => refused(),
        _ => Error::system(format!("cannot limit {}: {error}", upper.display())).with_source(error),
    })
}

/// Anything of the upper layer on the way that is not a plain folder, or the file itself.
fn changed(upper: &Path, names: &[PathBuf]) -> bool {
    let mut at = upper.to_owned();
    for (n, name) in names.iter().enumerate() {
        at.push(name);
        let Ok(found) = at.symlink_metadata() else { return false };
        if n + 1 == names.len() || !found.is_dir() || is_opaque(&at) {
            return true;
        }
    }
    true
}

/// With a link on the way the file lies elsewhere in the upper layer.
fn has_link(lower: &Path, names: &[PathBuf]) -> bool {
    let mut at = lower.to_owned();
    for name in names {
        at.push(name);
        match at.symlink_metadata() {
            Ok(found) if found.is_symlink() => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

fn is_opaque(folder: &Path) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0u8; 8];
        rustix::fs::lgetxattr(folder, *name, &mut value[..]).is_ok_and(|len| value[..len] == *b"y")
    })
}
