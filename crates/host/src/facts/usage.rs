//! A container's figures from its control groups, v1 and v2. A handful of small files; no process, no containerd.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gantry_domain::{
    Error, Result,
    container::usage::{CpuUsage, IoEntry, MemoryUsage, ResourceUsage},
};

/// Clock ticks in a second, as `/proc/stat` counts (USER_HZ).
const TICKS: u64 = 100;
const SECOND: u64 = 1_000_000_000;

/// The sample of the container that this process is in. `NotFound` when the process is gone.
pub(super) fn read(root: &Path, pid: u32) -> Result<ResourceUsage> {
    let places = std::fs::read_to_string(root.join(format!("proc/{pid}/cgroup")))
        .map_err(|error| Error::not_found(format!("process {pid} is gone: {error}")))?;
    let base = root.join("sys/fs/cgroup");
    let unified = base.join("cgroup.controllers").exists();
    let mut usage = if unified { v2(&base.join(place(&places, "").unwrap_or_default())) } else { v1(&base, &places) };
    usage.cgroup_version = if unified { 2 } else { 1 };
    let host = memory_of_host(root);
    if usage.memory.limit == 0 || usage.memory.limit > host {
        usage.memory.limit = host;
    }
    (usage.system_cpu, usage.online_cpus) = host_cpu(root);
    Ok(usage)
}

/// The path of a v1 controller's group, or of the unified one for the empty name.
fn place(places: &str, controller: &str) -> Option<PathBuf> {
    places.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let hit = if controller.is_empty() {
            controllers.is_empty()
        } else {
            controllers.split(',').any(|name| name == controller)
        };
        hit.then(|| PathBuf::from(path.trim_start_matches('/')))
    })
}

fn v1(base: &Path, places: &str) -> ResourceUsage {
    let folder = |controller: &str| base.join(controller).join(place(places, controller).unwrap_or_default());
    let (accounting, cpu, memory) = (folder("cpuacct"), folder("cpu"), folder("memory"));
    let throttling = pairs(&cpu.join("cpu.stat"));
    let times = pairs(&accounting.join("cpuacct.stat"));
    let tick = |name: &str| times.get(name).copied().unwrap_or(0) * (SECOND / TICKS);
    let get = |name: &str| throttling.get(name).copied().unwrap_or(0);
    let per_cpu = text(&accounting.join("cpuacct.usage_percpu"));
    ResourceUsage {
        cpu: CpuUsage {
            total: number(&accounting.join("cpuacct.usage")),
            per_cpu: per_cpu.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
            kernel: tick("system"),
            user: tick("user"),
            periods: get("nr_periods"),
            throttled_periods: get("nr_throttled"),
            throttled_time: get("throttled_time"),
        },
        memory: MemoryUsage {
            usage: number(&memory.join("memory.usage_in_bytes")),
            max_usage: number(&memory.join("memory.max_usage_in_bytes")),
            limit: number(&memory.join("memory.limit_in_bytes")),
            failures: number(&memory.join("memory.failcnt")),
            detail: pairs(&memory.join("memory.stat")),
        },
        io_bytes: throttle_file(&folder("blkio").join("blkio.throttle.io_service_bytes_recursive")),
        io_operations: throttle_file(&folder("blkio").join("blkio.throttle.io_serviced_recursive")),
        pids: number(&folder("pids").join("pids.current")),
        pids_limit: text(&folder("pids").join("pids.max")).trim().parse().ok(),
        ..ResourceUsage::default()
    }
}

fn v2(folder: &Path) -> ResourceUsage {
    let cpu = pairs(&folder.join("cpu.stat"));
    let micros = |name: &str| cpu.get(name).copied().unwrap_or(0) * 1000;
    let get = |name: &str| cpu.get(name).copied().unwrap_or(0);
    let (io_bytes, io_operations) = io_stat(&text(&folder.join("io.stat")));
    ResourceUsage {
        cpu: CpuUsage {
            total: micros("usage_usec"),
            per_cpu: Vec::new(),
            kernel: micros("system_usec"),
            user: micros("user_usec"),
            periods: get("nr_periods"),
            throttled_periods: get("nr_throttled"),
            throttled_time: micros("throttled_usec"),
        },
        memory: MemoryUsage {
            usage: number(&folder.join("memory.current")),
            max_usage: 0,
            limit: number(&folder.join("memory.max")),
            failures: pairs(&folder.join("memory.events")).get("max").copied().unwrap_or(0),
            detail: pairs(&folder.join("memory.stat")),
        },
        io_bytes,
        io_operations,
        pids: number(&folder.join("pids.current")),
        pids_limit: text(&folder.join("pids.max")).trim().parse().ok(),
        ..ResourceUsage::default()
    }
}

/// `8:0 Read 4096` lines of v1; the sum of a device is left to the reader.
fn throttle_file(path: &Path) -> Vec<IoEntry> {
    let content = text(path);
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let operation = words.next()?.to_owned();
        let value = words.next()?.parse().ok()?;
        Some(IoEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, operation, value })
    };
    content.lines().filter_map(entry).collect()
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …` lines of v2: bytes and operations.
fn io_stat(content: &str) -> (Vec<IoEntry>, Vec<IoEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in content.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let operation = if name.starts_with('r') { "read" } else { "write" }.to_owned();
            let entry = IoEntry { major, minor, operation, value };
            match name {
                "rbytes" | "wbytes" => bytes.push(entry),
                "rios" | "wios" => operations.push(entry),
                _ => {}
            }
        }
    }
    (bytes, operations)
}

/// Busy and idle time of all processors in nanoseconds, and how many there are.
fn host_cpu(root: &Path) -> (u64, u32) {
    let content = text(&root.join("proc/stat"));
    let mut lines = content.lines();
    // Guest time is in user time already: the first eight fields are the whole.
    let first = lines.next().unwrap_or_default();
    let ticks: u64 = first.split_whitespace().skip(1).take(8).filter_map(|word| word.parse::<u64>().ok()).sum();
    let cpus = lines.take_while(|line| line.starts_with("cpu")).count();
    (ticks * (SECOND / TICKS), u32::try_from(cpus).unwrap_or(1))
}

fn memory_of_host(root: &Path) -> u64 {
    let content = text(&root.join("proc/meminfo"));
    let kib =
        content.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// `name value` lines.
fn pairs(path: &Path) -> BTreeMap<String, u64> {
    let content = text(path);
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    content.lines().filter_map(pair).collect()
}

/// 0 where the file is missing or says `max`.
fn number(path: &Path) -> u64 {
    text(path).trim().parse().unwrap_or(0)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tree::tree;

    #[test]
    fn v2_figures_are_read_as_recorded() {
        let root = tree(&[
            ("proc/7/cgroup", "0::/gantry/x\n"),
            ("proc/meminfo", "MemTotal:       1000 kB\n"),
            ("proc/stat", "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\ncpu1 1\nintr 5\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
            (
                "sys/fs/cgroup/gantry/x/cpu.stat",
                "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 1\nnr_throttled 1\nthrottled_usec 9\n",
            ),
            ("sys/fs/cgroup/gantry/x/memory.current", "4096\n"),
            ("sys/fs/cgroup/gantry/x/memory.max", "max\n"),
            ("sys/fs/cgroup/gantry/x/memory.stat", "anon 1\ninactive_file 2\n"),
            ("sys/fs/cgroup/gantry/x/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("sys/fs/cgroup/gantry/x/pids.current", "3\n"),
            ("sys/fs/cgroup/gantry/x/pids.max", "max\n"),
        ]);
        let usage = read(root.path(), 7).expect("readable");
        assert_eq!((usage.cpu.total, usage.cpu.throttled_time), (5000, 9000));
        assert_eq!(
            (usage.memory.usage, usage.memory.limit, usage.memory.detail["inactive_file"]),
            (4096, 1_024_000, 2)
        );
        assert_eq!((usage.io_bytes.len(), usage.io_operations[1].value), (2, 4));
        assert_eq!((usage.pids, usage.pids_limit, usage.online_cpus), (3, None, 2));
        assert_eq!(usage.system_cpu, 36 * 10_000_000);
    }

    #[test]
    fn v1_figures_are_read_as_recorded() {
        let root = tree(&[
            ("proc/7/cgroup", "4:memory:/gantry/x\n3:cpuacct:/gantry/x\n2:cpu:/gantry/x\n1:pids:/gantry/x\n"),
            ("proc/meminfo", "MemTotal:       1000 kB\n"),
            ("proc/stat", "cpu  1\ncpu0 1\n"),
            ("sys/fs/cgroup/memory/gantry/x/memory.usage_in_bytes", "10\n"),
            ("sys/fs/cgroup/memory/gantry/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/cpuacct/gantry/x/cpuacct.usage", "77\n"),
            ("sys/fs/cgroup/cpuacct/gantry/x/cpuacct.usage_percpu", "70 7 \n"),
            ("sys/fs/cgroup/pids/gantry/x/pids.current", "2\n"),
            ("sys/fs/cgroup/pids/gantry/x/pids.max", "100\n"),
        ]);
        let usage = read(root.path(), 7).expect("readable");
        assert_eq!((usage.cpu.total, usage.cpu.per_cpu.as_slice()), (77, [70, 7].as_slice()));
        assert_eq!((usage.memory.limit, usage.pids_limit), (1_024_000, Some(100)));
    }

    #[test]
    fn a_process_that_is_gone_is_not_found() {
        assert!(read(Path::new("/"), u32::MAX).expect_err("gone").is_not_found());
    }
}
