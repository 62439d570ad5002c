//! The firewall: what is closed stays closed, and what others break is mended.

use std::{net::Ipv4Addr, time::Duration};

use gantry_domain::{network::Protocol::Tcp, ports::Network as _};

use crate::lab::{self, eventually, publish, record, setup, sh, start};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// T41.
#[test]
fn a_port_on_loopback_is_closed_to_the_outside_whatever_happens_to_the_rules() {
    lab::run("firewall::a_port_on_loopback_is_closed_to_the_outside_whatever_happens_to_the_rules", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        let container = start(&network, &mut web, &[publish(Tcp, Some("127.0.0.1"), 8080, 80)]).await;
        container.serve_tcp(ANY, 80, "web");
        lab.outside.sh("ip route add 172.17.0.0/16 via 192.0.2.1");
        let closed = || {
            assert_eq!(lab.host.ask_tcp("127.0.0.1:8080").unwrap(), "web 172.17.0.1");
            assert!(lab.outside.ask_tcp("192.0.2.1:8080").is_err());
            assert!(lab.outside.ask_tcp("172.17.0.2:80").is_err());
        };
        closed();
        sh("nft flush ruleset");
        assert!(lab.host.ask_tcp("127.0.0.1:8080").is_ok());
        assert!(lab.outside.ask_tcp("192.0.2.1:8080").is_err());
        eventually("the rules are back", || sh("nft list ruleset").contains("masquerade"));
        closed();
    });
}

#[test]
fn the_rules_are_back_within_a_second_also_without_gantryd() {
    lab::run("firewall::the_rules_are_back_within_a_second_also_without_gantryd", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        let container = start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await;
        container.serve_tcp(ANY, 80, "web");
        let whole = sh("nft list ruleset");
        assert!(whole.contains("172.17.0.2 . 80"), "{whole}");
        let table = whole.split_whitespace().nth(2).unwrap().to_owned();
        for harm in [
            "nft flush ruleset".to_owned(),
            format!("nft delete table inet {table}"),
            format!("nft flush chain inet {table} inward"),
            format!("nft delete element inet {table} anywhere4 {{ 6 . 8080 }}"),
            format!("nft add rule inet {table} forward accept"),
        ] {
            sh(&harm);
            let took = eventually(&harm, || sh("nft list ruleset") == whole);
            assert!(took < Duration::from_secs(1), "{harm}: {took:?}");
        }
        drop(network);
        sh("nft flush ruleset");
        let took = eventually("without gantryd", || sh("nft list ruleset") == whole);
        assert!(took < Duration::from_secs(1), "{took:?}");
        eprintln!("repaired in {took:?}");
        assert_eq!(lab.outside.ask_tcp("192.0.2.1:8080").unwrap(), "web 192.0.2.100");
    });
}

#[test]
fn our_own_changes_are_not_repaired() {
    lab::run("firewall::our_own_changes_are_not_repaired", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await;
        network.ensure_network(&record("br-2", &["10.2.0.0/24"])).await.unwrap();
        // A foreign table is none of our business, but comes after ours in the stream of news.
        sh("nft add table inet other");
        assert!(network.warnings().is_empty());
        let log = std::fs::read_to_string(lab.folder.path().join("netd/netd.log")).unwrap();
        assert_eq!(log, "");
    });
}

/// T42.
#[test]
fn networks_do_not_reach_each_other() {
    lab::run("firewall::networks_do_not_reach_each_other", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let other = record("br-other", &["172.18.0.0/16"]);
        network.ensure_network(&other).await.unwrap();
        let mut one = setup(&bridge, 2);
        let mut two = setup(&other, 2);
        let one = start(&network, &mut one, &[]).await;
        let two = start(&network, &mut two, &[publish(Tcp, None, 8080, 80)]).await;
        two.serve_tcp(ANY, 80, "two");
        assert!(one.ask_tcp("172.18.0.2:80").is_err());
        assert_eq!(one.ask_tcp("192.0.2.1:8080").unwrap(), "two 172.17.0.2", "what is published is for all");
        sh("nft flush ruleset");
        eventually("the rules are back", || sh("nft list ruleset").contains("masquerade"));
        assert!(one.ask_tcp("172.18.0.2:80").is_err());
    });
}

#[test]
fn nothing_goes_into_or_out_of_an_internal_network() {
    lab::run("firewall::nothing_goes_into_or_out_of_an_internal_network", |lab| async move {
        let network = lab.open().await;
        let mut inner = record("br-inner", &["172.19.0.0/16"]);
        inner.internal = true;
        network.ensure_network(&inner).await.unwrap();
        network.ensure_network(&record("docker0", &["172.17.0.0/16"])).await.unwrap();
        let one = start(&network, &mut setup(&inner, 2), &[]).await;
        let two = start(&network, &mut setup(&inner, 3), &[]).await;
        two.serve_tcp(ANY, 80, "two");
        lab.outside.serve_tcp(ANY, 9000, "outside");
        assert_eq!(one.ask_tcp("172.19.0.3:80").unwrap(), "two 172.19.0.2");
        // Even with a route, which it does not get from us.
        one.sh("ip route add default via 172.19.0.1");
        assert!(one.ask_tcp("192.0.2.100:9000").is_err());
        lab.outside.sh("ip route add 172.19.0.0/16 via 192.0.2.1");
        assert!(lab.outside.ask_tcp("172.19.0.3:80").is_err());
    });
}

#[test]
fn an_unpublished_port_is_closed_to_a_neighbour_with_a_route() {
    lab::run("firewall::an_unpublished_port_is_closed_to_a_neighbour_with_a_route", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        let container = start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await;
        container.serve_tcp(ANY, 80, "web");
        container.serve_tcp(ANY, 81, "hidden");
        lab.outside.sh("ip route add 172.17.0.0/16 via 192.0.2.1");
        assert!(lab.outside.ask_tcp("172.17.0.2:81").is_err());
        assert!(lab.outside.ask_tcp("172.17.0.2:80").is_err(), "only by the host's address");
    });
}

#[test]
fn another_firewalls_drop_is_told() {
    lab::run("firewall::another_firewalls_drop_is_told", |lab| async move {
        let (network, _) = lab.with_bridge().await;
        assert_eq!(network.warnings(), Vec::<String>::new());
        sh("nft add table ip filter");
        sh("nft add chain ip filter FORWARD \"{ type filter hook forward priority 0; policy drop; }\"");
        let warnings = network.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("ip filter FORWARD"), "{warnings:?}");
    });
}

#[test]
fn rules_of_an_earlier_gantryd_go_when_the_administrator_wants_none() {
    lab::run("firewall::rules_of_an_earlier_gantryd_go_when_the_administrator_wants_none", |lab| async move {
        let (network, _) = lab.with_bridge().await;
        assert_ne!(sh("nft list ruleset"), "");
        drop(network);
        let settings = gantry_network::NetworkSettings { iptables: false, ..lab.settings() };
        let network = gantry_network::KernelNetwork::open(settings).await.unwrap();
        assert_eq!(sh("nft list ruleset"), "");
        network.ensure_network(&record("docker0", &["172.17.0.0/16"])).await.unwrap();
        sh("nft add table inet other; nft delete table inet other");
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert_eq!(sh("nft list ruleset"), "", "nobody puts them back");
    });
}

#[test]
fn an_interface_that_is_no_bridge_is_refused_before_a_rule_is_about_it() {
    lab::run("firewall::an_interface_that_is_no_bridge_is_refused_before_a_rule_is_about_it", |lab| async move {
        let (network, _) = lab.with_bridge().await;
        let before = sh("nft list ruleset");
        let error = network.ensure_network(&record("wan0", &["10.9.0.0/24"])).await.unwrap_err();
        assert_eq!(error.message(), "cannot make bridge wan0: existing interface wan0 is not a bridge");
        assert_eq!(sh("nft list ruleset"), before);
    });
}

/// A network is elements in the table; the table itself is written once.
#[test]
fn networks_come_and_go_without_a_new_table() {
    lab::run("firewall::networks_come_and_go_without_a_new_table", |lab| async move {
        // Otherwise the first network with IPv6 brings a rule.
        sh("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        let (network, _) = lab.with_bridge().await;
        let handle = || sh("nft -a list tables");
        let (before, table) = (sh("nft list ruleset"), handle());
        let subnets = [&["10.1.0.0/24"][..], &["10.1.1.0/24", "fd00:1::/64"], &["255.255.255.0/24"]];
        let networks: Vec<_> =
            subnets.iter().enumerate().map(|(n, subnets)| record(&format!("br-{n}"), subnets)).collect();
        for one in &networks {
            network.ensure_network(one).await.unwrap();
        }
        let rules = sh("nft list ruleset");
        assert!(
            rules.contains("10.1.0.0/24") && rules.contains("10.1.1.0/24") && rules.contains("fd00:1::/64"),
            "{rules}"
        );
        assert!(rules.contains("\"br-0\"") && rules.contains("255.255.255.0/24"), "{rules}");
        assert_eq!(handle(), table);
        // What is written anew as a whole says the same.
        sh("nft flush ruleset");
        eventually("the rules are back", || sh("nft list ruleset") == rules);
        for one in networks.iter().rev() {
            network.remove_network(&one.id).await.unwrap();
        }
        assert_eq!(sh("nft list ruleset"), before);
    });
}

#[test]
fn without_iptables_there_are_no_rules_and_ports_are_relayed() {
    lab::run("firewall::without_iptables_there_are_no_rules_and_ports_are_relayed", |lab| async move {
        let settings = gantry_network::NetworkSettings { iptables: false, ..lab.settings() };
        let network = gantry_network::KernelNetwork::open(settings).await.unwrap();
        let bridge = record("docker0", &["172.17.0.0/16"]);
        network.ensure_network(&bridge).await.unwrap();
        let mut web = setup(&bridge, 2);
        let container = start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await;
        container.serve_tcp(ANY, 80, "web");
        assert_eq!(sh("nft list ruleset"), "");
        assert_eq!(lab.outside.ask_tcp("192.0.2.1:8080").unwrap(), "web 172.17.0.1");
    });
}
