//! Which limits the kernel's control groups can keep, on v1, hybrid and v2.

use std::path::Path;

use gantry_domain::ports::CgroupFacts;

/// The version (hybrid is 1) and the facilities, from a tree with `sys/fs/cgroup` and `proc`.
pub(super) fn read(root: &Path) -> (u32, CgroupFacts) {
    let base = root.join("sys/fs/cgroup");
    if base.join("cgroup.controllers").exists() { (2, v2(&base)) } else { (1, v1(root, &base)) }
}

fn v2(base: &Path) -> CgroupFacts {
    let controllers = std::fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
    CgroupFacts {
        memory_limit: has("memory"),
        swap_limit: has("memory") && swap_accounting_v2(base),
        kernel_memory_tcp: false,
        cpu_cfs_period: has("cpu"),
        cpu_cfs_quota: has("cpu"),
        cpu_shares: has("cpu"),
        cpu_realtime: false,
        cpuset: has("cpuset"),
        pids_limit: has("pids"),
        // There is no such switch in v2.
        oom_kill_disable: false,
        blkio_weight: has("io"),
        blkio_throttle: has("io"),
    }
}

/// `memory.swap.max` is not in the root group: any group below tells.
fn swap_accounting_v2(base: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(base) else { return false };
    let mut groups = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir()).peekable();
    groups.peek().is_none() || groups.any(|entry| entry.path().join("memory.swap.max").exists())
}

fn v1(root: &Path, base: &Path) -> CgroupFacts {
    let enabled = std::fs::read_to_string(root.join("proc/cgroups")).unwrap_or_default();
    let has = |name: &str| {
        enabled.lines().any(|line| {
            let mut fields = line.split_whitespace();
            fields.next() == Some(name) && fields.next().is_some_and(|hierarchy| hierarchy != "0")
        })
    };
    // A controller may be mounted alone or with others; its name is a folder or a link either way.
    let file = |controller: &str, name: &str| has(controller) && base.join(controller).join(name).exists();
    CgroupFacts {
        memory_limit: file("memory", "memory.limit_in_bytes"),
        swap_limit: file("memory", "memory.memsw.limit_in_bytes"),
        kernel_memory_tcp: file("memory", "memory.kmem.tcp.limit_in_bytes"),
        cpu_cfs_period: file("cpu", "cpu.cfs_period_us"),
        cpu_cfs_quota: file("cpu", "cpu.cfs_quota_us"),
        cpu_shares: file("cpu", "cpu.shares"),
        cpu_realtime: file("cpu", "cpu.rt_period_us"),
        cpuset: file("cpuset", "cpuset.cpus"),
        pids_limit: has("pids") && base.join("pids").is_dir(),
        oom_kill_disable: file("memory", "memory.oom_control"),
        blkio_weight: file("blkio", "blkio.weight"),
        blkio_throttle: file("blkio", "blkio.throttle.read_bps_device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tree::tree;

    #[test]
    fn v2_is_told_by_its_controllers_file() {
        let root = tree(&[
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
            ("sys/fs/cgroup/system.slice/memory.swap.max", "max\n"),
        ]);
        let (version, facts) = read(root.path());
        assert_eq!(version, 2);
        assert!(facts.memory_limit && facts.swap_limit && facts.pids_limit && facts.cpuset && !facts.oom_kill_disable);
        assert!(facts.blkio_throttle);
    }

    #[test]
    fn hybrid_counts_as_v1() {
        let root = tree(&[
            (
                "proc/cgroups",
                "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t4\t1\t1\ncpu\t1\t1\t1\npids\t0\t1\t1\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "0"),
            ("sys/fs/cgroup/cpu/cpu.shares", "1024"),
            ("sys/fs/cgroup/unified/cgroup.controllers", ""),
        ]);
        let (version, facts) = read(root.path());
        assert_eq!(version, 1);
        assert!(facts.memory_limit && facts.cpu_shares && !facts.swap_limit && !facts.pids_limit);
    }
}
