//! The kernel's word on a process that it killed for want of memory, for when the cgroup that counted it is gone: systemd
//! takes a scope away as soon as its last process has ended. Format: the kernel's `Documentation/ABI/testing/dev-kmsg`.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    time::Duration,
};

use gantry_domain::ContainerId;
use rustix::{
    fs::OFlags,
    io::Errno,
    time::{ClockId, clock_gettime},
};

/// The kernel never hands out a longer record.
const RECORD: usize = 8 << 10;
/// Two clocks are compared.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Whether the kernel log tells of such a kill in a cgroup of this container, not longer ago than `age`. False where the
/// log cannot be read.
pub fn tells_of_oom_kill(id: &ContainerId, age: Duration) -> bool {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg");
    let uptime = clock_gettime(ClockId::Monotonic);
    let since = Duration::new(uptime.tv_sec.unsigned_abs(), 0).saturating_sub(age + TOLERANCE);
    opened.is_ok_and(|log| any_record(log, |record| is_oom_kill(record, id, since)))
}

/// Every read gives one record.
fn any_record(mut log: File, wanted: impl Fn(&str) -> bool) -> bool {
    let mut record = vec![0; RECORD];
    loop {
        match log.read(&mut record) {
            Ok(0) => return false,
            Ok(length) if wanted(&String::from_utf8_lossy(&record[..length])) => return true,
            Ok(_) => {}
            // Records were overwritten before they were read: the next read goes on after them.
            Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// A record, `6,1174,95021830,-;oom-kill:constraint=…,task_memcg=/system.slice/gantry-<id>.scope,task=sh,…`: its third
/// field counts microseconds from the start of the machine.
fn is_oom_kill(record: &str, id: &ContainerId, since: Duration) -> bool {
    let Some((head, text)) = record.split_once(';') else { return false };
    let Some(details) = text.strip_prefix("oom-kill:") else { return false };
    let at = head.split(',').nth(2).and_then(|field| field.parse().ok()).map(Duration::from_micros);
    let cgroup = details.split(',').find_map(|field| field.strip_prefix("task_memcg="));
    at.is_some_and(|at| at >= since) && cgroup.is_some_and(|cgroup| cgroup.contains(id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_told_by_the_cgroup_of_the_task_and_its_time() {
        let (id, other) = (ContainerId::random(), ContainerId::random());
        let record = format!(
            "6,1174,95021830,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/a,\
             task_memcg=/system.slice/gantry-{id}.scope,task=sh,pid=640,uid=0\n"
        );
        assert!(is_oom_kill(&record, &id, Duration::from_secs(95)));
        assert!(!is_oom_kill(&record, &id, Duration::from_secs(96)), "of the run before");
        assert!(!is_oom_kill(&record, &other, Duration::ZERO));
        assert!(!is_oom_kill(&format!("6,1,2,-;a program says oom-kill: task_memcg=/{id}"), &id, Duration::ZERO));
        assert!(!is_oom_kill("nonsense", &id, Duration::ZERO));
    }
}
