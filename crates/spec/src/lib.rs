//! Pure: a record, an image's config and facts of the host make an OCI runtime spec.

use std::path::PathBuf;

use bytes::Bytes;
use gantry_domain::{
    Result,
    container::{ContainerRecord, user::User},
    exec::ExecConfig,
    ports::{DeviceNode, Facts},
    settings::Settings,
};

/// Everything a runtime spec is made of. The engine calls with exactly these fields; more may be added here.
pub struct SpecInput<'a> {
    pub record: &'a ContainerRecord,
    pub settings: &'a Settings,
    pub facts: &'a Facts,
    pub user: &'a User,
    /// `None`: the host's.
    pub network_namespace: Option<PathBuf>,
    /// Of the other container in `container:<id>` modes; the modes themselves are in the record's `host_config`.
    pub pid_namespace: Option<PathBuf>,
    pub ipc_namespace: Option<PathBuf>,
    pub hosts: Option<PathBuf>,
    pub hostname: Option<PathBuf>,
    pub resolv_conf: Option<PathBuf>,
    /// Nodes of `--device` (host paths as in `host_config.devices`), or every device of the host when privileged.
    pub devices: &'a [DeviceNode],
    /// The host's init program, mounted at `/sbin/docker-init`.
    pub init_path: Option<PathBuf>,
    /// The daemon's own profile file, where it has one.
    pub seccomp_profile: Option<Vec<u8>>,
}

/// Everything an exec's process is made of.
pub struct ExecInput<'a> {
    pub record: &'a ContainerRecord,
    pub exec: &'a ExecConfig,
    pub settings: &'a Settings,
    pub facts: &'a Facts,
    pub user: &'a User,
    pub console_size: Option<[u32; 2]>,
}

/// The whole spec, JSON.
pub fn runtime_spec(_input: &SpecInput) -> Result<Bytes> {
    todo!()
}

/// The OCI `Process` of an exec, JSON.
pub fn exec_process(_input: &ExecInput) -> Result<Bytes> {
    todo!()
}
