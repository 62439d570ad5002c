//! Which containerd and which OCI runtime run below us.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use gantry_domain::{Error, Result, ports::RuntimeVersions};
use tokio::{process::Command, time::timeout};

use super::ContainerdRuntime;
use crate::client::retry;

const PATIENCE: Duration = Duration::from_secs(5);

/// What `--version` of a runtime printed; asked again when the file has changed.
#[derive(Debug, Clone)]
pub struct Known {
    path: PathBuf,
    modified: Option<SystemTime>,
    version: String,
    commit: String,
    features: String,
}

impl ContainerdRuntime {
    pub(super) async fn read_versions(&self) -> Result<RuntimeVersions> {
        let answer = retry(|| async { self.client.version().version(()).await }).await?;
        let runtime = self.default_runtime_version().await?;
        Ok(RuntimeVersions {
            containerd: answer.version,
            containerd_revision: answer.revision,
            runc: runtime.version,
            runc_commit: runtime.commit,
            runc_path: runtime.path.to_string_lossy().into_owned(),
            runc_features: runtime.features,
            address: self.client.socket().to_string_lossy().into_owned(),
            namespace: self.client.namespace().to_owned(),
        })
    }

    async fn default_runtime_version(&self) -> Result<Known> {
        let config = self.config();
        let path = in_path(config.default_program()?);
        let modified = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        let known = self.runtime_version.lock().clone();
        if let Some(known) = known.filter(|known| known.path == path && known.modified == modified) {
            return Ok(known);
        }
        let (version, commit) = ask(&path).await?;
        let features = features(&path).await;
        let known = Known { path, modified, version, commit, features };
        *self.runtime_version.lock() = Some(known.clone());
        Ok(known)
    }
}

/// The file that a shell would run; the name itself when there is none.
fn in_path(program: &str) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file()).unwrap_or_else(|| program.into())
}

async fn ask(path: &Path) -> Result<(String, String)> {
    let failed = |why: String| Error::system(format!("cannot ask {} for its version: {why}", path.display()));
    let output = Command::new(path).arg("--version").kill_on_drop(true).output();
    let output = match timeout(PATIENCE, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed("it does not end".into())),
    };
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// What the runtime supports, on one line; older ones do not say.
async fn features(path: &Path) -> String {
    let output = Command::new(path).arg("features").kill_on_drop(true).output();
    match timeout(PATIENCE, output).await {
        Ok(Ok(output)) if output.status.success() => serde_json::from_slice::<serde_json::Value>(&output.stdout)
            .ok()
            .filter(serde_json::Value::is_object)
            .map(|features| features.to_string())
            .unwrap_or_default(),
        _ => String::new(),
    }
}

/// `runc version 1.1.5+ds1` and `commit: …`; crun prints the same two.
fn parse(text: &str) -> (String, String) {
    let mut version = String::new();
    let mut commit = String::new();
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once(" version ").filter(|_| version.is_empty()) {
            version = rest.trim().to_owned();
        } else if let Some(rest) = line.strip_prefix("commit:") {
            commit = rest.trim().to_owned();
        }
    }
    (version, commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_commit_are_read_from_runc_and_crun() {
        let runc = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\ngo: go1.19.8\n";
        assert_eq!(parse(runc), ("1.1.5+ds1".into(), "1.1.5+ds1-1+deb12u1".into()));
        assert_eq!(parse("crun version 1.8.1\ncommit: f8a096\nrundir: /run\n"), ("1.8.1".into(), "f8a096".into()));
    }
}
