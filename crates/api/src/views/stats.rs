//! `GET /containers/{id}/stats`, in Go's field order and spelling.

use std::collections::BTreeMap;

use gantry_domain::{
    GoTime,
    container::usage::{IoEntry, ResourceUsage},
    ports::InterfaceStatistics,
};
use gantry_engine::container::{ContainerStats, StatsSample};
use schemars::JsonSchema;
use serde::Serialize;

/// One line of the answer.
#[derive(Serialize, JsonSchema)]
pub struct StatsResponse {
    name: String,
    id: String,
    read: GoTime,
    preread: GoTime,
    pids_stats: PidsStats,
    blkio_stats: BlkioStats,
    num_procs: u32,
    storage_stats: StorageStats,
    cpu_stats: CpuStats,
    precpu_stats: CpuStats,
    memory_stats: MemoryStats,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    networks: BTreeMap<String, NetworkStats>,
}

#[derive(Default, Serialize, JsonSchema)]
struct PidsStats {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

/// All of this is Windows'.
#[derive(Default, Serialize, JsonSchema)]
struct StorageStats {}

#[derive(Default, Serialize, JsonSchema)]
struct BlkioStats {
    io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    io_serviced_recursive: Option<Vec<BlkioEntry>>,
    io_queue_recursive: Option<Vec<BlkioEntry>>,
    io_service_time_recursive: Option<Vec<BlkioEntry>>,
    io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    io_merged_recursive: Option<Vec<BlkioEntry>>,
    io_time_recursive: Option<Vec<BlkioEntry>>,
    sectors_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Serialize, JsonSchema)]
struct BlkioEntry {
    major: u64,
    minor: u64,
    op: String,
    value: u64,
}

#[derive(Default, Serialize, JsonSchema)]
struct CpuStats {
    cpu_usage: CpuUsage,
    #[serde(skip_serializing_if = "is_zero")]
    system_cpu_usage: u64,
    #[serde(skip_serializing_if = "is_zero_u32")]
    online_cpus: u32,
    throttling_data: ThrottlingData,
}

#[derive(Default, Serialize, JsonSchema)]
struct CpuUsage {
    total_usage: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_usage: Vec<u64>,
    usage_in_kernelmode: u64,
    usage_in_usermode: u64,
}

#[derive(Default, Serialize, JsonSchema)]
struct ThrottlingData {
    periods: u64,
    throttled_periods: u64,
    throttled_time: u64,
}

#[derive(Default, Serialize, JsonSchema)]
struct MemoryStats {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_usage: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    stats: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    failcnt: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Serialize, JsonSchema)]
struct NetworkStats {
    rx_bytes: u64,
    rx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

impl From<&ContainerStats> for StatsResponse {
    fn from(stats: &ContainerStats) -> Self {
        let usage = stats.current.usage.clone().unwrap_or_default();
        Self {
            name: stats.name.clone(),
            id: stats.id.clone(),
            read: stats.current.read,
            preread: stats.previous.read,
            pids_stats: PidsStats { current: usage.pids, limit: usage.pids_limit.unwrap_or(0) },
            blkio_stats: blkio(&usage),
            num_procs: 0,
            storage_stats: StorageStats {},
            cpu_stats: cpu(&stats.current),
            precpu_stats: cpu(&stats.previous),
            memory_stats: MemoryStats {
                usage: usage.memory.usage,
                max_usage: usage.memory.max_usage,
                failcnt: usage.memory.failures,
                limit: usage.memory.limit,
                stats: usage.memory.detail,
            },
            networks: stats.current.networks.iter().map(|(name, counters)| (name.clone(), network(counters))).collect(),
        }
    }
}

fn cpu(sample: &StatsSample) -> CpuStats {
    let Some(usage) = &sample.usage else { return CpuStats::default() };
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: usage.cpu.total,
            percpu_usage: usage.cpu.per_cpu.clone(),
            usage_in_kernelmode: usage.cpu.kernel,
            usage_in_usermode: usage.cpu.user,
        },
        system_cpu_usage: usage.system_cpu,
        online_cpus: usage.online_cpus,
        throttling_data: ThrottlingData {
            periods: usage.cpu.periods,
            throttled_periods: usage.cpu.throttled_periods,
            throttled_time: usage.cpu.throttled_time,
        },
    }
}

/// On v1 the lists are there even when empty; on v2 most are null, as dockerd has it.
fn blkio(usage: &ResourceUsage) -> BlkioStats {
    let list = |entries: &[IoEntry]| {
        let entry = |entry: &IoEntry| BlkioEntry {
            major: entry.major,
            minor: entry.minor,
            op: entry.operation.clone(),
            value: entry.value,
        };
        entries.iter().map(entry).collect::<Vec<_>>()
    };
    let empty = || (usage.cgroup_version == 1).then(Vec::new);
    let known = usage.cgroup_version != 0;
    BlkioStats {
        io_service_bytes_recursive: known.then(|| list(&usage.io_bytes)),
        io_serviced_recursive: if usage.cgroup_version == 1 { Some(list(&usage.io_operations)) } else { None },
        io_queue_recursive: empty(),
        io_service_time_recursive: empty(),
        io_wait_time_recursive: empty(),
        io_merged_recursive: empty(),
        io_time_recursive: empty(),
        sectors_recursive: empty(),
    }
}

fn network(counters: &InterfaceStatistics) -> NetworkStats {
    NetworkStats {
        rx_bytes: counters.rx_bytes,
        rx_packets: counters.rx_packets,
        rx_errors: counters.rx_errors,
        rx_dropped: counters.rx_dropped,
        tx_bytes: counters.tx_bytes,
        tx_packets: counters.tx_packets,
        tx_errors: counters.tx_errors,
        tx_dropped: counters.tx_dropped,
    }
}
