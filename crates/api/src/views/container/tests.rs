//! The shapes of list and inspect, against JSON as dockerd writes it.
#![allow(clippy::unwrap_used)]

use gantry_domain::{
    ContainerId,
    container::{
        ContainerRecord, Status,
        config::Empty,
        record::{Endpoint, Exit},
    },
    network::Protocol,
};
use serde_json::{Value, json};
use std::sync::Arc;

use super::*;

fn details(status: Status) -> ContainerDetails {
    let mut record = ContainerRecord {
        id: ContainerId::parse(&"ab".repeat(32)).unwrap(),
        name: "web".into(),
        created: "2026-01-02T03:04:05.5Z".parse().unwrap(),
        path: "sh".into(),
        args: vec!["-c".into(), "sleep 1".into()],
        driver: "overlayfs".into(),
        ..ContainerRecord::default()
    };
    record.config.exposed_ports = [("80/tcp".to_owned(), Empty {}), ("90/udp".to_owned(), Empty {})].into();
    record.host_config.network_mode = "bridge".into();
    let endpoint = Endpoint { interface: "eth0".into(), ..Endpoint::default() };
    let published = |ip: &str| PublishedPort {
        container_port: 80,
        protocol: Protocol::Tcp,
        host_ip: ip.parse().unwrap(),
        host_port: 8080,
    };
    record.run = Some(Run {
        started: gantry_domain::GoTime(Some("2026-01-02T03:04:06Z".parse().unwrap())),
        endpoints: [("bridge".to_owned(), endpoint)].into(),
        ports: vec![published("0.0.0.0"), published("::")],
        exit: (!status.has_process()).then(|| Exit {
            code: 137,
            at: "2026-01-02T03:05:00Z".parse().unwrap(),
            oom_killed: true,
        }),
        ..Run::default()
    });
    let snapshot = Snapshot { record: Arc::new(record), status, pid: 42, health: None, execs: Arc::new([]) };
    ContainerDetails {
        snapshot,
        link_names: vec!["/web/database".into()],
        image_shown: "busybox".into(),
        image_manifest: None,
        size_rw: None,
        size_root: None,
        hosts_path: String::new(),
        hostname_path: String::new(),
        resolv_conf_path: String::new(),
        sandbox_id: String::new(),
        sandbox_key: String::new(),
        networks: [("bridge".to_owned(), EndpointSettings { ip_address: "172.17.0.2".into(), ..Default::default() })]
            .into(),
        apparmor_profile: String::new(),
    }
}

fn inspected(status: Status) -> Value {
    serde_json::to_value(inspect(&details(status))).unwrap()
}

#[test]
fn published_ports_come_once_for_each_family_and_unpublished_ones_without_address() {
    let map = port_map(&details(Status::Running).snapshot);
    assert_eq!(
        serde_json::to_value(&map).unwrap(),
        json!({
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
            "90/udp": null,
        })
    );
    assert_eq!(
        serde_json::to_value(summary_ports(&map)).unwrap(),
        json!([
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"PrivatePort": 90, "Type": "udp"},
        ])
    );
    assert!(port_map(&details(Status::Exited).snapshot).is_empty());
}

#[test]
fn state_of_a_paused_container_counts_as_running() {
    assert_eq!(
        inspected(Status::Paused)["State"],
        json!({
            "Status": "paused", "Running": true, "Paused": true, "Restarting": false, "OOMKilled": false, "Dead": false,
            "Pid": 42, "ExitCode": 0, "Error": "", "StartedAt": "2026-01-02T03:04:06Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        })
    );
}

#[test]
fn state_of_an_exited_container_tells_its_end() {
    let state = &inspected(Status::Exited)["State"];
    assert_eq!(state["ExitCode"], 137);
    assert_eq!(state["OOMKilled"], true);
    assert_eq!(state["FinishedAt"], "2026-01-02T03:05:00Z");
}

#[test]
fn inspect_has_dockers_nulls_and_slashes() {
    let container = inspected(Status::Running);
    assert_eq!(container["Name"], "/web");
    assert_eq!(container["Created"], "2026-01-02T03:04:05.5Z");
    assert_eq!(container["ExecIDs"], Value::Null);
    assert_eq!(container["GraphDriver"], json!({"Data": null, "Name": "overlayfs"}));
    assert!(container.get("SizeRw").is_none());
    assert_eq!(container["NetworkSettings"]["IPAddress"], "172.17.0.2");
    assert_eq!(container["NetworkSettings"]["SecondaryIPAddresses"], Value::Null);
}

#[test]
fn a_list_shows_the_names_of_links_too() {
    let item = summary(details(Status::Running), jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(item.names, ["/web", "/web/database"]);
}

#[test]
fn the_mac_address_that_was_asked_for_is_where_older_clients_read_it() {
    let mut asked = details(Status::Running);
    let record = Arc::make_mut(&mut asked.snapshot.record);
    let settings = EndpointSettings { mac_address: "02:00:00:00:00:01".into(), ..Default::default() };
    record.networks.insert("bridge".into(), settings);
    assert_eq!(serde_json::to_value(inspect(&asked)).unwrap()["Config"]["MacAddress"], "02:00:00:00:00:01");
}

#[test]
fn an_argument_with_a_blank_is_quoted_in_the_list() {
    assert_eq!(command("sh", &["-c".into(), "sleep 1".into()]), "sh -c 'sleep 1'");
    assert_eq!(command("top", &[]), "top");
}
