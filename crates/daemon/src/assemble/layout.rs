//! Where our programs lie, and how the default bridge is called on this host.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};

const INSTALLED: &[&str] = &["/usr/libexec/gantry", "/usr/local/libexec/gantry"];

/// A companion's program: beside gantryd, where it is installed, or in `PATH`.
pub fn companion(name: &str) -> Result<PathBuf> {
    find(name).ok_or_else(|| anyhow!("{name} was found neither beside gantryd nor in {} or PATH", INSTALLED.join(", ")))
}

/// Process 1 for `--init`: ours, or one that the host has; empty when there is none.
pub fn init() -> String {
    let found = ["gantry-init", "docker-init", "tini-static", "tini"].iter().find_map(|name| find(name));
    found.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Our shim; without it containerd's own does as well.
pub fn shim() -> Option<PathBuf> {
    let found = find("containerd-shim-gantry-v1");
    if found.is_none() {
        tracing::warn!("containerd-shim-gantry-v1 was not found: containerd's own shim is used");
    }
    found
}

fn find(name: &str) -> Option<PathBuf> {
    // Started through a link (as dockerd) the companions still lie beside the real file.
    let beside = env::current_exe().ok().and_then(|exe| exe.canonicalize().ok()?.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(INSTALLED.iter().map(PathBuf::from))
        .chain(env::split_paths(&path).collect::<Vec<_>>())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
