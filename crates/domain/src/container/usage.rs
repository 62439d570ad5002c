//! What a container uses of the host at one moment: what `docker stats` is made of.

use std::collections::BTreeMap;

/// One sample. Times are nanoseconds, sizes bytes; all counters grow from the container's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceUsage {
    pub cpu: CpuUsage,
    pub memory: MemoryUsage,
    /// Bytes and operations by device and direction (`read`, `write`).
    pub io_bytes: Vec<IoEntry>,
    pub io_operations: Vec<IoEntry>,
    pub pids: u64,
    /// `None` without a limit.
    pub pids_limit: Option<u64>,
    /// Busy time of the whole host, nanoseconds over all processors.
    pub system_cpu: u64,
    pub online_cpus: u32,
    pub cgroup_version: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuUsage {
    pub total: u64,
    /// v1 only; empty on v2.
    pub per_cpu: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    pub usage: u64,
    /// v1 only; 0 on v2.
    pub max_usage: u64,
    /// The host's memory where there is no limit.
    pub limit: u64,
    pub failures: u64,
    /// `memory.stat`, by its own names.
    pub detail: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoEntry {
    pub major: u64,
    pub minor: u64,
    pub operation: String,
    pub value: u64,
}
