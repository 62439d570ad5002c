//! cgroup limits, and the devices a container may use.

use std::collections::BTreeMap;

use gantry_domain::{
    Error, Result,
    container::{
        HostConfig,
        host_config::{ThrottleDevice, WeightDevice},
        validate::resources::parse_device_rule,
    },
};
use serde_json::{Map, Value, json};

use crate::{Device, SpecInput, namespaces::is_remapped};

/// Period of a `NanoCpus` limit, microseconds.
const PERIOD: i64 = 100_000;

pub(crate) fn limits(host: &HostConfig, block_devices: &BTreeMap<String, (u32, u32)>) -> Result<Value> {
    let mut resources = Map::new();
    let parts = [("memory", memory(host)), ("cpu", cpu(host)), ("blockIO", block_io(host, block_devices)?)];
    for (key, part) in parts {
        if !part.is_empty() {
            resources.insert(key.into(), Value::Object(part));
        }
    }
    if let Some(limit) = host.pids_limit {
        let limit = if limit > 0 { limit } else { -1 };
        resources.insert("pids".into(), json!({ "limit": limit }));
    }
    Ok(Value::Object(resources))
}

/// Only what is set: 0 means "as it is".
fn numbers(list: &[(&str, i64)]) -> Map<String, Value> {
    list.iter().filter(|(_, value)| *value != 0).map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
}

fn memory(host: &HostConfig) -> Map<String, Value> {
    let mut memory =
        numbers(&[("limit", host.memory), ("reservation", host.memory_reservation), ("swap", host.memory_swap)]);
    if let Some(swappiness) = host.memory_swappiness {
        memory.insert("swappiness".into(), json!(swappiness));
    }
    if host.oom_kill_disable == Some(true) {
        memory.insert("disableOOMKiller".into(), json!(true));
    }
    if host.kernel_memory_tcp != 0 {
        memory.insert("kernelTCP".into(), json!(host.kernel_memory_tcp));
    }
    memory
}

fn cpu(host: &HostConfig) -> Map<String, Value> {
    let (quota, period) = match host.nano_cpus {
        0 => (host.cpu_quota, host.cpu_period),
        nano => (nano.saturating_mul(PERIOD) / 1_000_000_000, PERIOD),
    };
    let mut cpu = numbers(&[
        ("shares", host.cpu_shares),
        ("quota", quota),
        ("period", period),
        ("realtimeRuntime", host.cpu_realtime_runtime),
        ("realtimePeriod", host.cpu_realtime_period),
    ]);
    for (key, set) in [("cpus", &host.cpuset_cpus), ("mems", &host.cpuset_mems)] {
        if !set.is_empty() {
            cpu.insert(key.into(), json!(set));
        }
    }
    cpu
}

fn block_io(host: &HostConfig, devices: &BTreeMap<String, (u32, u32)>) -> Result<Map<String, Value>> {
    let number =
        |path: &str| devices.get(path).copied().ok_or_else(|| Error::invalid(format!("no such device: {path}")));
    let mut block_io = numbers(&[("weight", i64::from(host.blkio_weight))]);
    let weight = |WeightDevice { path, weight }: &WeightDevice| {
        let (major, minor) = number(path)?;
        Ok(json!({ "major": major, "minor": minor, "weight": weight }))
    };
    let weights: Result<Vec<Value>> = host.blkio_weight_device.iter().flatten().map(weight).collect();
    let throttle = |ThrottleDevice { path, rate }: &ThrottleDevice| {
        let (major, minor) = number(path)?;
        Ok(json!({ "major": major, "minor": minor, "rate": rate }))
    };
    let throttles =
        |list: &Option<Vec<ThrottleDevice>>| -> Result<Vec<Value>> { list.iter().flatten().map(throttle).collect() };
    for (key, list) in [
        ("weightDevice", weights?),
        ("throttleReadBpsDevice", throttles(&host.blkio_device_read_bps)?),
        ("throttleWriteBpsDevice", throttles(&host.blkio_device_write_bps)?),
        ("throttleReadIOPSDevice", throttles(&host.blkio_device_read_iops)?),
        ("throttleWriteIOPSDevice", throttles(&host.blkio_device_write_iops)?),
    ] {
        if !list.is_empty() {
            block_io.insert(key.into(), json!(list));
        }
    }
    Ok(block_io)
}

/// Nodes cannot be made in a user namespace: runc binds the host's of the same path, and one with another path has to be
/// a mount.
pub(crate) fn is_bound(device: &Device, input: &SpecInput<'_>) -> bool {
    is_remapped(input) && device.node.path != device.path_in_container
}

pub(crate) fn device_nodes(input: &SpecInput<'_>) -> Vec<Value> {
    let node = |device: &Device| {
        json!({
            "path": device.path_in_container,
            "type": device.node.kind.to_string(),
            "major": device.node.major,
            "minor": device.node.minor,
            "fileMode": device.node.mode & 0o7777,
            "uid": device.node.uid,
            "gid": device.node.gid,
        })
    };
    input.devices.iter().filter(|device| !is_bound(device, input)).map(node).collect()
}

/// Nothing, then null, zero, full, random, urandom, tty and console, then what was asked; everything when privileged.
pub(crate) fn device_rules(input: &SpecInput<'_>) -> Result<Value> {
    let host = &input.record.host_config;
    if host.privileged {
        return Ok(json!([{ "allow": true, "access": "rwm" }]));
    }
    let character = |allow: bool, major: u32, minor: u32| json!({ "allow": allow, "type": "c", "major": major, "minor": minor, "access": "rwm" });
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    let defaults = [(1, 5), (1, 3), (1, 9), (1, 8), (1, 7), (5, 0), (5, 1)];
    rules.extend(defaults.map(|(major, minor)| character(true, major, minor)));
    // /dev/fuse
    rules.push(character(false, 10, 229));
    rules.extend(input.devices.iter().map(|device| {
        let node = &device.node;
        let (kind, access) = (node.kind.to_string(), &device.access);
        json!({ "allow": true, "type": kind, "major": node.major, "minor": node.minor, "access": access })
    }));
    for rule in host.device_cgroup_rules.iter().flatten() {
        let rule = parse_device_rule(rule)?;
        let mut entry = json!({ "allow": true, "type": rule.kind.to_string(), "access": rule.access });
        for (key, number) in [("major", rule.major), ("minor", rule.minor)] {
            if let Some(number) = number {
                entry[key] = json!(number);
            }
        }
        rules.push(entry);
    }
    Ok(Value::Array(rules))
}
