//! The host's facts: those of a machine that can do everything.

use async_trait::async_trait;
use gantry_domain::{
    Result,
    container::usage::ResourceUsage,
    ports::{CdiSpecs, CgroupFacts, DeviceNode, Facts, HostFacts, PathKind},
};

use crate::Fakes;

#[async_trait]
impl HostFacts for Fakes {
    async fn facts(&self) -> Facts {
        let apparmor = self.world().apparmor;
        Facts {
            cpus: 8,
            memory: 16 << 30,
            hostname: "fake".into(),
            cgroup_version: 2,
            cgroup: CgroupFacts {
                memory_limit: true,
                swap_limit: true,
                kernel_memory_tcp: true,
                cpu_cfs_period: true,
                cpu_cfs_quota: true,
                cpu_shares: true,
                cpu_realtime: true,
                cpuset: true,
                pids_limit: true,
                oom_kill_disable: true,
                blkio_weight: true,
                blkio_throttle: true,
            },
            apparmor: apparmor.is_some(),
            apparmor_default: apparmor == Some(true),
            ..Facts::default()
        }
    }

    async fn load_apparmor_default(&self) -> Result<()> {
        self.calls.pass("host.load_apparmor_default")?;
        self.world().apparmor = Some(true);
        Ok(())
    }

    fn boot_id(&self) -> String {
        "one-boot".into()
    }

    async fn path_kind(&self, path: &str) -> Result<Option<PathKind>> {
        self.calls.pass("host.path_kind")?;
        Ok((!self.world().missing.contains(path)).then_some(PathKind::Directory))
    }

    async fn relabel(&self, path: &str, label: &str) -> Result<()> {
        self.calls.pass("host.relabel")?;
        self.world().relabelled.insert(path.to_owned(), label.to_owned());
        Ok(())
    }

    async fn make_bind_source(&self, path: &str) -> Result<()> {
        self.calls.pass("host.make_bind_source")?;
        self.world().missing.remove(path);
        Ok(())
    }

    async fn devices(&self, _: &str) -> Result<Vec<DeviceNode>> {
        self.calls.pass("host.devices")?;
        Ok(Vec::new())
    }

    async fn cdi_specs(&self, _: &[String]) -> CdiSpecs {
        CdiSpecs { files: self.world().cdi_specs.clone(), errors: Vec::new() }
    }

    async fn mount_of(&self, _: &str) -> Result<gantry_domain::ports::MountOf> {
        self.calls.pass("host.mount_of")?;
        Ok(gantry_domain::ports::MountOf { place: "/".into(), shared: true, slave: false })
    }

    async fn program(&self, _: &str) -> Option<String> {
        None
    }

    async fn read_file(&self, _: &str, _: u64) -> Result<Vec<u8>> {
        self.calls.pass("host.read_file")?;
        Ok(Vec::new())
    }

    async fn usage(&self, _: u32) -> Result<ResourceUsage> {
        self.calls.pass("host.usage")?;
        Ok(ResourceUsage::default())
    }

    async fn ps(&self, pids: &[u32], _: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        self.calls.pass("host.ps")?;
        Ok((vec!["PID".into()], pids.iter().map(|pid| vec![pid.to_string()]).collect()))
    }

    async fn signal(&self, _: u32, _: u32) -> Result<()> {
        self.calls.pass("host.signal")
    }
}
