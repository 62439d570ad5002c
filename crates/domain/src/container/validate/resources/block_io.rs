//! Weights and limits of block devices.

use super::{super::super::HostConfig, refuse};
use crate::{Result, ports::Facts};

pub(super) fn check(host: &mut HostConfig, facts: &Facts, warnings: &mut Vec<String>) -> Result<()> {
    if host.blkio_weight > 0 && !facts.cgroup.blkio_weight {
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.".into(),
        );
        host.blkio_weight = 0;
    }
    if host.blkio_weight > 0 && !(10..=1000).contains(&host.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    if host.io_maximum_bandwidth != 0 || host.io_maximum_iops != 0 {
        return refuse("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps");
    }
    if host.blkio_weight_device.as_ref().is_some_and(|list| !list.is_empty()) && !facts.cgroup.blkio_weight {
        warnings.push(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
                .into(),
        );
        host.blkio_weight_device = None;
    }
    throttles(host, facts, warnings);
    Ok(())
}

fn throttles(host: &mut HostConfig, facts: &Facts, warnings: &mut Vec<String>) {
    if facts.cgroup.blkio_throttle {
        return;
    }
    let limits = [
        (&mut host.blkio_device_read_bps, "BPS Block I/O read", "BPS read"),
        (&mut host.blkio_device_write_bps, "BPS Block I/O write", "BPS write"),
        // Docker's words: without "I/O".
        (&mut host.blkio_device_read_iops, "IOPS Block read", "IOPS read"),
        (&mut host.blkio_device_write_iops, "IOPS Block I/O write", "IOPS write"),
    ];
    for (limit, what, short) in limits {
        if limit.take().is_some_and(|list| !list.is_empty()) {
            warnings.push(format!(
                "Your kernel does not support {what} limit or the cgroup is not mounted. Block I/O {short} limit discarded."
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::super::super::host_config::ThrottleDevice, *};

    #[test]
    fn each_limit_of_block_devices_that_the_kernel_cannot_keep_is_said_and_taken_away() {
        let list = || Some(vec![ThrottleDevice { path: "/dev/sda".into(), rate: 1 }]);
        let mut host = HostConfig {
            blkio_device_read_bps: list(),
            blkio_device_write_bps: list(),
            blkio_device_read_iops: list(),
            blkio_device_write_iops: list(),
            ..HostConfig::default()
        };
        let mut warnings = Vec::new();
        check(&mut host, &Facts::default(), &mut warnings).unwrap();
        assert_eq!(
            warnings,
            [
                "BPS Block I/O read limit",
                "BPS Block I/O write limit",
                "IOPS Block read limit",
                "IOPS Block I/O write limit"
            ]
            .iter()
            .zip(["BPS read", "BPS write", "IOPS read", "IOPS write"])
            .map(|(what, short)| format!(
                "Your kernel does not support {what} or the cgroup is not mounted. Block I/O {short} limit discarded."
            ))
            .collect::<Vec<_>>()
        );
        assert_eq!(host, HostConfig::default());
    }
}
