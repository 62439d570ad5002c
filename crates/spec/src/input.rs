//! What a spec is made of.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use gantry_domain::{
    cdi::ContainerEdits,
    container::{ContainerRecord, MountPoint, user::User},
    exec::ExecConfig,
    id_maps::IdMaps,
    ports::{DeviceNode, Facts},
    settings::Settings,
};

/// Everything that decides a container's spec. Sources of mounts and devices are already resolved on the host.
#[derive(Debug, Clone, Copy)]
pub struct SpecInput<'a> {
    pub record: &'a ContainerRecord,
    pub settings: &'a Settings,
    pub facts: &'a Facts,
    /// `Config.User`, looked up in the image.
    pub user: &'a User,
    pub network: &'a Namespace,
    pub ipc: &'a Namespace,
    pub pid: &'a Namespace,
    /// `Host` for a container without a user namespace.
    pub user_namespace: &'a Namespace,
    /// The maps of its user namespace, where it has one.
    pub id_maps: &'a IdMaps,
    /// Mount points with their sources (a volume's folder) filled in.
    pub mounts: &'a [MountPoint],
    pub files: &'a HostFiles,
    /// Those of `HostConfig.Devices`; all of the host's for a privileged container.
    pub devices: &'a [Device],
    /// What the vendors of requested devices ask for; their nodes complete.
    pub edits: &'a [ContainerEdits],
    /// Numbers of the block devices that `Blkio*Device` names, by path.
    pub block_devices: &'a BTreeMap<String, (u32, u32)>,
    /// The init on the host, where the container is to have one.
    pub init_path: Option<&'a std::path::Path>,
    /// Content of the engine's own seccomp profile (`--seccomp-profile PATH`).
    pub seccomp_profile: Option<&'a Bytes>,
    /// More environment, before the container's own (old links).
    pub env_extra: &'a [String],
}

/// How a container gets a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// The runtime makes it.
    #[default]
    New,
    Host,
    /// One that is there: a network namespace we made, or another container's.
    Join(PathBuf),
}

/// Files and folders of the host that are bound to fixed places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFiles {
    pub resolv_conf: Option<PathBuf>,
    pub hostname: Option<PathBuf>,
    pub hosts: Option<PathBuf>,
    /// Shared `/dev/shm` (shareable and joined IPC); without it the container has one of its own.
    pub shm: Option<PathBuf>,
}

/// A device of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub node: DeviceNode,
    pub path_in_container: String,
    /// Some of `rwm`.
    pub access: String,
}

/// Everything that decides the process of an exec.
#[derive(Debug, Clone, Copy)]
pub struct ExecInput<'a> {
    pub record: &'a ContainerRecord,
    pub settings: &'a Settings,
    pub facts: &'a Facts,
    pub exec: &'a ExecConfig,
    /// The exec's user, or the container's, looked up in the container.
    pub user: &'a User,
    /// More environment, before the container's own (old links).
    pub env_extra: &'a [String],
}
