//! Bridges and sandboxes: what is made, and that nothing stays.

use std::net::{IpAddr, Ipv4Addr};

use futures::future::join_all;
use gantry_domain::{ContainerId, network::Protocol::Tcp, ports::Network as _};

use crate::lab::{self, Lab, Namespace, publish, record, setup, sh, start, stop};

#[test]
fn a_sandbox_has_its_link_address_and_route() {
    lab::run("bridges::a_sandbox_has_its_link_address_and_route", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let container = start(&network, &mut setup(&bridge, 2), &[]).await;
        let addresses = container.sh("ip -o address show");
        assert!(addresses.contains("eth0    inet 172.17.0.2/16 brd 172.17.255.255"), "{addresses}");
        assert!(addresses.contains("lo    inet 127.0.0.1/8"), "{addresses}");
        assert!(addresses.contains("lo    inet6 ::1/128"), "{addresses}");
        assert!(container.sh("ip route").contains("default via 172.17.0.1 dev eth0"));
        assert!(container.sh("ip -o link show eth0").contains("02:42:ac:11:00:02"));
        assert!(sh("ip -o link show master docker0").contains("state UP"));
        container.serve_tcp(Ipv4Addr::UNSPECIFIED, 80, "web");
        assert_eq!(lab.host.ask_tcp("172.17.0.2:80").unwrap(), "web 172.17.0.1");
    });
}

#[test]
fn a_namespace_that_the_runtime_made_is_wired_and_pinned_like_one_of_ours() {
    lab::run("bridges::a_namespace_that_the_runtime_made_is_wired_and_pinned_like_one_of_ours", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let (container, mut process) = Namespace::with_user_namespace();
        let mut setup = setup(&bridge, 2);
        setup.sysctls.insert("net.ipv4.conf.eth0.rp_filter".into(), "2".into());
        setup.ports = network.reserve_ports(&setup.id, &[publish(Tcp, None, 8080, 80)]).await.unwrap();
        let pin = network.wire_sandbox(&setup, process.id()).await.unwrap();
        assert!(container.sh("ip -o address show").contains("eth0    inet 172.17.0.2/16"));
        assert!(container.sh("ip route").contains("default via 172.17.0.1 dev eth0"));
        assert_eq!(container.sh("cat /proc/sys/net/ipv4/conf/eth0/rp_filter"), "2\n");
        container.serve_tcp(Ipv4Addr::UNSPECIFIED, 80, "web");
        assert_eq!(lab.host.ask_tcp("172.17.0.2:80").unwrap(), "web 172.17.0.1");
        assert_eq!(lab.outside.ask_tcp("192.0.2.1:8080").unwrap(), "web 192.0.2.100");
        assert!(Namespace::at(&pin).sh("ip -o link").contains("eth0"), "it is reached by the pin");
        network.adopt_sandbox(&setup).await.unwrap();
        // Another run of it takes the place of this one.
        let (again, mut other) = Namespace::with_user_namespace();
        network.wire_sandbox(&setup, other.id()).await.unwrap();
        assert!(again.sh("ip -o link").contains("eth0"));
        stop(&network, &setup.id).await;
        assert!(network.sandboxes().await.unwrap().is_empty());
        for process in [&mut process, &mut other] {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    });
}

/// What a container is given must never land in the host's namespace.
#[test]
fn a_process_in_the_hosts_namespace_is_never_wired() {
    lab::run("bridges::a_process_in_the_hosts_namespace_is_never_wired", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let setup = setup(&bridge, 2);
        for process in [std::process::id(), 999_999_999] {
            assert!(network.wire_sandbox(&setup, process).await.is_err());
        }
        assert!(network.sandboxes().await.unwrap().is_empty());
        assert!(!sh("ip -o link").contains("veth"));
    });
}

/// T44: off means off, before anything comes up.
#[test]
fn without_ipv6_no_interface_has_a_trace_of_it() {
    lab::run("bridges::without_ipv6_no_interface_has_a_trace_of_it", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let container = start(&network, &mut setup(&bridge, 2), &[]).await;
        assert_eq!(container.sh("ip -6 -o address show dev eth0"), "");
        assert_eq!(container.sh("cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6"), "1\n");
        assert_eq!(container.sh("cat /proc/sys/net/ipv6/conf/eth0/accept_ra"), "0\n");
        assert_eq!(sh("ip -6 -o address show dev docker0"), "");
        assert_eq!(sh("ip -6 -o address show | grep -c veth || true"), "0\n");
    });
}

#[test]
fn what_leaves_a_bridge_has_the_hosts_address() {
    lab::run("bridges::what_leaves_a_bridge_has_the_hosts_address", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        lab.outside.serve_tcp(Ipv4Addr::UNSPECIFIED, 9000, "outside");
        let container = start(&network, &mut setup(&bridge, 2), &[]).await;
        assert_eq!(container.ask_tcp("192.0.2.100:9000").unwrap(), "outside 192.0.2.1");
    });
}

#[test]
fn without_icc_containers_of_the_bridge_do_not_reach_each_other() {
    lab::run("bridges::without_icc_containers_of_the_bridge_do_not_reach_each_other", |lab| async move {
        let settings = gantry_network::NetworkSettings { icc: false, ..lab.settings() };
        let network = gantry_network::KernelNetwork::open(settings).await.unwrap();
        let bridge = record("docker0", &["172.17.0.0/16"]);
        network.ensure_network(&bridge).await.unwrap();
        let one = start(&network, &mut setup(&bridge, 2), &[]).await;
        let two = start(&network, &mut setup(&bridge, 3), &[]).await;
        two.serve_tcp(Ipv4Addr::UNSPECIFIED, 80, "two");
        assert!(one.ask_tcp("172.17.0.3:80").is_err());
        assert_eq!(lab.host.ask_tcp("172.17.0.3:80").unwrap(), "two 172.17.0.1");
        lab.outside.serve_tcp(Ipv4Addr::UNSPECIFIED, 9000, "outside");
        assert!(one.ask_tcp("192.0.2.100:9000").is_ok());
    });
}

#[test]
fn a_sandbox_carries_its_mtu_sysctls_and_counters() {
    lab::run("bridges::a_sandbox_carries_its_mtu_sysctls_and_counters", |lab| async move {
        let network = lab.open().await;
        let mut bridge = record("br-mtu", &["172.30.0.0/24"]);
        bridge.options.insert("com.docker.network.driver.mtu".into(), "1400".into());
        network.ensure_network(&bridge).await.unwrap();
        let mut one = setup(&bridge, 2);
        one.sysctls.insert("net.ipv4.conf.eth0.log_martians".into(), "1".into());
        let container = start(&network, &mut one, &[]).await;
        assert!(container.sh("ip -o link show eth0").contains("mtu 1400"));
        assert_eq!(container.sh("cat /proc/sys/net/ipv4/conf/eth0/log_martians"), "1\n");
        container.serve_tcp(Ipv4Addr::UNSPECIFIED, 80, "one");
        lab.host.ask_tcp("172.30.0.2:80").unwrap();
        let counters = network.statistics(&one.id).await.unwrap();
        assert_eq!(counters.keys().collect::<Vec<_>>(), ["eth0"]);
        assert!(counters["eth0"].rx_bytes > 0 && counters["eth0"].tx_packets > 0);
    });
}

#[test]
fn a_sandbox_that_cannot_be_made_leaves_nothing() {
    lab::run("bridges::a_sandbox_that_cannot_be_made_leaves_nothing", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let before = traces(&lab);
        let mut broken = setup(&bridge, 2);
        broken.sysctls.insert("net.ipv4.no_such_thing".into(), "1".into());
        let error = network.create_sandbox(&broken).await.unwrap_err();
        assert!(error.message().contains("net.ipv4.no_such_thing"), "{error:?}");
        assert_eq!(traces(&lab), before);
        assert!(network.sandboxes().await.unwrap().is_empty());
    });
}

#[test]
fn a_thing_that_is_absent_is_removed_without_a_word() {
    lab::run("bridges::a_thing_that_is_absent_is_removed_without_a_word", |lab| async move {
        let network = lab.open().await;
        network.delete_sandbox(&ContainerId::random()).await.unwrap();
        network.release_ports(&ContainerId::random()).await.unwrap();
        network.remove_network(&record("br-none", &["10.9.0.0/24"]).id).await.unwrap();
        let error = network.adopt_sandbox(&setup(&record("br-none", &["10.9.0.0/24"]), 2)).await.unwrap_err();
        assert!(error.is_not_found());
    });
}

#[test]
fn a_removed_network_leaves_nothing() {
    lab::run("bridges::a_removed_network_leaves_nothing", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let other = record("br-other", &["10.8.0.0/24"]);
        network.ensure_network(&other).await.unwrap();
        network.ensure_network(&other).await.unwrap();
        network.remove_network(&other.id).await.unwrap();
        assert!(!sh("ip -o link").contains("br-other"));
        assert!(!sh("nft list ruleset").contains("10.8.0"));
        network.remove_network(&bridge.id).await.unwrap();
        assert_eq!(sh("nft list ruleset"), "");
        assert!(!sh("ip -o link").contains("docker0"));
        // The names are free at once; the links themselves go when the kernel gets to it.
        network.ensure_network(&other).await.unwrap();
        lab::eventually("the links go", || !sh("ip -o link").contains("gone-"));
        assert!(sh("ip -o link").contains("br-other"));
    });
}

#[test]
fn a_bridge_of_the_administrators_is_used_and_left() {
    lab::run("bridges::a_bridge_of_the_administrators_is_used_and_left", |lab| async move {
        sh("ip link add br-own type bridge");
        let network = lab.open().await;
        let own = record("br-own", &["10.7.0.0/24"]);
        network.ensure_network(&own).await.unwrap();
        assert!(sh("ip -o address show br-own").contains("10.7.0.1/24"));
        network.remove_network(&own.id).await.unwrap();
        assert!(sh("ip -o link").contains("br-own"));
    });
}

#[test]
fn links_of_others_keep_what_they_have() {
    lab::run("bridges::links_of_others_keep_what_they_have", |lab| async move {
        sh("ip link add br-own type bridge");
        sh("ip link add veth-own type veth peer name veth-far");
        let kept = ["disable_ipv6", "accept_ra"].map(|key| format!("/proc/sys/net/ipv6/conf/br-own/{key}"));
        let read = || kept.clone().map(|path| std::fs::read_to_string(path).ok());
        let before = read();
        let network = lab.open().await;
        network.ensure_network(&record("br-own", &["10.7.0.0/24"])).await.unwrap();
        assert_eq!(read(), before);
        let error = network.ensure_network(&record("veth-own", &["10.6.0.0/24"])).await.unwrap_err();
        assert!(error.to_string().contains("existing interface veth-own is not a bridge"), "{error}");
        assert!(!sh("ip -o address show veth-own").contains("10.6.0"));
        // Another engine's default bridge is not ours; our own is, whoever of us made it.
        assert_eq!(network.default_bridge().await.unwrap(), "docker0");
        network.ensure_network(&record("docker0", &["10.5.0.0/24"])).await.unwrap();
        assert_eq!(network.default_bridge().await.unwrap(), "docker0");
        sh("ip link set docker0 alias gantry:another:one");
        assert_eq!(network.default_bridge().await.unwrap(), "gantry0");
    });
}

#[test]
fn twenty_sandboxes_are_made_at_once_and_fifty_rounds_leave_nothing() {
    lab::run("bridges::twenty_sandboxes_are_made_at_once_and_fifty_rounds_leave_nothing", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let round = async |count: u8| {
            let begin = |n: u8| {
                let (network, mut one) = (&network, setup(&bridge, n + 2));
                async move {
                    let port = [publish(Tcp, None, 8000 + u16::from(n), 80)];
                    start(network, &mut one, &port).await.serve_tcp(Ipv4Addr::UNSPECIFIED, 80, "one");
                    one.id
                }
            };
            let ids = join_all((0..count).map(begin)).await;
            for n in 0..count {
                assert!(lab.outside.ask_tcp(&format!("192.0.2.1:{}", 8000 + u16::from(n))).is_ok());
            }
            join_all(ids.iter().map(|id| stop(&network, id))).await;
        };
        round(20).await;
        let before = traces(&lab);
        for _ in 0..50 {
            round(1).await;
        }
        assert_eq!(traces(&lab), before);
    });
}

#[test]
fn a_link_goes_even_when_somebody_holds_its_namespace() {
    lab::run("bridges::a_link_goes_even_when_somebody_holds_its_namespace", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut one = setup(&bridge, 2);
        let held = start(&network, &mut one, &[]).await;
        network.delete_sandbox(&one.id).await.unwrap();
        let again = start(&network, &mut one, &[]).await;
        assert!(again.sh("ip -o address show eth0").contains("172.17.0.2/16"), "a restart does not wait");
        assert!(!held.sh("ip -o link").contains("eth0"));
        network.delete_sandbox(&one.id).await.unwrap();
        lab::eventually("gone", || !again.sh("ip -o link").contains("eth0"));
    });
}

#[test]
fn the_hosts_routes_do_not_count_our_own_bridges() {
    lab::run("bridges::the_hosts_routes_do_not_count_our_own_bridges", |lab| async move {
        let (network, _) = lab.with_bridge().await;
        let routes = network.host_routes().await.unwrap();
        assert!(routes.contains(&"192.0.2.0/24".parse().unwrap()), "{routes:?}");
        assert!(!routes.iter().any(|net| net.contains(&IpAddr::from([172, 17, 0, 1]))), "{routes:?}");
    });
}

#[test]
fn forwarding_that_we_switched_on_serves_containers_only() {
    lab::run("bridges::forwarding_that_we_switched_on_serves_containers_only", |lab| async move {
        let (network, _) = lab.with_bridge().await;
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
        let far = lab::far(&lab, &network).await;
        far.serve_tcp(Ipv4Addr::UNSPECIFIED, 80, "far");
        assert!(lab.outside.ask_tcp("203.0.113.1:80").is_err());
    });
}

#[test]
fn what_leaves_a_bridge_has_the_address_that_was_asked_for() {
    lab::run("bridges::what_leaves_a_bridge_has_the_address_that_was_asked_for", |lab| async move {
        sh("ip address add 192.0.2.9/24 dev wan0; ip address add 2001:db8::9/64 dev wan0 nodad");
        let (network, _) = lab.with_bridge().await;
        let mut dual = record("br-dual", &["172.20.0.0/16", "fd00:20::/64"]);
        dual.options.insert("com.docker.network.host_ipv4".into(), "192.0.2.9".into());
        dual.options.insert("com.docker.network.host_ipv6".into(), "2001:db8::9".into());
        network.ensure_network(&dual).await.unwrap();
        let container = start(&network, &mut setup(&dual, 2), &[]).await;
        lab.outside.serve_tcp(std::net::Ipv6Addr::UNSPECIFIED, 9000, "outside");
        assert_eq!(container.ask_tcp("192.0.2.100:9000").unwrap(), "outside 192.0.2.9");
        assert_eq!(container.ask_tcp("[2001:db8::100]:9000").unwrap(), "outside 2001:db8::9");
        network.remove_network(&dual.id).await.unwrap();
        assert!(!sh("nft list ruleset").contains("192.0.2.9"));
    });
}

/// As with a VLAN that the first of two networks made.
#[test]
fn an_interface_that_two_networks_hang_on_goes_with_the_last_of_them() {
    lab::run("bridges::an_interface_that_two_networks_hang_on_goes_with_the_last_of_them", |lab| async move {
        let parented = |name: &str, subnet| {
            let mut made = record(name, &[subnet]);
            (made.driver, made.bridge) = ("macvlan".into(), String::new());
            made.options.insert("parent".into(), "shared0".into());
            made
        };
        let (one, two) = (parented("one", "10.1.0.0/24"), parented("two", "10.2.0.0/24"));
        let engine = lab.settings().engine;
        sh("ip link add shared0 type veth peer name far0 && ip link set shared0 up");
        sh(&format!("ip link set shared0 alias gantry:{engine}:{}", one.id));
        let network = lab.open().await;
        network.ensure_network(&one).await.unwrap();
        network.ensure_network(&two).await.unwrap();
        network.remove_network(&one.id).await.unwrap();
        network.remove_network(&one.id).await.unwrap();
        assert!(sh("ip link show shared0").contains(&format!("alias gantry:{engine}:{}", two.id)));
        // A new gantryd finishes a removal before it has made anything sure.
        drop(network);
        let network = lab.open().await;
        network.expect_networks(std::slice::from_ref(&one));
        network.remove_network(&two.id).await.unwrap();
        assert!(sh("ip link show shared0").contains(&format!("alias gantry:{engine}:{}", one.id)));
        network.remove_network(&one.id).await.unwrap();
        assert!(!sh("ip -o link").contains("shared0"));
    });
}

#[test]
fn a_host_that_routes_ipv4_goes_on_when_we_switch_ipv6_on() {
    lab::run("bridges::a_host_that_routes_ipv4_goes_on_when_we_switch_ipv6_on", |lab| async move {
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        let network = lab.open().await;
        network.ensure_network(&record("br-dual", &["172.20.0.0/16", "fd00:20::/64"])).await.unwrap();
        assert_eq!(sh("cat /proc/sys/net/ipv6/conf/all/forwarding"), "1\n");
        let far = lab::far(&lab, &network).await;
        far.serve_tcp(std::net::Ipv6Addr::UNSPECIFIED, 80, "far");
        assert_eq!(lab.outside.ask_tcp("203.0.113.1:80").unwrap(), "far 192.0.2.100");
        assert!(lab.outside.ask_tcp("[2001:db8:1::100]:80").is_err(), "IPv6 was not routed before us");
    });
}

#[test]
fn forwarding_is_for_everybody_where_the_administrator_says_so() {
    lab::run("bridges::forwarding_is_for_everybody_where_the_administrator_says_so", |lab| async move {
        let settings = gantry_network::NetworkSettings { ip_forward_no_drop: true, ..lab.settings() };
        let network = gantry_network::KernelNetwork::open(settings).await.unwrap();
        network.ensure_network(&record("docker0", &["172.17.0.0/16"])).await.unwrap();
        let far = lab::far(&lab, &network).await;
        far.serve_tcp(Ipv4Addr::UNSPECIFIED, 80, "far");
        assert_eq!(lab.outside.ask_tcp("203.0.113.1:80").unwrap(), "far 192.0.2.100");
    });
}

/// Links, namespaces, mounts, elements of the table, and netd's descriptors.
fn traces(lab: &Lab) -> String {
    let folder = lab.folder.path().display();
    let netd = lab.netd_pid();
    lab::eventually("the kernel takes the links away", || sh("ip -o link | grep -c veth.*docker0 || true") == "0\n");
    let links = sh("ip -o link | wc -l");
    let pins = sh(&format!("ls {folder}/netns | wc -l; grep -c {folder} /proc/self/mountinfo || true"));
    let rules = sh("nft list ruleset");
    lab::eventually("netd closes its connections", || {
        sh(&format!("ls /proc/{netd}/fd | wc -l")).trim().parse::<u32>().unwrap() < 16
    });
    let descriptors = sh(&format!("ls /proc/{netd}/fd | wc -l; ls /proc/self/task | wc -l"));
    format!("{links}{pins}{rules}{descriptors}")
}
