//! A container to make a spec of, with everything that a test may want another way.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use gantry_domain::{
    ContainerId,
    container::{
        Config, ContainerRecord, HostConfig, MountPoint,
        user::User,
        validate::{ApiVersion, validate_and_default},
    },
    exec::ExecConfig,
    id_maps::IdMaps,
    ports::{CgroupFacts, DeviceNode, Facts},
    settings::Settings,
};
use gantry_spec::{Device, ExecInput, HostFiles, Namespace, SpecInput};
use serde_json::{Value, json};

/// Owns what a `SpecInput` borrows.
pub struct Case {
    pub record: ContainerRecord,
    pub settings: Settings,
    pub facts: Facts,
    pub user: User,
    pub network: Namespace,
    pub ipc: Namespace,
    pub pid: Namespace,
    pub user_namespace: Namespace,
    pub id_maps: IdMaps,
    pub mounts: Vec<MountPoint>,
    pub files: HostFiles,
    pub devices: Vec<Device>,
    pub edits: Vec<gantry_domain::cdi::ContainerEdits>,
    pub block_devices: BTreeMap<String, (u32, u32)>,
    pub init_path: Option<PathBuf>,
    pub seccomp_profile: Option<Bytes>,
}

impl Case {
    pub fn new() -> Self {
        let all = CgroupFacts {
            memory_limit: true,
            swap_limit: true,
            cpu_cfs_period: true,
            cpu_cfs_quota: true,
            cpu_shares: true,
            cpuset: true,
            pids_limit: true,
            oom_kill_disable: true,
            blkio_weight: true,
            blkio_throttle: true,
            ..CgroupFacts::default()
        };
        let config = Config {
            hostname: "abcdefabcdef".into(),
            env: Some(vec!["PATH=/bin".into(), "A=1".into()]),
            ..Config::default()
        };
        Self {
            record: ContainerRecord {
                id: ContainerId::parse(&"ab".repeat(32)).unwrap(),
                config,
                path: "/bin/sh".into(),
                args: vec!["-c".into(), "true".into()],
                ..ContainerRecord::default()
            },
            settings: Settings::default(),
            facts: Facts {
                cpus: 2,
                cgroup_version: 2,
                kernel_version: "6.18.0".into(),
                ipv4_forwarding: true,
                cgroup: all,
                ..Facts::default()
            },
            user: User { uid: 0, gid: 0, additional_gids: vec![0, 10], home: "/root".into() },
            network: Namespace::Join("/run/gantry/netns/x".into()),
            ipc: Namespace::New,
            pid: Namespace::New,
            user_namespace: Namespace::Host,
            id_maps: IdMaps::default(),
            mounts: Vec::new(),
            files: HostFiles {
                resolv_conf: Some("/c/resolv.conf".into()),
                hostname: Some("/c/hostname".into()),
                hosts: Some("/c/hosts".into()),
                shm: None,
            },
            devices: Vec::new(),
            edits: Vec::new(),
            block_devices: BTreeMap::new(),
            init_path: None,
            seccomp_profile: None,
        }
    }

    pub fn host(mut self, change: impl FnOnce(&mut HostConfig)) -> Self {
        change(&mut self.record.host_config);
        self
    }

    /// The spec after the defaults of create, read back through OCI's own types.
    pub fn spec(mut self) -> Value {
        let record = &mut self.record;
        let (config, host) = (&mut record.config, &mut record.host_config);
        validate_and_default(config, host, &self.settings, &self.facts, ApiVersion(1, 51)).unwrap();
        let bytes = gantry_spec::runtime_spec(&self.input()).unwrap();
        serde_json::from_slice::<oci_spec::runtime::Spec>(&bytes).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    pub fn input(&self) -> SpecInput<'_> {
        SpecInput {
            record: &self.record,
            settings: &self.settings,
            facts: &self.facts,
            user: &self.user,
            network: &self.network,
            ipc: &self.ipc,
            pid: &self.pid,
            user_namespace: &self.user_namespace,
            id_maps: &self.id_maps,
            mounts: &self.mounts,
            files: &self.files,
            devices: &self.devices,
            edits: &self.edits,
            block_devices: &self.block_devices,
            init_path: self.init_path.as_deref(),
            seccomp_profile: self.seccomp_profile.as_ref(),
            env_extra: &[],
        }
    }

    pub fn exec(&self, exec: &ExecConfig) -> Value {
        let (record, settings, facts, user) = (&self.record, &self.settings, &self.facts, &self.user);
        let bytes =
            gantry_spec::exec_process(&ExecInput { record, settings, facts, exec, user, env_extra: &[] }).unwrap();
        serde_json::from_slice::<oci_spec::runtime::Process>(&bytes).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}

pub fn list(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

/// The long allow-list has its own golden.
pub fn without_seccomp(mut spec: Value) -> Value {
    let filter = spec["linux"].as_object_mut().unwrap().remove("seccomp");
    spec["linux"]["has seccomp"] = json!(filter.is_some());
    spec
}

pub fn device() -> DeviceNode {
    DeviceNode { path: "/dev/fuse".into(), kind: 'c', major: 10, minor: 229, mode: 0o20666, uid: 0, gid: 0 }
}
