//! The spec of one container for each class of options, and the laws that every spec keeps.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use gantry_domain::{
    container::{
        HostConfig, Mount, MountPoint,
        host_config::{ThrottleDevice, Ulimit},
        mount::{BindOptions, TmpfsOptions},
        security::{masked_paths, readonly_paths},
    },
    exec::ExecConfig,
    id_maps::IdMaps,
};
use gantry_spec::{Device, Namespace};
use serde_json::{Value, json};

#[path = "golden/case.rs"]
mod case;

use case::{Case, device, list, without_seccomp};

#[test]
fn a_plain_container() {
    let spec = Case::new().spec();
    insta::assert_json_snapshot!("plain_seccomp", spec["linux"]["seccomp"]);
    insta::assert_json_snapshot!("plain", without_seccomp(spec));
}

#[test]
fn a_remapped_container() {
    let mut case = Case::new().host(|host| {
        host.sysctls = BTreeMap::from([
            ("net.ipv4.conf.eth0.rp_filter".into(), "2".into()),
            ("kernel.shmmax".into(), "4096".into()),
        ]);
    });
    case.user_namespace = Namespace::New;
    case.network = Namespace::New;
    let (uids, gids) = ([(100_000, 1000), (300_000, 64_536)], [(200_000, 65_536)]);
    case.id_maps = IdMaps::of_subordinate(&uids, &gids).unwrap();
    let moved = Device { node: device(), path_in_container: "/dev/mine".into(), access: "r".into() };
    case.devices = vec![Device { path_in_container: "/dev/fuse".into(), ..moved.clone() }, moved];
    let edit = json!({ "deviceNodes": [{ "path": "/dev/other", "hostPath": "/dev/card", "type": "c" }] });
    case.edits = vec![serde_json::from_value(edit).unwrap()];
    insta::assert_json_snapshot!("remapped", without_seccomp(case.spec()));
}

#[test]
fn a_remapped_container_in_anothers_network_shares_its_user_namespace() {
    let mut case = Case::new().host(|host| host.network_mode = "container:other".into());
    case.record.config.hostname.clear();
    case.user_namespace = Namespace::Join("/proc/7/ns/user".into());
    case.network = Namespace::Join("/proc/7/ns/net".into());
    case.id_maps = IdMaps::of_subordinate(&[(100_000, 65_536)], &[(100_000, 65_536)]).unwrap();
    let linux = case.spec()["linux"].clone();
    let user = json!({ "type": "user", "path": "/proc/7/ns/user" });
    assert!(linux["namespaces"].as_array().unwrap().contains(&user) && linux["uidMappings"][0]["hostID"] == 100_000);
}

#[test]
fn a_terminal_with_an_init() {
    let mut case = Case::new().host(|host| host.console_size = [24, 80]);
    case.record.config.tty = true;
    case.record.config.working_dir = "/srv".into();
    case.init_path = Some("/usr/libexec/gantry-init".into());
    let spec = case.spec();
    insta::assert_json_snapshot!("terminal", json!([spec["process"], spec["mounts"].as_array().unwrap().last()]));
}

#[test]
fn a_privileged_container() {
    let mut case = Case::new().host(|host| host.privileged = true);
    case.devices = vec![Device { node: device(), path_in_container: "/dev/fuse".into(), access: "rwm".into() }];
    let spec = case.spec();
    assert!(spec["linux"].get("seccomp").is_none());
    assert!(spec["linux"].get("maskedPaths").is_none() && spec["linux"].get("readonlyPaths").is_none());
    insta::assert_json_snapshot!("privileged", spec);
}

#[test]
fn mounts_of_every_kind() {
    let mut case = Case::new().host(|host| {
        host.readonly_rootfs = true;
        host.tmpfs = BTreeMap::from([("/tmp".into(), "size=1m,exec".into()), ("/run".into(), String::new())]);
    });
    let point = |kind: &str, source: &str, destination: &str| MountPoint {
        kind: kind.into(),
        source: source.into(),
        destination: destination.into(),
        rw: true,
        ..MountPoint::default()
    };
    let spec = |options| Some(Mount { bind_options: Some(options), ..Mount::default() });
    let tmpfs = TmpfsOptions { size_bytes: 4096, mode: 0o1770, options: Some(vec![vec!["uid".into(), "7".into()]]) };
    case.mounts = vec![
        MountPoint { propagation: "rshared".into(), ..point("bind", "/h/deep", "/a/b/c") },
        MountPoint { rw: false, propagation: "rprivate".into(), ..point("bind", "/h/ro", "/ro") },
        MountPoint {
            rw: false,
            spec: spec(BindOptions { read_only_non_recursive: true, ..BindOptions::default() }),
            ..point("bind", "/h/ro1", "/ro1")
        },
        MountPoint {
            spec: spec(BindOptions { non_recursive: true, ..BindOptions::default() }),
            ..point("bind", "/h/nr", "/nr")
        },
        point("volume", "/v/data/_data", "/data"),
        point("bind", "/h/hosts", "/etc/hosts"),
        point("volume", "/v/hidden/_data", "/tmp"),
        MountPoint {
            spec: Some(Mount { tmpfs_options: Some(tmpfs), ..Mount::default() }),
            ..point("tmpfs", "", "/scratch")
        },
    ];
    let spec = case.spec();
    insta::assert_json_snapshot!("mounts", json!([spec["root"], spec["mounts"], spec["linux"]["rootfsPropagation"]]));
}

/// A profile with what depends on capabilities, machine and kernel.
const PROFILE: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
    "flags": ["SECCOMP_FILTER_FLAG_LOG"],
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {"name": "exit", "action": "SCMP_ACT_ALLOW"},
        {"names": ["clock_settime"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_TIME"]}},
        {"names": ["chown"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_CHOWN"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["future"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]},
         "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["s390_only"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}}
    ]
}"#;

#[test]
fn security_options() {
    let asked = |options: &[&str]| {
        Case::new().host(|host| {
            host.cap_add = list(&["SYS_TIME", "cap_net_admin"]);
            host.cap_drop = list(&["CHOWN", "MKNOD"]);
            host.security_opt = list(options);
        })
    };
    let inline = format!("seccomp={PROFILE}");
    let mut case = asked(&[&inline, "no-new-privileges:true", "apparmor=mine"]);
    case.facts.apparmor = true;
    let spec = case.spec();
    let process = &spec["process"];
    let machine = std::env::consts::ARCH;
    let mut filter = spec["linux"]["seccomp"].clone();
    // The machine that runs the test is not part of the golden.
    let architectures = filter.as_object_mut().unwrap().remove("architectures").unwrap();
    let wanted = if machine == "x86_64" {
        ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    } else {
        ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    };
    assert_eq!(architectures, json!(wanted));
    insta::assert_json_snapshot!(
        "security",
        json!([process["capabilities"], process["noNewPrivileges"], process["apparmorProfile"], filter])
    );
    // The same profile as the engine's own, from a file; what is asked of a container wins.
    let mut by_file = asked(&[]);
    by_file.settings.seccomp_profile = "/etc/profile.json".into();
    by_file.seccomp_profile = Some(PROFILE.into());
    assert_eq!(by_file.spec()["linux"]["seccomp"], spec["linux"]["seccomp"]);
    let mut unconfined = asked(&["seccomp=unconfined"]);
    unconfined.settings.seccomp_profile = "/etc/profile.json".into();
    unconfined.seccomp_profile = Some(PROFILE.into());
    assert!(unconfined.spec()["linux"].get("seccomp").is_none());
    let mut builtin = asked(&["seccomp=builtin"]);
    builtin.settings.seccomp_profile = "unconfined".into();
    assert!(builtin.spec()["linux"]["seccomp"]["syscalls"].as_array().unwrap().len() > 5);
    for no_profile in ["[]", "{", "[{}]", "7", "\"x\"", r#"{"syscalls": 7}"#] {
        let options = [format!("seccomp={no_profile}")];
        let case = asked(&[&options[0]]);
        let error = gantry_spec::runtime_spec(&case.input()).unwrap_err();
        assert!(error.message().starts_with("Decoding seccomp profile failed: "), "{no_profile}: {error}");
    }
}

#[test]
fn namespaces_settings_and_annotations() {
    let mut case = Case::new().host(|host| {
        host.uts_mode = String::new();
        host.cgroupns_mode = "private".into();
        host.ipc_mode = "shareable".into();
        host.shm_size = 1 << 20;
        host.sysctls = BTreeMap::from([
            ("net.ipv4.ip_unprivileged_port_start".into(), "90".into()),
            ("kernel.msgmax".into(), "65536".into()),
        ]);
        host.annotations = BTreeMap::from([("b".into(), "2".into()), ("a".into(), String::new())]);
    });
    case.pid = Namespace::Join("/proc/7/ns/pid".into());
    let spec = case.spec();
    let shm = spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == "/dev/shm").unwrap();
    let linux = &spec["linux"];
    insta::assert_json_snapshot!(
        "namespaces",
        json!([linux["namespaces"], linux["sysctl"], spec["annotations"], spec["hostname"], shm])
    );
}

#[test]
fn an_image_that_is_mounted() {
    let mut case = Case::new();
    case.mounts = vec![MountPoint {
        kind: "image".into(),
        name: "tools:1".into(),
        source: "/run/gantry/parts/x/0".into(),
        destination: "/tools".into(),
        ..MountPoint::default()
    }];
    let spec = case.spec();
    let mount = spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == "/tools").unwrap();
    insta::assert_json_snapshot!("image_mount", mount);
}

#[test]
fn limits_and_devices() {
    let mut case = Case::new().host(|host| {
        host.memory = 64 << 20;
        host.memory_reservation = 32 << 20;
        host.nano_cpus = 1_500_000_000;
        host.cpu_shares = 512;
        host.cpuset_cpus = "0-1".into();
        host.pids_limit = Some(100);
        host.blkio_weight = 300;
        host.blkio_device_read_bps = Some(vec![ThrottleDevice { path: "/dev/sda".into(), rate: 1024 }]);
        host.oom_kill_disable = Some(true);
        host.oom_score_adj = -5;
        host.ulimits = Some(vec![Ulimit { name: "nofile".into(), soft: 10, hard: 20 }]);
        host.device_cgroup_rules = list(&["c 42:* rmw"]);
        host.cgroup_parent = "/mine".into();
    });
    let core = Ulimit { name: "core".into(), soft: -1, hard: -1 };
    case.settings.default_ulimits =
        BTreeMap::from([("core".into(), core), ("nofile".into(), Ulimit { name: "nofile".into(), soft: 1, hard: 1 })]);
    case.block_devices = BTreeMap::from([("/dev/sda".into(), (8, 0))]);
    case.devices = vec![Device { node: device(), path_in_container: "/dev/f".into(), access: "rw".into() }];
    let spec = case.spec();
    let (linux, process) = (&spec["linux"], &spec["process"]);
    insta::assert_json_snapshot!(
        "limits",
        json!([linux["resources"], linux["devices"], linux["cgroupsPath"], process["rlimits"], process["oomScoreAdj"]])
    );
}

#[test]
fn namespaces_of_the_host_and_of_others() {
    let mut case = Case::new().host(|host| {
        host.network_mode = "host".into();
        host.pid_mode = "host".into();
        host.uts_mode = "host".into();
        host.ipc_mode = "container:x".into();
        host.cgroupns_mode = "host".into();
    });
    case.record.config.hostname.clear();
    (case.network, case.pid) = (Namespace::Host, Namespace::Host);
    case.ipc = Namespace::Join("/proc/7/ns/ipc".into());
    case.files.shm = Some("/c/other/shm".into());
    let spec = case.spec();
    assert!(spec.get("hostname").is_none());
    assert_eq!(spec["linux"]["namespaces"], json!([{"type": "mount"}, {"type": "ipc", "path": "/proc/7/ns/ipc"}]));
    assert_eq!(spec["linux"]["sysctl"], json!({}), "the host's settings are not touched");
    let shm = spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == "/dev/shm").unwrap();
    assert_eq!(shm["source"], "/c/other/shm");
}

#[test]
fn an_exec() {
    let mut case = Case::new();
    case.record.config.working_dir = "/srv".into();
    let exec = ExecConfig {
        cmd: list(&["ls", "-l"]),
        env: list(&["A=2", "B=3", "PATH"]),
        tty: true,
        console_size: Some([30, 90]),
        ..ExecConfig::default()
    };
    insta::assert_json_snapshot!("exec", case.exec(&exec));
    let privileged = case.exec(&ExecConfig { privileged: true, ..exec });
    assert_eq!(privileged["capabilities"]["effective"].as_array().unwrap().len(), 41);
}

#[test]
fn an_update_has_only_what_is_set() {
    let host = HostConfig { memory: 8 << 20, memory_swap: -1, pids_limit: Some(-1), ..HostConfig::default() };
    let bytes = gantry_spec::resources(&host, &BTreeMap::new()).unwrap();
    let expected = json!({ "memory": { "limit": 8 << 20, "swap": -1 }, "pids": { "limit": -1 } });
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
}

#[test]
fn t12_nothing_of_the_image_becomes_an_annotation() {
    let mut case = Case::new();
    let hostile = ["run.oci.hooks", "org.systemd.property.X", "io.podman.annotations.privileged", "gantry"];
    case.record.config.labels = Some(hostile.map(|key| (key.to_owned(), "evil-value".to_owned())).into());
    case.record.image.config = r#"{"config":{"Labels":{"run.oci.x":"evil-value"}}}"#.into();
    let spec = case.spec();
    assert!(spec.get("annotations").is_none());
    assert!(!spec.to_string().contains("evil-value"));
    let asked = Case::new().host(|host| host.annotations = BTreeMap::from([("a".into(), "b".into())])).spec();
    assert_eq!(asked["annotations"], json!({ "a": "b" }));
}

#[test]
fn t13_t22_a_mount_lies_at_a_clean_absolute_place() {
    for (destination, place) in
        [("/a/../../etc", Some("/etc")), ("/", None), ("a", None), ("/..", None), ("/a\0b", None)]
    {
        let mut case = Case::new();
        case.mounts = vec![MountPoint {
            kind: "bind".into(),
            source: "/h".into(),
            destination: destination.into(),
            ..MountPoint::default()
        }];
        let spec = gantry_spec::runtime_spec(&case.input());
        match place {
            Some(place) => {
                assert!(String::from_utf8_lossy(&spec.unwrap()).contains(&format!("\"destination\":\"{place}\"")))
            }
            None => assert!(spec.is_err(), "{destination:?}"),
        }
    }
}

#[test]
fn t23_inheritable_and_ambient_capabilities_are_empty() {
    for (privileged, uid) in [(false, 0), (true, 0), (false, 1000), (true, 1000)] {
        let mut case = Case::new().host(|host| host.privileged = privileged);
        case.user.uid = uid;
        let exec = case.exec(&ExecConfig { cmd: list(&["id"]), privileged, ..ExecConfig::default() });
        let spec = case.spec();
        for process in [&spec["process"], &exec] {
            let caps = process["capabilities"].as_object().unwrap();
            assert!(!caps.contains_key("inheritable") && !caps.contains_key("ambient"));
            assert_eq!(caps["bounding"].as_array().unwrap().len(), if privileged { 41 } else { 14 });
            assert_eq!(caps.contains_key("effective"), uid == 0);
        }
    }
}

#[test]
fn t24_the_primary_group_is_an_additional_group() {
    let spec = Case::new().spec();
    assert_eq!(spec["process"]["user"], json!({ "uid": 0, "gid": 0, "additionalGids": [0, 10] }));
}

#[test]
fn t25_hidden_paths_are_the_list_with_each_cpu() {
    let spec = Case::new().spec();
    assert_eq!(spec["linux"]["maskedPaths"], json!(masked_paths(2)));
    assert_eq!(spec["linux"]["readonlyPaths"], json!(readonly_paths()));
    let all = Case::new().host(|host| (host.masked_paths, host.readonly_paths) = (Some(vec![]), Some(vec![]))).spec();
    assert_eq!(all["linux"]["maskedPaths"], json!([]), "systempaths=unconfined");
}

#[test]
fn what_a_device_asks_for_is_in_the_spec() {
    let mut case = Case::new();
    case.user.uid = 1000;
    case.edits = vec![serde_json::from_value(json!({
        "env": ["A=2", "CARD=x"],
        "deviceNodes": [{"path": "/dev/card", "type": "c", "major": 195, "minor": 7, "fileMode": 432, "permissions": "rw"}],
        "mounts": [{"hostPath": "/usr/lib/card", "containerPath": "/opt/lib", "options": ["ro", "bind"]},
                   {"hostPath": "/h", "containerPath": "/etc/hosts", "options": ["bind"]}],
        "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "x"], "timeout": 5}],
        "additionalGids": [44, 10, 0],
    }))
    .unwrap()];
    let spec = case.spec();
    assert_eq!(
        spec["process"]["env"].as_array().unwrap().iter().filter(|v| v.as_str().unwrap().starts_with("A=")).count(),
        1
    );
    assert!(spec["process"]["env"].as_array().unwrap().contains(&json!("A=2")));
    let node = json!({"path": "/dev/card", "type": "c", "major": 195, "minor": 7, "fileMode": 432, "uid": 1000});
    assert_eq!(spec["linux"]["devices"], json!([node]));
    let rule = json!({"allow": true, "type": "c", "major": 195, "minor": 7, "access": "rw"});
    assert_eq!(spec["linux"]["resources"]["devices"].as_array().unwrap().last(), Some(&rule));
    let sources = |place: &str| -> Vec<&str> {
        let mounts = spec["mounts"].as_array().unwrap().iter().filter(|mount| mount["destination"] == place);
        mounts.map(|mount| mount["source"].as_str().unwrap()).collect()
    };
    assert_eq!((sources("/opt/lib"), sources("/etc/hosts")), (vec!["/usr/lib/card"], vec!["/h"]));
    assert_eq!(spec["hooks"]["createContainer"][0]["timeout"], 5);
    assert_eq!(spec["process"]["user"]["additionalGids"], json!([0, 10, 44]));
}

#[test]
fn t30_no_new_privileges_and_a_pids_limit_are_asked_for() {
    let spec = Case::new().spec();
    assert_eq!(spec["process"]["noNewPrivileges"], false);
    assert!(spec["linux"]["resources"].get("pids").is_none());
    let asked = Case::new().host(|host| host.security_opt = list(&["no-new-privileges"])).spec();
    assert_eq!(asked["process"]["noNewPrivileges"], true);
    let mut hardened = Case::new();
    hardened.settings.no_new_privileges = true;
    assert_eq!(hardened.spec()["process"]["noNewPrivileges"], true);
}

#[test]
fn t30_the_filter_follows_the_capabilities() {
    let names = |spec: &Value| {
        let rules = spec["linux"]["seccomp"]["syscalls"].as_array().unwrap();
        rules.iter().flat_map(|rule| rule["names"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    assert!(!names(&Case::new().spec()).contains(&json!("mount")));
    let admin = Case::new().host(|host| host.cap_add = list(&["SYS_ADMIN"])).spec();
    assert!(names(&admin).contains(&json!("mount")));
    let open = Case::new().host(|host| host.security_opt = list(&["seccomp=unconfined"])).spec();
    assert!(open["linux"].get("seccomp").is_none());
    let inline = r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}"#;
    let own = Case::new().host(|host| host.security_opt = list(&[inline])).spec();
    assert_eq!(own["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
}

#[test]
fn a_bad_profile_or_tmpfs_option_is_refused() {
    let case = Case::new().host(|host| host.security_opt = list(&["seccomp={"]));
    let error = gantry_spec::runtime_spec(&case.input()).unwrap_err();
    assert!(error.message().starts_with("Decoding seccomp profile failed: "));
    let case = Case::new().host(|host| host.tmpfs = BTreeMap::from([("/t".into(), "bind".into())]));
    assert_eq!(gantry_spec::runtime_spec(&case.input()).unwrap_err().message(), "invalid tmpfs option \"bind\"");
}

#[test]
fn apparmor_is_named_only_where_the_host_has_it() {
    let profile = |kernel, loaded, privileged, asked: &[&str]| {
        let mut case = Case::new().host(|host| (host.privileged, host.security_opt) = (privileged, list(asked)));
        (case.facts.apparmor, case.facts.apparmor_default) = (kernel, loaded);
        case.spec()["process"].get("apparmorProfile").map(|name| name.as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(profile(false, false, false, &[]), None);
    assert_eq!(profile(true, false, false, &[]), None, "runc refuses a profile that is not loaded");
    assert_eq!(profile(true, true, false, &[]).as_deref(), Some("docker-default"));
    assert_eq!(profile(true, true, true, &[]).as_deref(), Some("unconfined"));
    assert_eq!(profile(true, false, true, &["apparmor=mine"]).as_deref(), Some("mine"));
}

#[test]
fn a_domain_name_is_a_setting_of_an_own_uts_namespace() {
    let of = |uts: &str, asked: Option<&str>| {
        let mut case = Case::new();
        case.record.config.domainname = "example.org".into();
        case.record.host_config.uts_mode = uts.into();
        case.record.config.hostname = if uts == "host" { String::new() } else { "web".into() };
        case.record.host_config.sysctls.extend(asked.map(|name| ("kernel.domainname".to_owned(), name.to_owned())));
        case.spec()["linux"]["sysctl"]["kernel.domainname"].clone()
    };
    assert_eq!(of("", None), "example.org");
    assert_eq!(of("host", None), Value::Null);
    assert_eq!(of("", Some("example.net")), "example.net", "one that was asked for wins");
}

#[test]
fn a_read_only_bind_of_an_old_client_is_not_recursively_so() {
    let options = |alone: bool| {
        let mut case = Case::new();
        case.mounts = vec![MountPoint {
            kind: "bind".into(),
            source: "/data".into(),
            destination: "/x".into(),
            read_only_non_recursive: alone,
            ..MountPoint::default()
        }];
        let spec = case.spec();
        let mounts = spec["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["destination"] == "/x").unwrap()["options"].clone()
    };
    assert_eq!(options(false), json!(["rbind", "rro", "rprivate"]));
    assert_eq!(options(true), json!(["rbind", "ro", "rprivate"]));
}

#[test]
fn labels_are_the_records() {
    let mut case = Case::new();
    (case.record.process_label, case.record.mount_label) = ("u:r:t:s0:c1,c2".into(), "u:o:f:s0:c1,c2".into());
    let exec = case.exec(&ExecConfig { cmd: list(&["id"]), ..ExecConfig::default() });
    let spec = case.spec();
    let found = [&exec["selinuxLabel"], &spec["process"]["selinuxLabel"], &spec["linux"]["mountLabel"]];
    assert_eq!(found, ["u:r:t:s0:c1,c2", "u:r:t:s0:c1,c2", "u:o:f:s0:c1,c2"]);
}

#[test]
fn cgroups_have_the_drivers_form() {
    let mut case = Case::new();
    case.settings.cgroup_driver = "systemd".into();
    let id = case.record.id.clone();
    assert_eq!(case.spec()["linux"]["cgroupsPath"], format!("system.slice:gantry:{id}"));
}
