//! gantryd and gantry-netd outlive each other.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
};

use gantry_domain::{
    network::Protocol::{Tcp, Udp},
    ports::Network as _,
};

use crate::lab::{self, eventually, publish, setup, sh, start, stop};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[test]
fn ports_answer_again_when_netd_was_killed() {
    lab::run("netd::ports_answer_again_when_netd_was_killed", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        let wanted = [publish(Tcp, None, 8080, 80), publish(Udp, None, 8080, 80)];
        let container = start(&network, &mut web, &wanted).await;
        container.serve_tcp(ANY, 80, "web");
        container.serve_udp(ANY, 80, "web");
        let rules = sh("nft list ruleset");
        for _ in 0..3 {
            lab.kill_netd();
            // The listening sockets live on in gantryd: nobody is refused.
            assert_eq!(lab.host.ask_tcp("127.0.0.1:8080").unwrap(), "web 172.17.0.1");
            assert_eq!(lab.host.ask_udp("127.0.0.1:8080").unwrap(), "web 172.17.0.1");
            assert_eq!(lab.outside.ask_tcp("192.0.2.1:8080").unwrap(), "web 192.0.2.100");
        }
        eventually("rules as before", || sh("nft list ruleset") == rules);
        sh("nft flush ruleset");
        eventually("the new one keeps watch", || sh("nft list ruleset") == rules);
        stop(&network, &web.id).await;
        assert_eq!(sh("ps -eo stat= | grep -c Z || true"), "0\n");
    });
}

#[test]
fn a_request_that_finds_netd_dead_is_carried_out_by_the_next() {
    lab::run("netd::a_request_that_finds_netd_dead_is_carried_out_by_the_next", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        for n in 2..6 {
            lab.kill_netd();
            let mut web = setup(&bridge, n);
            start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await.serve_tcp(ANY, 80, "web");
            assert!(lab.outside.ask_tcp("192.0.2.1:8080").is_ok());
            lab.kill_netd();
            stop(&network, &web.id).await;
        }
    });
}

#[test]
fn a_stalled_netd_is_ended_before_another_takes_its_place() {
    lab::run("netd::a_stalled_netd_is_ended_before_another_takes_its_place", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let old = lab.netd_pid();
        drop(network);
        let network = lab.open().await;
        network.ensure_network(&bridge).await.unwrap();
        assert_eq!(lab.netd_pid(), old, "adopted");
        sh(&format!("kill -STOP {old}"));
        let mut web = setup(&bridge, 2);
        start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await.serve_tcp(ANY, 80, "web");
        assert!(lab.outside.ask_tcp("192.0.2.1:8080").is_ok());
        let gone = std::fs::read(format!("/proc/{old}/cmdline")).map_or(true, |line| line.is_empty());
        assert!(gone && lab.netd_pid() != old, "no rival is left");
        stop(&network, &web.id).await;
    });
}

#[test]
fn a_new_gantryd_finds_ports_and_sandboxes_again() {
    lab::run("netd::a_new_gantryd_finds_ports_and_sandboxes_again", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        let many: Vec<_> = (0..100).map(|n| publish(Tcp, None, 8000 + n, 80)).collect();
        start(&network, &mut web, &many).await.serve_tcp(ANY, 80, "web");
        let (rules, pid) = (sh("nft list ruleset"), lab.netd_pid());
        drop(network);
        assert!(lab.host.ask_tcp("127.0.0.1:8099").is_ok());

        let network = lab.open().await;
        assert_eq!(network.sandboxes().await.unwrap(), [web.id.clone()]);
        network.ensure_network(&bridge).await.unwrap();
        network.adopt_sandbox(&web).await.unwrap();
        assert_eq!((sh("nft list ruleset"), lab.netd_pid()), (rules, pid));
        let taken = network.reserve_ports(&setup(&bridge, 3).id, &[publish(Tcp, None, 8080, 80)]).await.unwrap_err();
        assert_eq!(taken.message(), "Bind for 0.0.0.0:8080 failed: port is already allocated");

        // It holds copies: netd may die now.
        lab.kill_netd();
        assert!(lab.host.ask_tcp("127.0.0.1:8099").is_ok());
        stop(&network, &web.id).await;
        assert!(network.sandboxes().await.unwrap().is_empty());
        assert!(lab.host.ask_tcp("127.0.0.1:8080").is_err());
    });
}

#[test]
fn what_died_with_both_is_mended_on_adoption() {
    lab::run("netd::what_died_with_both_is_mended_on_adoption", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let other = lab::record("br-other", &["172.18.0.0/16"]);
        network.ensure_network(&other).await.unwrap();
        let mut web = setup(&bridge, 2);
        start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await.serve_tcp(ANY, 80, "web");
        let rules = sh("nft list ruleset");
        drop(network);
        lab.kill_netd();
        eventually("the port is free", || TcpStream::connect("127.0.0.1:8080").is_err());

        let network = lab.open().await;
        // The first network to come back brings the other one's rules with it.
        network.ensure_network(&bridge).await.unwrap();
        assert!(sh("nft list ruleset").contains("172.18.0.0/16"));
        network.adopt_sandbox(&web).await.unwrap();
        assert_eq!(sh("nft list ruleset"), rules);
        assert!(lab.host.ask_tcp("127.0.0.1:8080").is_ok());
    });
}

#[test]
fn a_kept_socket_outlives_gantryd_with_its_queue() {
    lab::run("netd::a_kept_socket_outlives_gantryd_with_its_queue", |lab| async move {
        let network = lab.open().await;
        let listener = TcpListener::bind("127.0.0.1:2375").unwrap();
        network.keep_socket("tcp://127.0.0.1:2375", OwnedFd::from(listener)).await.unwrap();
        drop(network);
        let _early = TcpStream::connect("127.0.0.1:2375").unwrap();
        let network = lab.open().await;
        let found = network.kept_socket("tcp://127.0.0.1:2375").await.unwrap().unwrap();
        TcpListener::from(found).accept().unwrap();
        lab.kill_netd();
        assert!(network.kept_socket("tcp://127.0.0.1:2375").await.unwrap().is_some(), "handed to the next netd");
        assert!(network.kept_socket("unix:///run/docker.sock").await.unwrap().is_none());
        network.forget_socket("tcp://127.0.0.1:2375").await.unwrap();
        assert!(network.kept_socket("tcp://127.0.0.1:2375").await.unwrap().is_none());
    });
}

#[test]
fn netd_stays_small() {
    lab::run("netd::netd_stays_small", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await.serve_tcp(ANY, 80, "web");
        for _ in 0..200 {
            lab.host.ask_tcp("127.0.0.1:8080").unwrap();
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", lab.netd_pid())).unwrap();
        let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        let kib: u32 = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
        eprintln!("{resident}");
        assert!(kib < 6 << 10, "{resident}");
    });
}
