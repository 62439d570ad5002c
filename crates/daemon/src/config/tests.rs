//! What configurations come to, and which are refused.

use serde_json::json;

use super::*;
use crate::listen::Address;

fn build_of(given: &[(&'static str, Value)]) -> Result<Config, String> {
    build(given.iter().cloned().collect(), &Environment { home: "/nonexistent".into(), ..Environment::default() })
}

#[test]
fn nothing_given_is_the_engines_defaults() {
    let config = build_of(&[]).expect("defaults");
    assert_eq!(config.settings, Settings::default());
    assert_eq!(config.hosts, [Address::default()]);
    assert_eq!(config.pidfile, PathBuf::from("/run/gantry/gantryd.pid"));
    assert_eq!((config.group.as_str(), config.group_named), ("docker", false));
    assert!(config.notes.is_empty());
}

#[test]
fn what_protects_and_is_not_there_keeps_gantryd_from_starting() {
    for (key, value) in [
        ("authorization-plugins", json!(["opa"])),
        ("log-driver", json!("splunk")),
        ("ip6tables", json!(false)),
        ("storage-opts", json!(["size=10G"])),
        ("cpu-rt-runtime", json!(950_000)),
        ("rootless", json!(true)),
        ("metrics-addr", json!("127.0.0.1:9323")),
        ("storage-driver", json!("zfs")),
    ] {
        let error = build_of(&[(key, value)]).expect_err(key);
        assert!(error.starts_with(&format!("gantryd does not start with {key} = ")), "{error}");
    }
}

#[test]
fn the_value_that_asks_for_nothing_is_accepted() {
    for (key, value) in [
        ("log-driver", json!("local")),
        ("log-driver", json!("syslog")),
        ("log-driver", json!("fluentd")),
        ("storage-driver", json!("overlay2")),
        ("ip6tables", json!(true)),
        ("authorization-plugins", json!([])),
    ] {
        assert!(build_of(&[(key, value)]).is_ok(), "{key}");
    }
    assert!(build_of(&[("iptables", json!(false)), ("ip6tables", json!(false))]).is_ok());
}

#[test]
fn what_only_tunes_is_said() {
    let notes = |given: &[(&'static str, Value)]| build_of(given).expect("tunes").notes;
    assert_eq!(
        notes(&[("userland-proxy-path", json!("/x"))]),
        ["userland-proxy-path has no effect: the relay is gantry-netd"]
    );
    assert_eq!(
        notes(&[("live-restore", json!(false))]),
        ["live-restore=false has no effect: containers always outlive gantryd"]
    );
    assert!(notes(&[("live-restore", json!(true))]).is_empty());
    assert_eq!(
        notes(&[("features", json!({"cdi": true, "time-travel": true, "containerd-snapshotter": false}))]),
        [
            "the feature containerd-snapshotter=false has no effect: gantryd does not know it",
            "the feature time-travel=true has no effect: gantryd does not know it"
        ]
    );
    assert!(notes(&[("max-concurrent-downloads", json!(3))]).is_empty(), "the default is no wish");
}

#[test]
fn protecting_options_reach_the_engine() {
    let settings = build_of(&[
        ("no-new-privileges", json!(true)),
        ("icc", json!(false)),
        ("iptables", json!(false)),
        ("default-ulimits", json!({"nofile": {"Name": "nofile", "Soft": 10, "Hard": 20}})),
        ("seccomp-profile", json!("unconfined")),
        ("log-driver", json!("none")),
    ])
    .expect("all work")
    .settings;
    assert!(settings.no_new_privileges && !settings.icc && !settings.iptables);
    let nofile = &settings.default_ulimits["nofile"];
    assert_eq!((nofile.soft, nofile.hard), (10, 20));
    assert_eq!((settings.seccomp_profile.as_str(), settings.log_config.driver.as_str()), ("unconfined", "none"));
}

#[test]
fn a_seccomp_profile_that_cannot_be_read_keeps_gantryd_from_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("profile.json");
    let named = path.to_string_lossy().into_owned();
    let error = build_of(&[("seccomp-profile", json!(named))]).expect_err("not there");
    assert!(error.starts_with(&format!("opening seccomp profile ({named}) failed: open {named}: ")), "{error}");
    std::fs::write(&path, "{}").expect("written");
    assert_eq!(build_of(&[("seccomp-profile", json!(named))]).expect("there").settings.seccomp_profile, named);
}

#[test]
fn a_cgroup_parent_of_systemd_is_a_slice() {
    let systemd = ("exec-opts", json!(["native.cgroupdriver=systemd"]));
    let with = |parent: &str, driver: &(&'static str, Value)| {
        build_of(&[("cgroup-parent", json!(parent)), driver.clone()]).map(|config| config.settings.cgroup_parent)
    };
    let error = with("mine", &systemd).expect_err("no slice");
    assert_eq!(error, "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"");
    assert!(with(".slice", &systemd).is_err());
    assert_eq!(with("mine.slice", &systemd).expect("a slice"), "mine.slice");
    let cgroupfs = ("exec-opts", json!(["native.cgroupdriver=cgroupfs"]));
    assert_eq!(with("/mine", &cgroupfs).expect("any path"), "/mine");
}

#[test]
fn bad_values_are_told_in_dockerds_words() {
    for (key, value, words) in [
        ("log-level", json!("loud"), "invalid logging level: loud"),
        ("log-format", json!("xml"), "invalid log format: xml"),
        ("labels", json!(["bare"]), "bad attribute format: bare"),
        ("labels", json!(["a=1", "a=2"]), "conflict labels for a=1 and a=2"),
        ("dns", json!(["nope"]), "IP address is not correctly formatted: nope"),
        ("dns-search", json!(["a b"]), "a b is not a valid domain"),
        ("mtu", json!(-1), "invalid default MTU: -1"),
        ("max-concurrent-downloads", json!(-1), "invalid max concurrent downloads: -1"),
        ("default-runtime", json!("nope"), "specified default runtime 'nope' does not exist"),
        (
            "default-ipc-mode",
            json!("host"),
            "default IPC mode setting (host) is invalid; use \"shareable\" or \"private\"",
        ),
        (
            "default-cgroupns-mode",
            json!("x"),
            "default cgroup namespace mode (x) is invalid; use \"host\" or \"private\"",
        ),
        ("hosts", json!(["what"]), "invalid bind address format: what"),
        ("exec-opts", json!(["a"]), "invalid exec-opt (a): must be formatted 'opt=value'"),
        ("log-opts", json!({"x": "y"}), "failed to set log opts: unknown log opt 'x' for json-file log driver"),
        ("default-ulimits", json!({"nope": {"Soft": 1, "Hard": 1}}), "invalid ulimit type: nope"),
    ] {
        assert_eq!(build_of(&[(key, value)]).expect_err(key), words, "{key}");
    }
}

#[test]
fn an_open_tcp_socket_has_to_be_spelt_out() {
    let hosts = ("hosts", json!(["tcp://127.0.0.1:2375"]));
    for tls in [vec![], vec![("tlsverify", json!(false))]] {
        let given: Vec<_> = std::iter::once(hosts.clone()).chain(tls).collect();
        let error = build_of(&given).expect_err("an open socket");
        assert!(error.contains("--tlsverify") && error.contains("--tls=false"), "{error}");
    }
    let open = build_of(&[hosts.clone(), ("tls", json!(false))]).expect("spelt out");
    assert_eq!(open.tls, TlsMode::Off);
    assert_eq!(open.settings.warnings.len(), 1);
    let error = build_of(&[hosts, ("tlsverify", json!(true))]).expect_err("no certificates");
    assert!(error.contains("tlscacert"), "{error}");
}

#[test]
fn tls_alone_means_verify() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::write(folder.path().join(name), "").expect("written");
    }
    let environment =
        Environment { docker_cert_path: folder.path().to_string_lossy().into_owned(), ..Environment::default() };
    let given = BTreeMap::from([("hosts", json!(["tcp://127.0.0.1"])), ("tls", json!(true))]);
    let config = build(given, &environment).expect("certificates are there");
    assert_eq!(config.hosts, [Address::Tcp { host: "127.0.0.1".into(), port: 2376 }]);
    assert!(matches!(config.tls, TlsMode::Verify(files) if files.ca == folder.path().join("ca.pem")));
}

#[test]
fn the_minimum_api_version_stays_in_what_is_served() {
    let with = |version: &str| Environment { docker_min_api_version: Some(version.into()), ..Environment::default() };
    assert_eq!(check::min_api_version(&with("1.40")), Ok(Some((1, 40))));
    assert_eq!(check::min_api_version(&Environment::default()), Ok(None));
    for bad in ["", "v1.40", "1.23", "9.9", "x"] {
        assert!(check::min_api_version(&with(bad)).is_err(), "{bad}");
    }
}

fn line(path: &std::path::Path, given: &[(&'static str, Value)]) -> CommandLine {
    CommandLine {
        config_file: path.into(),
        config_file_named: true,
        validate: false,
        given: given.iter().cloned().collect(),
    }
}

#[test]
fn a_reload_changes_what_it_can_and_names_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("daemon.json");
    let environment = Environment::default();
    let line = line(&path, &[("log-level", json!("warn"))]);
    std::fs::write(&path, r#"{"debug": false, "icc": true}"#).expect("written");
    let current = load(&line, &environment).expect("loads");

    std::fs::write(
        &path,
        r#"{"debug": true, "icc": false, "labels": ["a=b"], "default-shm-size": "1m", "data-root": "/else"}"#,
    )
    .expect("written");
    let reloaded = reload(&current, &line, &environment).expect("reloads");
    assert_eq!(reloaded.changed, ["debug", "labels"]);
    assert_eq!(reloaded.for_new_containers, ["default-shm-size"]);
    assert_eq!(reloaded.waiting, ["data-root", "icc"]);
    let settings = &reloaded.config.settings;
    assert!(settings.debug && settings.icc && settings.data_root == "/var/lib/gantry");
    assert_eq!((settings.labels.len(), settings.default_shm_size), (1, 1 << 20));

    let again = reload(&reloaded.config, &line, &environment).expect("reloads");
    assert!(again.changed.is_empty());
    assert_eq!(again.waiting, ["data-root", "icc"], "what waits is named until it is done");
}

#[test]
fn a_reload_with_one_bad_value_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("daemon.json");
    std::fs::write(&path, "{}").expect("written");
    let (environment, line) = (Environment::default(), line(&path, &[("debug", json!(true))]));
    let current = load(&line, &environment).expect("loads");
    for content in [
        r#"{"labels": ["a=b"], "mtu": -1}"#,
        r#"{"labels": ["a=b"], "authorization-plugins": ["opa"]}"#,
        r#"{"debug": false}"#,
        r#"{"nope": 1}"#,
        "{",
    ] {
        std::fs::write(&path, content).expect("written");
        assert!(reload(&current, &line, &environment).is_err(), "{content}");
    }
}

#[test]
fn runtimes_of_flags_and_file_are_put_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("daemon.json");
    std::fs::write(
        &path,
        r#"{"runtimes": {"crun": {"path": "/usr/bin/crun", "runtimeArgs": ["-v"]}}, "default-runtime": "mine"}"#,
    )
    .expect("written");
    let line = line(&path, &[("runtimes", json!({"mine": {"path": "/mine"}}))]);
    let settings = load(&line, &Environment::default()).expect("loads").settings;
    assert_eq!(settings.runtimes.keys().collect::<Vec<_>>(), ["crun", "io.containerd.runc.v2", "mine", "runc"]);
    assert_eq!((settings.runtimes["crun"].args.len(), settings.default_runtime.as_str()), (1, "mine"));
}
