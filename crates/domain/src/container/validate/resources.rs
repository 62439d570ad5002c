//! Checks of cgroup limits, and what becomes of those that this kernel cannot keep.

mod block_io;

use super::super::{HostConfig, host_config::Ulimit};
use crate::{Error, Result, ports::Facts};

const MIN_MEMORY: i64 = 6 << 20;
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Takes limits away that the kernel cannot keep and says so; refuses those that make no sense. `update` is for
/// `POST /containers/{id}/update`, where fields that are not set mean "as it is".
pub fn validate(host: &mut HostConfig, facts: &Facts, update: bool) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if host.memory_swappiness == Some(-1) {
        host.memory_swappiness = None;
    }
    memory(host, facts, update, &mut warnings)?;
    oom_and_pids(host, facts, &mut warnings);
    cpu(host, facts, &mut warnings)?;
    cpusets(host, facts, &mut warnings)?;
    block_io::check(host, facts, &mut warnings)?;
    host.ulimits.iter().flatten().try_for_each(ulimit)?;
    host.device_cgroup_rules.iter().flatten().try_for_each(|rule| parse_device_rule(rule).map(drop))?;
    Ok(warnings)
}

fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::invalid(text))
}

fn memory(host: &mut HostConfig, facts: &Facts, update: bool, warnings: &mut Vec<String>) -> Result<()> {
    if host.memory != 0 && host.memory < MIN_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && !facts.cgroup.memory_limit {
        warnings.push(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
                .into(),
        );
        (host.memory, host.memory_swap) = (0, -1);
    }
    if host.memory > 0 && host.memory_swap != -1 && !facts.cgroup.swap_limit {
        warnings.push(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
                .into(),
        );
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 && !update {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    // Newer clients cannot ask for it.
    if host.kernel_memory > 0 {
        warnings.push(
            "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded."
                .into(),
        );
        host.kernel_memory = 0;
    }
    if host.memory_swappiness.is_some() && (facts.cgroup_version == 2 || !facts.cgroup.memory_limit) {
        warnings.push(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."
                .into(),
        );
        host.memory_swappiness = None;
    }
    if let Some(swappiness) = host.memory_swappiness.filter(|value| !(0..=100).contains(value)) {
        return refuse(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if host.memory_reservation > 0 && !facts.cgroup.memory_limit {
        warnings.push(
            "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded."
                .into(),
        );
        host.memory_reservation = 0;
    }
    if host.memory_reservation != 0 && host.memory_reservation < MIN_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    Ok(())
}

fn oom_and_pids(host: &mut HostConfig, facts: &Facts, warnings: &mut Vec<String>) {
    if host.oom_kill_disable.is_some() && !facts.cgroup.oom_kill_disable {
        if host.oom_kill_disable == Some(true) {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".into());
        }
        host.oom_kill_disable = None;
    }
    if host.oom_kill_disable == Some(true) && host.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
                .into(),
        );
    }
    if host.pids_limit.is_some() && !facts.cgroup.pids_limit {
        if host.pids_limit > Some(0) {
            warnings.push(
                "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
                    .into(),
            );
        }
        host.pids_limit = None;
    }
}

fn cpu(host: &mut HostConfig, facts: &Facts, warnings: &mut Vec<String>) -> Result<()> {
    let cfs = facts.cgroup.cpu_cfs_period && facts.cgroup.cpu_cfs_quota;
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if host.nano_cpus > 0 && !cfs {
        return refuse(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    let most = facts.cpus;
    if host.nano_cpus < 0 || host.nano_cpus > i64::from(most) * 1_000_000_000 {
        return refuse(format!("range of CPUs is from 0.01 to {most}.00, as there are only {most} CPUs available"));
    }
    if host.cpu_shares < 0 {
        return refuse(format!("invalid CPU shares ({}): value must be a positive integer", host.cpu_shares));
    }
    if host.cpu_shares > 0 && !facts.cgroup.cpu_shares {
        warnings.push("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.".into());
        host.cpu_shares = 0;
    }
    if (host.cpu_period != 0 || host.cpu_quota != 0) && !cfs {
        warnings.push(
            "CPU cfs period/quota not supported by your kernel or the cgroup is not mounted. CPU period/quota discarded."
                .into(),
        );
        (host.cpu_period, host.cpu_quota) = (0, 0);
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return refuse("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".into());
        host.cpu_percent = 0;
    }
    if (host.cpu_realtime_period != 0 || host.cpu_realtime_runtime != 0) && !facts.cgroup.cpu_realtime {
        return refuse("kernel does not support CPU real-time scheduler");
    }
    if host.cpu_realtime_period != 0 && host.cpu_realtime_runtime > host.cpu_realtime_period {
        return refuse("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    Ok(())
}

fn cpusets(host: &mut HostConfig, facts: &Facts, warnings: &mut Vec<String>) -> Result<()> {
    if (!host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty()) && !facts.cgroup.cpuset {
        warnings.push("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.".into());
        host.cpuset_cpus.clear();
        host.cpuset_mems.clear();
    }
    let bad =
        |list: &str, what: &str, why: String| Error::invalid(format!("Invalid value {list} for cpuset {what}: {why}"));
    let last = highest(&host.cpuset_cpus).map_err(|why| bad(&host.cpuset_cpus, "cpus", why))?;
    if last.is_some_and(|last| last >= facts.cpus) {
        return refuse(format!(
            "Requested CPUs are not available - requested {}, available: {}",
            host.cpuset_cpus,
            if facts.cpus == 1 { "0".to_owned() } else { format!("0-{}", facts.cpus.saturating_sub(1)) }
        ));
    }
    let wanted = ranges(&host.cpuset_mems).map_err(|why| bad(&host.cpuset_mems, "mems", why))?;
    let there = ranges(&facts.memory_nodes).unwrap_or_default();
    let available = |(first, last): &(u32, u32)| there.iter().any(|(from, to)| from <= first && last <= to);
    if !there.is_empty() && !wanted.iter().all(available) {
        return refuse(format!(
            "Requested memory nodes are not available - requested {}, available: {}",
            host.cpuset_mems, facts.memory_nodes
        ));
    }
    Ok(())
}

/// The highest number of a list like `0-3,7`.
fn highest(list: &str) -> Result<Option<u32>, String> {
    Ok(ranges(list)?.into_iter().map(|(_, last)| last).max())
}

/// Beyond the highest number of a processor that Linux has.
const LIST_MAX: u32 = 8193;

/// First and last of each part of a list; not expanded, so that none can fill the memory (T29).
fn ranges(list: &str) -> Result<Vec<(u32, u32)>, String> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let bad = || format!("invalid format: {list}");
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits).ok_or_else(bad)
    };
    list.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = (number(first)?, number(last)?);
            match range {
                (first, last) if first > last => Err(bad()),
                (_, LIST_MAX..) => Err(format!("value of out range, maximum is {}", LIST_MAX - 1)),
                range => Ok(range),
            }
        })
        .collect()
}

fn ulimit(limit: &Ulimit) -> Result<()> {
    if !ULIMITS.contains(&limit.name.as_str()) {
        return refuse(format!("invalid ulimit type: {}", limit.name));
    }
    if limit.hard != -1 && (limit.soft > limit.hard || limit.soft == -1) {
        return refuse(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            limit.soft, limit.hard
        ));
    }
    Ok(())
}

/// A rule of the devices cgroup: `c 1:3 rwm`, `a *:* rwm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    pub kind: char,
    /// `None` is `*`.
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub access: String,
}

/// `InvalidParameter` `invalid device cgroup rule format: 'x'`.
pub fn parse_device_rule(rule: &str) -> Result<DeviceRule> {
    let parsed = || {
        let mut words = rule.split(' ');
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let number = |text: &str| match text {
            "*" => Some(None),
            digits => digits.parse::<u32>().ok().map(|number| Some(i64::from(number))),
        };
        let kind = match kind {
            "a" | "b" | "c" => kind.chars().next()?,
            _ => return None,
        };
        let plain = (1..=3).contains(&access.len()) && access.chars().all(|c| "rwm".contains(c));
        if !plain || words.next().is_some() {
            return None;
        }
        Some(DeviceRule { kind, major: number(major)?, minor: number(minor)?, access: access.into() })
    };
    parsed().ok_or_else(|| Error::invalid(format!("invalid device cgroup rule format: '{rule}'")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_nodes_that_the_host_does_not_have_are_refused() {
        let check = |wanted: &str, there: &str| {
            let mut host = HostConfig { cpuset_mems: wanted.into(), ..HostConfig::default() };
            let mut facts = Facts { cpus: 2, memory_nodes: there.into(), ..Facts::default() };
            facts.cgroup.cpuset = true;
            validate(&mut host, &facts, false).map(drop)
        };
        for (wanted, there) in [("0", "0"), ("0-1", "0-1"), ("1,3", "0-1,3"), ("5", "")] {
            check(wanted, there).unwrap();
        }
        assert_eq!(
            check("0-3", "0-1").unwrap_err().message(),
            "Requested memory nodes are not available - requested 0-3, available: 0-1"
        );
        assert!(check("4294967295", "0").is_err() && check("1-0", "0-1").is_err());
    }
}
