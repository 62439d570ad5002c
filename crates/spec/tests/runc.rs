//! Generated specs under the real runc: run as root where runc and a static busybox are installed.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use gantry_domain::{
    ContainerId,
    container::{
        Config, ContainerRecord, HostConfig,
        user::User,
        validate::{ApiVersion, validate_and_default},
    },
    id_maps::IdMaps,
    ports::{CgroupFacts, Facts},
    settings::Settings,
};
use gantry_spec::{HostFiles, Namespace, SpecInput};

const BUSYBOX: &str = "/bin/busybox";

/// What is missing for these tests, if anything.
fn lacking() -> Option<&'static str> {
    let uid = fs::read_to_string("/proc/self/status").unwrap();
    if !uid.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        return Some("root");
    }
    if !Path::new(BUSYBOX).exists() {
        return Some("a static busybox");
    }
    Command::new("runc").arg("--version").output().is_err().then_some("runc")
}

fn make_root(root: &Path) {
    for folder in ["bin", "proc", "sys", "dev", "etc", "tmp", "sbin"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    for name in ["sh", "cat", "id", "grep", "unshare", "hostname", "ls", "mount", "env", "touch", "chroot", "true"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
}

fn bounding_set() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap()
}

/// Runs a script in a container made with these options; exit code and output.
fn run(script: &str, uid: u32, change: impl FnOnce(&mut HostConfig)) -> (Option<i32>, String) {
    run_mapped(script, uid, &IdMaps::default(), change)
}

fn run_mapped(script: &str, uid: u32, maps: &IdMaps, change: impl FnOnce(&mut HostConfig)) -> (Option<i32>, String) {
    let bundle = tempfile::tempdir().unwrap();
    make_root(&bundle.path().join("rootfs"));
    if !maps.is_identity() {
        // As gantryd and containerd leave the way to a root file system, and its files.
        fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let (uid, gid) = maps.root();
        Command::new("chown").args(["-hR", &format!("{uid}:{gid}")]).arg(bundle.path()).status().unwrap();
    }
    let mut record = ContainerRecord {
        id: ContainerId::random(),
        config: Config { hostname: "inside".into(), ..Config::default() },
        path: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        ..ContainerRecord::default()
    };
    let cgroup = CgroupFacts { memory_limit: true, pids_limit: true, cpu_shares: true, ..CgroupFacts::default() };
    let kernel_version = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned();
    let cpus = std::thread::available_parallelism().unwrap().get() as u32;
    let capabilities = bounding_set();
    let facts = Facts { capabilities, cpus, cgroup_version: 1, kernel_version, cgroup, ..Facts::default() };
    let settings = Settings::default();
    change(&mut record.host_config);
    validate_and_default(&mut record.config, &mut record.host_config, &settings, &facts, ApiVersion(1, 51)).unwrap();
    let spec = gantry_spec::runtime_spec(&SpecInput {
        record: &record,
        settings: &settings,
        facts: &facts,
        user: &User { uid, gid: uid, additional_gids: vec![uid], home: "/".into() },
        network: &Namespace::New,
        ipc: &Namespace::New,
        pid: &Namespace::New,
        user_namespace: &if maps.is_identity() { Namespace::Host } else { Namespace::New },
        id_maps: maps,
        mounts: &[],
        files: &HostFiles::default(),
        devices: &[],
        edits: &[],
        block_devices: &BTreeMap::new(),
        init_path: None,
        seccomp_profile: None,
        env_extra: &[],
    })
    .unwrap();
    fs::write(bundle.path().join("config.json"), spec).unwrap();
    let state = tempfile::tempdir().unwrap();
    let output = Command::new("runc")
        .arg("--root")
        .arg(state.path())
        .arg("run")
        .arg("--bundle")
        .arg(bundle.path())
        .arg(record.id.as_str())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

macro_rules! need {
    () => {
        if let Some(what) = lacking() {
            eprintln!("skipped: needs {what}");
            return;
        }
    };
}

#[test]
fn a_plain_container_is_confined() {
    need!();
    let script = r#"
        set -e
        hostname
        grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|Seccomp|NoNewPrivs):' /proc/self/status
        [ -z "$(cat /proc/interrupts)" ] && echo hidden
        touch /sys/x 2>/dev/null || echo sys-ro
        unshare -m true 2>/dev/null || echo no-unshare
        mount -t tmpfs x /tmp 2>/dev/null || echo no-mount
        chroot / true && echo chroot
        [ $$ = 1 ] && echo pid1
        env
    "#;
    let (code, text) = run(script, 0, |_| {});
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "inside",
        "sys-ro",
        "hidden",
        "no-unshare",
        "no-mount",
        "chroot",
        "pid1",
        "HOSTNAME=inside",
        "HOME=/",
        "CapInh:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "CapBnd:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "Seccomp:\t2",
        "NoNewPrivs:\t0",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_user_other_than_root_has_no_capability_in_force() {
    need!();
    let (code, text) = run("id -u; grep CapEff /proc/self/status", 1000, |host| host.pids_limit = Some(50));
    assert_eq!((code, text.as_str()), (Some(0), "1000\nCapEff:\t0000000000000000\n"));
}

#[test]
fn root_of_a_remapped_container_is_nobody_on_the_host() {
    need!();
    let maps = IdMaps::of_subordinate(&[(100_000, 1000), (300_000, 5000)], &[(200_000, 65_536)]).unwrap();
    let script = r#"
        set -e
        echo $(cat /proc/self/uid_map) / $(cat /proc/self/gid_map)
        id -u
        touch /tmp/x && echo touched
        cat /proc/sys/net/ipv4/ip_unprivileged_port_start
        mkdir /sys/fs/cgroup/memory/x 2>/dev/null || echo no-group
        echo 1 2>/dev/null > /proc/sys/kernel/panic || echo no-sysctl
        touch /sys/x 2>/dev/null || echo sys-ro
        mount -t tmpfs x /tmp 2>/dev/null || echo no-mount
        grep CapBnd /proc/self/status
    "#;
    let (code, text) = run_mapped(script, 0, &maps, |_| {});
    let expected = "0 100000 1000 1000 300000 5000 / 0 200000 65536\n0\ntouched\n0\nno-group\nno-sysctl\nsys-ro\n\
                    no-mount\nCapBnd:\t00000000a80425fb\n";
    assert_eq!((code, text.as_str()), (Some(0), expected));
}

#[test]
fn a_privileged_container_may_mount() {
    need!();
    let script = "mount -t tmpfs x /tmp && grep Seccomp: /proc/self/status";
    let (code, text) = run(script, 0, |host| host.privileged = true);
    assert_eq!((code, text.as_str()), (Some(0), "Seccomp:\t0\n"));
}

#[test]
fn a_read_only_root_with_a_tmpfs_and_limits() {
    need!();
    let script = "touch /x 2>/dev/null || echo ro; touch /tmp/y && echo tmp; exit 7";
    let (code, text) = run(script, 0, |host| {
        host.readonly_rootfs = true;
        host.tmpfs = BTreeMap::from([("/tmp".into(), "size=64k".into())]);
        host.memory = 64 << 20;
        host.security_opt = Some(vec!["no-new-privileges".into()]);
    });
    assert_eq!((code, text.as_str()), (Some(7), "ro\ntmp\n"));
}
