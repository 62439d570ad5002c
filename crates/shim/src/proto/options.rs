//! `containerd.runc.v1.Options`, and the files in the bundle that keep them for the `delete` of this or of the Go shim.

use std::{fs, io, path::Path};

use prost::Message;
use prost_types::Any;
use serde::{Deserialize, Serialize};

const TYPE: &str = "containerd.runc.v1.Options";
const OPTIONS_FILE: &str = "options.json";
/// The runtime's program alone; empty for runc.
const RUNTIME_FILE: &str = "runtime";
/// Where the Go shim puts runc's state when nothing is said.
const DEFAULT_ROOT: &str = "/run/containerd/runc";

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    #[prost(bool, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) no_new_keyring: bool,
    #[prost(uint32, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) io_uid: u32,
    #[prost(uint32, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) io_gid: u32,
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) binary_name: String,
    #[prost(string, tag = "7")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) root: String,
    #[prost(bool, tag = "9")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) systemd_cgroup: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Options {
    /// Of a Create request; none are runc's own ways.
    pub(crate) fn of(any: Option<&Any>) -> Result<Self, String> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else { return Ok(Self::default()) };
        if any.type_url.rsplit('/').next() != Some(TYPE) {
            return Err(format!("options of type {} are not known here, only {TYPE}", any.type_url));
        }
        Self::decode(&any.value[..]).map_err(|error| format!("options cannot be read: {error}"))
    }

    pub(crate) fn write(&self, bundle: &Path) -> io::Result<()> {
        fs::write(bundle.join(RUNTIME_FILE), &self.binary_name)?;
        fs::write(bundle.join(OPTIONS_FILE), serde_json::to_vec(self)?)
    }

    /// Those of a bundle; a bundle without them was never used.
    pub(crate) fn read(bundle: &Path) -> Self {
        let read = fs::read(bundle.join(OPTIONS_FILE)).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// runc's `--root`: each namespace has a folder of its own.
    pub(crate) fn runtime_root(&self, namespace: &str) -> String {
        let root = if self.root.is_empty() { DEFAULT_ROOT } else { &self.root };
        format!("{root}/{namespace}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_survive_in_the_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { binary_name: "/opt/crun".into(), systemd_cgroup: true, ..Options::default() };
        options.write(dir.path()).unwrap();
        assert_eq!(Options::read(dir.path()), options);
        let text = fs::read_to_string(dir.path().join(OPTIONS_FILE)).unwrap();
        assert_eq!(text, r#"{"binary_name":"/opt/crun","systemd_cgroup":true}"#, "as the Go shim reads it");
        assert_eq!(fs::read_to_string(dir.path().join(RUNTIME_FILE)).unwrap(), "/opt/crun");
    }

    #[test]
    fn options_of_another_runtime_are_refused() {
        let any = Any { type_url: "runtimeoptions.v1.Options".into(), value: Vec::new() };
        assert!(Options::of(Some(&any)).is_err());
        assert_eq!(Options::of(None).unwrap().runtime_root("ns"), "/run/containerd/runc/ns");
    }
}
