//! What containerd-client lacks: runc's options and the type urls of OCI documents.

use containerd_client::to_any;
use gantry_domain::settings::ShimOptions;
use prost::Name;
use prost_types::Any;

/// The shim that containerd's container names; a start may give another one (`RuntimeConfig::shim`). This one is
/// everywhere: a container can be started where ours is missing, or by an older gantryd.
pub const SHIM: &str = gantry_domain::settings::STOCK_SHIM;
/// Key and type url of the third copy of the record in containerd's container.
pub const RECORD: &str = "io.gantry/record";

/// `containerd.runc.v1.Options`, save for checkpoints.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuncOptions {
    #[prost(bool, tag = "1")]
    pub no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    pub no_new_keyring: bool,
    #[prost(string, tag = "3")]
    pub shim_cgroup: String,
    /// Owner of the pipes that the shim gives a process: root in its user namespace.
    #[prost(uint32, tag = "4")]
    pub io_uid: u32,
    #[prost(uint32, tag = "5")]
    pub io_gid: u32,
    #[prost(string, tag = "6")]
    pub binary_name: String,
    /// runc's `--root`; containerd appends the namespace.
    #[prost(string, tag = "7")]
    pub root: String,
    #[prost(bool, tag = "9")]
    pub systemd_cgroup: bool,
}

impl Name for RuncOptions {
    const NAME: &'static str = "Options";
    const PACKAGE: &'static str = "containerd.runc.v1";
}

impl RuncOptions {
    pub fn to_any(&self) -> Any {
        to_any(self)
    }
}

/// `runtimeoptions.v1.Options`: a file of a shim that is not runc's.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OtherOptions {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(string, tag = "2")]
    pub config_path: String,
}

impl Name for OtherOptions {
    const NAME: &'static str = "Options";
    const PACKAGE: &'static str = "runtimeoptions.v1";
}

/// Options of a shim that is configured by its type.
pub fn of_shim(options: &ShimOptions) -> Any {
    match options.clone() {
        ShimOptions::Runc(runc) => to_any(&RuncOptions {
            no_pivot_root: runc.no_pivot_root,
            no_new_keyring: runc.no_new_keyring,
            shim_cgroup: runc.shim_cgroup,
            io_uid: runc.io_uid,
            io_gid: runc.io_gid,
            binary_name: runc.binary_name,
            root: runc.root,
            systemd_cgroup: runc.systemd_cgroup,
        }),
        ShimOptions::Other(other) => to_any(&OtherOptions { type_url: other.type_url, config_path: other.config_path }),
    }
}

/// `containerd.runc.v1.ProcessDetails`: whose process a process id of ListPids is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProcessDetails {
    #[prost(string, tag = "1")]
    pub exec_id: String,
}

/// An OCI document (`Spec`, `Process`, `LinuxResources`) as containerd's type registry names it.
pub fn oci(kind: &str, json: bytes::Bytes) -> Any {
    Any { type_url: format!("types.containerd.io/opencontainers/runtime-spec/1/{kind}"), value: json.to_vec() }
}

pub fn record(bytes: &bytes::Bytes) -> Any {
    Any { type_url: RECORD.to_owned(), value: bytes.to_vec() }
}
