//! `POST /containers/{id}/update`: what is set replaces, what is not set stays.

use super::{HostConfig, host_config::RestartPolicy, restart};
use crate::{Error, Result};

/// The host config with the set fields of `wanted` in place. `InvalidParameter` or `Conflict` in dockerd's words.
pub fn apply(current: &HostConfig, wanted: &HostConfig) -> Result<HostConfig> {
    let mut next = current.clone();
    conflicts(current, wanted)?;
    numbers(&mut next, wanted);
    for (place, value) in [(&mut next.cpuset_cpus, &wanted.cpuset_cpus), (&mut next.cpuset_mems, &wanted.cpuset_mems)] {
        if !value.is_empty() {
            place.clone_from(value);
        }
    }
    if wanted.blkio_weight != 0 {
        next.blkio_weight = wanted.blkio_weight;
    }
    if let Some(limit) = wanted.pids_limit {
        // Unlimited is said, or the running task would keep the limit that it has.
        next.pids_limit = Some(limit.max(0));
    }
    policy(&mut next, &wanted.restart_policy)?;
    Ok(next)
}

fn conflicts(current: &HostConfig, wanted: &HostConfig) -> Result<()> {
    let refuse = |text: &str| Err(Error::conflict(text));
    if current.nano_cpus > 0 && (wanted.cpu_period > 0 || wanted.cpu_quota > 0) {
        let field = if wanted.cpu_period > 0 { "Period" } else { "Quota" };
        return refuse(&format!("Conflicting options: CPU {field} cannot be updated as NanoCPUs has already been set"));
    }
    if wanted.nano_cpus > 0 && (current.cpu_period > 0 || current.cpu_quota > 0) {
        let field = if current.cpu_period > 0 { "Period" } else { "Quota" };
        return refuse(&format!(
            "Conflicting options: Nano CPUs cannot be updated as CPU {field} has already been set"
        ));
    }
    // Also where there is no limit of swap yet (0), or none at all (-1).
    if wanted.memory > current.memory_swap && wanted.memory != 0 && wanted.memory_swap == 0 {
        return refuse(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    Ok(())
}

fn numbers(next: &mut HostConfig, wanted: &HostConfig) {
    let pairs = [
        (&mut next.memory, wanted.memory),
        (&mut next.memory_swap, wanted.memory_swap),
        (&mut next.memory_reservation, wanted.memory_reservation),
        (&mut next.nano_cpus, wanted.nano_cpus),
        (&mut next.cpu_shares, wanted.cpu_shares),
        (&mut next.cpu_period, wanted.cpu_period),
        (&mut next.cpu_quota, wanted.cpu_quota),
        (&mut next.cpu_realtime_period, wanted.cpu_realtime_period),
        (&mut next.cpu_realtime_runtime, wanted.cpu_realtime_runtime),
    ];
    for (place, value) in pairs {
        if value != 0 {
            *place = value;
        }
    }
}

fn policy(next: &mut HostConfig, wanted: &RestartPolicy) -> Result<()> {
    if wanted.name.is_empty() {
        return Ok(());
    }
    if next.auto_remove && wanted.name != "no" {
        return Err(Error::conflict(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    restart::validate(wanted)?;
    next.restart_policy = wanted.clone();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_stays() {
        let current =
            HostConfig { memory: 10, memory_swap: 40, cpu_shares: 5, pids_limit: Some(7), ..HostConfig::default() };
        let next = apply(&current, &HostConfig { memory: 20, ..HostConfig::default() }).expect("allowed");
        assert_eq!((next.memory, next.cpu_shares, next.pids_limit), (20, 5, Some(7)));
    }

    #[test]
    fn an_auto_removed_container_gets_no_restart_policy() {
        let current = HostConfig { auto_remove: true, ..HostConfig::default() };
        let always = RestartPolicy { name: "always".into(), maximum_retry_count: 0 };
        let error =
            apply(&current, &HostConfig { restart_policy: always, ..HostConfig::default() }).expect_err("refused");
        assert!(error.message().starts_with("Restart policy cannot be updated because AutoRemove"));
    }

    #[test]
    fn memory_over_the_limit_of_swap_that_stays_is_a_conflict() {
        for stored in [20, 0, -1] {
            let current = HostConfig { memory: 10, memory_swap: stored, ..HostConfig::default() };
            let error = apply(&current, &HostConfig { memory: 30, ..HostConfig::default() }).expect_err("refused");
            assert!(error.is_conflict() && error.message().starts_with("Memory limit should be smaller"), "{error}");
            let both = HostConfig { memory: 30, memory_swap: -1, ..HostConfig::default() };
            assert_eq!(apply(&current, &both).expect("said at the same time").memory_swap, -1);
        }
    }

    #[test]
    fn two_ways_to_limit_the_cpu_conflict() {
        let nano = HostConfig { nano_cpus: 1, ..HostConfig::default() };
        let period = HostConfig { cpu_period: 1, ..HostConfig::default() };
        let quota = HostConfig { cpu_quota: 1, ..HostConfig::default() };
        for (current, wanted, text) in [
            (&nano, &period, "CPU Period cannot be updated as NanoCPUs has already been set"),
            (&nano, &quota, "CPU Quota cannot be updated as NanoCPUs has already been set"),
            (&period, &nano, "Nano CPUs cannot be updated as CPU Period has already been set"),
            (&quota, &nano, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        ] {
            let error = apply(current, wanted).expect_err("refused");
            assert!(error.is_conflict());
            assert_eq!(error.message(), format!("Conflicting options: {text}"));
        }
    }
}
