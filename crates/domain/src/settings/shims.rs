//! Runtimes that are a shim of containerd's and no program under ours: `io.containerd.kata.v2`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::STOCK_SHIM;

/// daemon.json's `runtimeType` and `options`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimSettings {
    /// A name as `is_shim_name` takes it, or the path of the shim's program.
    pub kind: String,
    /// None are the shim's own.
    pub options: Option<ShimOptions>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShimOptions {
    /// `containerd.runc.v1.Options`, for containerd's own shim.
    Runc(RuncShimOptions),
    /// `runtimeoptions.v1.Options`, for every other.
    Other(OtherShimOptions),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuncShimOptions {
    #[serde(rename = "nopivotroot")]
    pub no_pivot_root: bool,
    #[serde(rename = "nonewkeyring")]
    pub no_new_keyring: bool,
    #[serde(rename = "shimcgroup")]
    pub shim_cgroup: String,
    #[serde(rename = "iouid")]
    pub io_uid: u32,
    #[serde(rename = "iogid")]
    pub io_gid: u32,
    #[serde(rename = "binaryname")]
    pub binary_name: String,
    pub root: String,
    #[serde(rename = "systemdcgroup")]
    pub systemd_cgroup: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OtherShimOptions {
    /// Which options the file holds, for shims that take several kinds.
    #[serde(rename = "typeurl")]
    pub type_url: String,
    #[serde(rename = "configpath")]
    pub config_path: String,
}

impl ShimOptions {
    /// From daemon.json, whose keys may be written in any case; those that mean nothing to the shim are passed over, as
    /// dockerd does it.
    pub fn read(kind: &str, options: &Map<String, Value>) -> Result<Self, String> {
        let lower = options.iter().map(|(key, value)| (key.to_lowercase(), value.clone()));
        let options: Map<String, Value> = lower.collect();
        if kind != STOCK_SHIM && options.contains_key("configbody") {
            return Err("the option ConfigBody cannot be given here: name a file by ConfigPath".to_owned());
        }
        let options = Value::Object(options);
        let read = match kind {
            STOCK_SHIM => serde_json::from_value(options).map(Self::Runc),
            _ => serde_json::from_value(options).map(Self::Other),
        };
        read.map_err(|error| format!("options: {error}"))
    }
}

/// Whether containerd takes this for a runtime's name, and looks for a shim on its `PATH` that is called by the last two
/// parts of it. A path is none: who may use the API would choose a program that runs as root on the host.
pub fn is_shim_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    parts.len() >= 2 && !parts[0].is_empty() && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shims_name_has_parts_and_is_no_path() {
        for (name, fine) in [
            ("io.containerd.kata.v2", true),
            ("kata.v2", true),
            ("kata", false),
            ("", false),
            (".kata.v2", false),
            ("/opt/containerd-shim-kata.v2", false),
            ("../kata.v2", false),
        ] {
            assert_eq!(is_shim_name(name), fine, "{name}");
        }
    }

    #[test]
    fn options_are_those_of_the_shims_kind() {
        let read = |kind, options: Value| ShimOptions::read(kind, options.as_object().expect("an object"));
        let runc = RuncShimOptions { binary_name: "/opt/crun".into(), systemd_cgroup: true, ..Default::default() };
        let given = json!({"BinaryName": "/opt/crun", "SystemdCgroup": true, "CriuPath": "x"});
        assert_eq!(read(STOCK_SHIM, given), Ok(ShimOptions::Runc(runc)));
        let other = OtherShimOptions { type_url: "io.x.options".into(), config_path: "/etc/x.toml".into() };
        let given = json!({"TypeUrl": "io.x.options", "ConfigPath": "/etc/x.toml"});
        assert_eq!(read("io.containerd.runsc.v1", given), Ok(ShimOptions::Other(other)));
        assert!(read("io.containerd.runsc.v1", json!({"ConfigPath": 7})).is_err());
        assert!(read("io.containerd.runsc.v1", json!({"ConfigBody": [1]})).is_err());
    }
}
