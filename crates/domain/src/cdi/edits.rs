//! What a device asks of a container's OCI spec.

use serde::Deserialize;

use crate::{Error, Result, ports::DeviceNode};

const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerEdits {
    /// `K=V`; one of the same name is replaced.
    pub env: Vec<String>,
    pub device_nodes: Vec<DeviceEdit>,
    pub mounts: Vec<MountEdit>,
    pub hooks: Vec<Hook>,
    pub intel_rdt: Option<IntelRdt>,
    #[serde(rename = "additionalGids")]
    pub additional_gids: Vec<u32>,
}

/// A device node in the container. What is not said is as on the host.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeviceEdit {
    /// In the container.
    pub path: String,
    /// On the host; empty where it is the same.
    pub host_path: String,
    /// `b`, `c`, `u` or `p`; empty: as on the host.
    #[serde(rename = "type")]
    pub kind: String,
    pub major: u32,
    pub minor: u32,
    pub file_mode: Option<u32>,
    /// Some of `rwm`; all where nothing is said.
    pub permissions: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MountEdit {
    pub host_path: String,
    pub container_path: String,
    pub options: Vec<String>,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hook {
    /// One of OCI's.
    pub hook_name: String,
    pub path: String,
    pub args: Vec<String>,
    pub env: Vec<String>,
    /// Seconds.
    pub timeout: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IntelRdt {
    #[serde(rename = "closID")]
    pub clos_id: String,
    pub l3_cache_schema: String,
    pub mem_bw_schema: String,
    #[serde(rename = "enableCMT")]
    pub enable_cmt: bool,
    #[serde(rename = "enableMBM")]
    pub enable_mbm: bool,
}

impl ContainerEdits {
    pub(super) fn check(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::invalid(format!("invalid container edits: {text}")));
        if let Some(variable) = self.env.iter().find(|variable| !variable.contains('=')) {
            return invalid(format!("invalid environment variable \"{variable}\""));
        }
        for node in &self.device_nodes {
            if node.path.is_empty() {
                return invalid("invalid (empty) device path".into());
            }
            if !["", "b", "c", "u", "p"].contains(&node.kind.as_str()) {
                return invalid(format!("device \"{}\": invalid type \"{}\"", node.path, node.kind));
            }
            if !node.permissions.chars().all(|one| "rwm".contains(one)) {
                return invalid(format!("device \"{}\": invalid permissions \"{}\"", node.path, node.permissions));
            }
        }
        for mount in &self.mounts {
            if mount.host_path.is_empty() || !mount.container_path.starts_with('/') {
                return invalid(format!("invalid mount \"{}\" on \"{}\"", mount.host_path, mount.container_path));
            }
        }
        for hook in &self.hooks {
            if !HOOKS.contains(&hook.hook_name.as_str()) {
                return invalid(format!("invalid hook name \"{}\"", hook.hook_name));
            }
            if hook.path.is_empty() {
                return invalid(format!("invalid hook \"{}\" with empty path", hook.hook_name));
            }
        }
        Ok(())
    }
}

impl DeviceEdit {
    /// Where it is on the host.
    pub fn source(&self) -> &str {
        if self.host_path.is_empty() { &self.path } else { &self.host_path }
    }

    /// Whether the host must be asked what it is.
    pub fn lacks_numbers(&self) -> bool {
        self.kind.is_empty() || (self.major == 0 && self.kind != "p")
    }

    /// Takes type and numbers of the host's node. `InvalidParameter` where that is of another type.
    pub fn complete(&mut self, node: &DeviceNode) -> Result<()> {
        let kind = node.kind.to_string();
        if !self.kind.is_empty() && self.kind != kind {
            return Err(Error::invalid(format!(
                "CDI device (\"{}\", \"{}\"), host type mismatch (\"{}\", \"{kind}\")",
                self.path,
                self.source(),
                self.kind
            )));
        }
        (self.kind, self.major, self.minor) = (kind, node.major, node.minor);
        self.file_mode = self.file_mode.or(Some(node.mode & 0o7777));
        Ok(())
    }
}
