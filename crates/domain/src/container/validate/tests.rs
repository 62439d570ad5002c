//! Laws of `validate_and_default` and `mount_points`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    container::{
        HealthConfig, Mount,
        config::Empty,
        host_config::{LogConfig, RestartPolicy, Ulimit},
        mount::{BindOptions, VolumeOptions},
    },
    ports::CgroupFacts,
};

fn facts() -> Facts {
    Facts {
        cpus: 2,
        cgroup_version: 1,
        ipv4_forwarding: true,
        cgroup: CgroupFacts {
            memory_limit: true,
            swap_limit: true,
            kernel_memory_tcp: true,
            cpu_cfs_period: true,
            cpu_cfs_quota: true,
            cpu_shares: true,
            cpu_realtime: false,
            cpuset: true,
            pids_limit: true,
            oom_kill_disable: true,
            blkio_weight: true,
            blkio_throttle: true,
        },
        ..Facts::default()
    }
}

fn list(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

fn run(config: &mut Config, host: &mut HostConfig) -> Result<Vec<String>> {
    validate_and_default(config, host, &Settings::default(), &facts(), ApiVersion(1, 51))
}

fn refused(change: impl FnOnce(&mut Config, &mut HostConfig)) -> String {
    let (mut config, mut host) = (Config::default(), HostConfig::default());
    change(&mut config, &mut host);
    let error = run(&mut config, &mut host).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::InvalidParameter);
    error.message().to_owned()
}

#[test]
fn defaults_are_written_back_as_inspect_shows_them() {
    let mut host = HostConfig { memory: 64 << 20, pids_limit: Some(0), ..HostConfig::default() };
    assert!(run(&mut Config::default(), &mut host).unwrap().is_empty());
    assert_eq!(host.network_mode, "bridge");
    assert_eq!(host.restart_policy.name, "no");
    assert_eq!(host.memory_swap, 128 << 20);
    assert_eq!((host.shm_size, host.ipc_mode.as_str()), (67_108_864, "private"));
    assert_eq!((host.cgroupns_mode.as_str(), host.runtime.as_str()), ("host", "runc"));
    assert_eq!((host.oom_kill_disable, host.pids_limit), (Some(false), None));
    assert_eq!(host.log_config.driver, "json-file");
    assert_eq!(host.log_config.config, Some(BTreeMap::new()));
    assert!(host.masked_paths.unwrap().contains(&"/proc/interrupts".to_owned()));
    assert_eq!(host.security_opt, None);
}

#[test]
fn privileged_has_no_hidden_paths_and_no_label() {
    let mut host = HostConfig { privileged: true, ..HostConfig::default() };
    run(&mut Config::default(), &mut host).unwrap();
    assert_eq!((host.masked_paths, host.readonly_paths), (None, None));
    assert_eq!(host.security_opt, list(&["label=disable"]));
}

#[test]
fn an_old_client_gets_what_it_expects() {
    let (mut config, mut host) = (Config::default(), HostConfig { auto_remove: true, ..HostConfig::default() });
    validate_and_default(&mut config, &mut host, &Settings::default(), &facts(), ApiVersion(1, 24)).unwrap();
    assert!(!host.auto_remove);
    assert_eq!(host.ipc_mode, "shareable");
}

#[test]
fn with_user_namespaces_what_needs_the_hosts_is_refused_until_they_are_off() {
    let maps = crate::id_maps::IdMaps::of_subordinate(&[(100_000, 65_536)], &[(100_000, 65_536)]).unwrap();
    let user_namespace = Some(crate::id_maps::UserNamespace { owner: "a:a".into(), maps });
    let settings = Settings { user_namespace, ..Settings::default() };
    let checked = |host: &HostConfig| {
        validate_and_default(&mut Config::default(), &mut host.clone(), &settings, &facts(), ApiVersion(1, 51))
    };
    let default = HostConfig::default;
    let asked = [
        (
            HostConfig { privileged: true, ..default() },
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace \
             when running privileged mode",
        ),
        (
            HostConfig { network_mode: "host".into(), ..default() },
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            HostConfig { pid_mode: "host".into(), ..default() },
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
    ];
    for (host, text) in asked {
        assert_eq!(checked(&host).unwrap_err().message(), text);
        checked(&HostConfig { userns_mode: "host".into(), ..host }).unwrap();
    }
    checked(&HostConfig::default()).unwrap();
}

#[test]
fn nonsense_is_refused_in_dockerds_words() {
    let mount = |kind: &str| Mount { kind: kind.into(), target: "/t".into(), source: "/s".into(), ..Mount::default() };
    let texts = [
        (refused(|_, h| h.memory = 1000), "Minimum memory limit allowed is 6MB"),
        (
            refused(|_, h| (h.memory, h.memory_swap) = (8 << 20, 7 << 20)),
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            refused(|_, h| h.nano_cpus = 3_000_000_000),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (
            refused(|_, h| h.cpuset_cpus = "0-8192".into()),
            "Requested CPUs are not available - requested 0-8192, available: 0-1",
        ),
        (
            refused(|_, h| h.cpuset_cpus = "0-2147483647".into()),
            "Invalid value 0-2147483647 for cpuset cpus: value of out range, maximum is 8192",
        ),
        (refused(|_, h| h.cpuset_cpus = "1-0".into()), "Invalid value 1-0 for cpuset cpus: invalid format: 1-0"),
        (refused(|_, h| h.runtime = "x".into()), "unknown or invalid runtime name: x"),
        (refused(|_, h| h.ipc_mode = "x".into()), "invalid IPC mode: x"),
        (refused(|_, h| h.pid_mode = "container:".into()), "invalid PID mode: container:"),
        (
            refused(|c, h| {
                c.hostname = "h".into();
                h.network_mode = "container:x".into();
            }),
            "conflicting options: hostname and the network mode",
        ),
        (
            refused(|c, h| {
                c.hostname = "h".into();
                h.uts_mode = "host".into();
            }),
            "conflicting options: hostname and the UTS mode",
        ),
        (
            refused(|_, h| {
                h.publish_all_ports = true;
                h.network_mode = "container:x".into();
            }),
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            refused(|_, h| {
                h.auto_remove = true;
                h.restart_policy = RestartPolicy { name: "always".into(), ..RestartPolicy::default() };
            }),
            "can't create 'AutoRemove' container with restart policy",
        ),
        (refused(|c, _| c.env = list(&["=foo"])), "invalid environment variable: =foo"),
        (refused(|c, _| c.stop_signal = "NOPE".into()), "invalid signal: NOPE"),
        (
            refused(|c, _| c.working_dir = "a/b".into()),
            "the working directory 'a/b' is invalid, it needs to be an absolute path",
        ),
        (
            refused(|c, _| c.healthcheck = Some(HealthConfig { interval: 5, ..HealthConfig::default() })),
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (refused(|_, h| h.cap_drop = list(&["FLY"])), "invalid CapDrop: unknown capability: \"CAP_FLY\""),
        (
            refused(|_, h| h.sysctls = BTreeMap::from([("kernel.core_pattern".into(), "|x".into())])),
            "sysctl \"kernel.core_pattern\" is not in a separate kernel namespace",
        ),
        (
            refused(|_, h| h.sysctls = BTreeMap::from([("net.a+kernel.b".into(), "1".into())])),
            "invalid sysctl: \"net.a+kernel.b\"",
        ),
        (
            refused(|_, h| {
                h.network_mode = "host".into();
                h.sysctls = BTreeMap::from([("net.core.somaxconn".into(), "1".into())]);
            }),
            "sysctl \"net.core.somaxconn\" not allowed in host network namespace",
        ),
        (
            refused(|_, h| h.log_config = LogConfig { driver: "x".into(), config: None }),
            "error looking up logging plugin x: plugin \"x\" not found",
        ),
        (
            refused(|_, h| {
                let config = Some(BTreeMap::from([("max-files".into(), "3".into())]));
                h.log_config = LogConfig { driver: "json-file".into(), config };
            }),
            "unknown log opt 'max-files' for json-file log driver",
        ),
        (
            refused(|_, h| h.ulimits = Some(vec![Ulimit { name: "x".into(), ..Ulimit::default() }])),
            "invalid ulimit type: x",
        ),
        (
            refused(|_, h| h.mounts = vec![Mount { volume_options: Some(VolumeOptions::default()), ..mount("bind") }]),
            "VolumeOptions must not be specified on mount type \"bind\"",
        ),
        (refused(|_, h| h.mounts = vec![mount("odd")]), "invalid mount config for type \"odd\": mount type unknown"),
        (
            refused(|_, h| h.mounts = vec![Mount { target: "/a/..".into(), ..mount("bind") }]),
            "invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
        ),
        (refused(|_, h| h.device_cgroup_rules = list(&["c 1:3"])), "invalid device cgroup rule format: 'c 1:3'"),
        (refused(|_, h| h.extra_hosts = list(&["nohost"])), "bad format for add-host: \"nohost\""),
        (refused(|_, h| h.links = list(&[":x"])), "invalid format for links: :x"),
    ];
    for (got, text) in texts {
        assert_eq!(got, text);
    }
}

#[test]
fn what_the_kernel_cannot_keep_is_discarded_with_a_warning() {
    let mut host = HostConfig { memory: 64 << 20, cpu_shares: 5, pids_limit: Some(9), ..HostConfig::default() };
    let bare = Facts { cpus: 2, ..Facts::default() };
    let warnings =
        validate_and_default(&mut Config::default(), &mut host, &Settings::default(), &bare, ApiVersion(1, 51))
            .unwrap();
    assert_eq!((host.memory, host.cpu_shares, host.pids_limit), (0, 0, None));
    for text in [
        "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
        "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
        "IPv4 forwarding is disabled. Networking will not work.",
    ] {
        assert!(warnings.iter().any(|warning| warning == text), "{text}");
    }
}

fn points(binds: &[&str]) -> Result<Vec<MountPoint>> {
    mount_points(&Config::default(), &HostConfig { binds: list(binds), ..HostConfig::default() })
}

use super::super::MountPoint;

#[test]
fn binds_in_each_of_their_forms() {
    let point = |bind: &str| points(&[bind]).unwrap().remove(0);
    let bind = point("/host/../h:/in//side:ro,rslave");
    assert_eq!((bind.kind.as_str(), bind.source.as_str(), bind.destination.as_str()), ("bind", "/h", "/in/side"));
    assert_eq!((bind.rw, bind.propagation.as_str(), bind.mode.as_str()), (false, "rslave", "ro,rslave"));
    assert_eq!(point("/a:/b").propagation, "rprivate");
    let volume = point("data:/d:nocopy");
    assert_eq!((volume.name.as_str(), volume.driver.as_str(), volume.mode.as_str()), ("data", "", "nocopy"));
    assert!(volume.no_copy && !volume.anonymous && volume.rw);
    assert_eq!(point("data:/d").mode, "z");
    let anonymous = point("/data");
    assert!(anonymous.anonymous && anonymous.name.is_empty() && anonymous.kind == "volume");
}

#[test]
fn bad_binds_in_dockerds_words() {
    for (bind, text) in [
        ("/foo:rw", "invalid volume specification: '/foo:rw'"),
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        (":/x", "invalid volume specification: ':/x'"),
        ("/a:/b:x", "invalid mode: x"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        (
            "/a:b",
            "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
        ),
        (
            "/a:/",
            "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
        ),
    ] {
        assert_eq!(points(&[bind]).unwrap_err().message(), text);
    }
    assert_eq!(points(&["/a:/x", "b:/x/"]).unwrap_err().message(), "Duplicate mount point: /x");
}

#[test]
fn a_volume_of_the_image_yields_to_a_mount_and_never_climbs() {
    let volumes = ["/data", "/../../etc", "rel"].map(|path| (path.to_owned(), Empty {}));
    let config = Config { volumes: Some(BTreeMap::from(volumes)), ..Config::default() };
    let host = HostConfig { binds: list(&["/h:/data"]), ..HostConfig::default() };
    let points = mount_points(&config, &host).unwrap();
    let places: Vec<_> = points.iter().map(|p| (p.kind.as_str(), p.destination.as_str())).collect();
    assert_eq!(places, [("bind", "/data"), ("volume", "/etc"), ("volume", "/rel")]);
    let config = Config { volumes: Some(BTreeMap::from([("/..".to_owned(), Empty {})])), ..Config::default() };
    assert!(mount_points(&config, &HostConfig::default()).is_err());
}

#[test]
fn mounts_keep_their_request_and_tmpfs_maps_make_none() {
    let mount = Mount {
        kind: "bind".into(),
        source: "/s".into(),
        target: "/t".into(),
        read_only: true,
        bind_options: Some(BindOptions { propagation: "shared".into(), ..BindOptions::default() }),
        ..Mount::default()
    };
    let host = HostConfig {
        mounts: vec![mount.clone()],
        tmpfs: BTreeMap::from([("/tmp".into(), "size=1m".into())]),
        ..HostConfig::default()
    };
    let points = mount_points(&Config::default(), &host).unwrap();
    assert_eq!(points.len(), 1);
    assert_eq!((points[0].spec.as_ref(), points[0].propagation.as_str()), (Some(&mount), "shared"));
}

#[test]
fn own_mounts_win_over_inherited_ones_but_image_volumes_do_not() {
    let inherited = points(&["a:/a", "b:/b"]).unwrap();
    let volumes = BTreeMap::from([("/b".to_owned(), Empty {})]);
    let config = Config { volumes: Some(volumes), ..Config::default() };
    let host = HostConfig { binds: list(&["mine:/a"]), ..HostConfig::default() };
    let merged = mounts::inherit(mount_points(&config, &host).unwrap(), inherited);
    assert_eq!(merged.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["mine", "b"]);
    assert_eq!(mounts::parse_volumes_from("web:ro").unwrap(), ("web", false));
    assert!(mounts::parse_volumes_from("web:shared").is_err());
}

#[test]
fn versions_read_and_print() {
    assert_eq!("1.44".parse::<ApiVersion>().unwrap(), ApiVersion(1, 44));
    assert_eq!(ApiVersion(1, 51).to_string(), "1.51");
    assert!(ApiVersion(1, 9) < ApiVersion(1, 24));
    for bad in ["", "1", "1.", "1.4.4", "v1.44", "+1.44", "1.-4"] {
        assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_bind_panics_and_destinations_are_clean(bind in "[a-z/.:,]{0,24}") {
        if let Ok(points) = points(&[&bind]) {
            let place = &points[0].destination;
            prop_assert!(place.starts_with('/') && place.len() > 1 && !place.contains("//"));
            prop_assert!(!place.split('/').any(|part| part == ".." || part == "."));
        }
    }

    #[test]
    fn a_cpuset_is_judged_without_being_expanded(text in "[0-9,-]{0,30}") {
        let mut host = HostConfig { cpuset_cpus: text, ..HostConfig::default() };
        let _ = resources::validate(&mut host, &facts(), false);
    }
}
