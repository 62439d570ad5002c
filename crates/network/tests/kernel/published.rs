//! Published ports: who reaches them, and how they see each other.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpStream},
    thread,
};

use gantry_domain::{
    network::Protocol::{Tcp, Udp},
    ports::Network as _,
};

use crate::lab::{self, publish, record, setup, sh, start, stop};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[test]
fn a_published_port_answers_on_every_address_of_the_host() {
    lab::run("published::a_published_port_answers_on_every_address_of_the_host", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        let container = start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await;
        container.serve_tcp(ANY, 80, "web");
        for address in ["127.0.0.1:8080", "[::1]:8080", "192.0.2.1:8080", "[2001:db8::1]:8080", "172.17.0.1:8080"] {
            let said = lab.host.ask_tcp(address).unwrap_or_else(|error| panic!("{address}: {error}"));
            assert!(said.starts_with("web "), "{address}: {said}");
        }
        assert_eq!(lab.outside.ask_tcp("192.0.2.1:8080").unwrap(), "web 192.0.2.100", "the source is preserved");
        assert_eq!(lab.outside.ask_tcp("[2001:db8::1]:8080").unwrap(), "web 172.17.0.1", "relayed to IPv4");
        assert_eq!(container.ask_tcp("192.0.2.1:8080").unwrap(), "web 172.17.0.1", "hairpin");
        assert_eq!(sh("cat /proc/sys/net/ipv4/conf/all/route_localnet"), "0\n");
    });
}

#[test]
fn a_published_udp_port_answers_on_every_address_of_the_host() {
    lab::run("published::a_published_udp_port_answers_on_every_address_of_the_host", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut dns = setup(&bridge, 2);
        let container = start(&network, &mut dns, &[publish(Udp, None, 5300, 53)]).await;
        container.serve_udp(ANY, 53, "dns");
        for address in ["127.0.0.1:5300", "[::1]:5300", "192.0.2.1:5300", "[2001:db8::1]:5300"] {
            let said = lab.host.ask_udp(address).unwrap_or_else(|error| panic!("{address}: {error}"));
            assert!(said.starts_with("dns "), "{address}: {said}");
        }
        assert_eq!(lab.outside.ask_udp("192.0.2.1:5300").unwrap(), "dns 192.0.2.100");
    });
}

#[test]
fn a_udp_client_that_goes_on_sending_is_not_led_to_a_container_that_went() {
    lab::run("published::a_udp_client_that_goes_on_sending_is_not_led_to_a_container_that_went", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let client = lab.outside.run(|| {
            let socket = std::net::UdpSocket::bind("192.0.2.100:4000").unwrap();
            socket.set_read_timeout(Some(lab::PATIENCE)).unwrap();
            socket.connect("192.0.2.1:5300").unwrap();
            socket
        });
        let mut buffer = [0; 64];
        for (n, name) in [(2, "first"), (3, "second")] {
            let mut dns = setup(&bridge, n);
            let container = start(&network, &mut dns, &[publish(Udp, None, 5300, 53)]).await;
            container.serve_udp(ANY, 53, name);
            client.send(b"?").unwrap();
            let length = client.recv(&mut buffer).unwrap();
            assert!(buffer[..length].starts_with(name.as_bytes()));
            stop(&network, &dns.id).await;
        }
    });
}

#[test]
fn a_udp_client_that_goes_on_sending_follows_the_container_to_another_network() {
    lab::run(
        "published::a_udp_client_that_goes_on_sending_follows_the_container_to_another_network",
        |lab| async move {
            let (network, bridge) = lab.with_bridge().await;
            let other = record("br-other", &["172.18.0.0/16"]);
            network.ensure_network(&other).await.unwrap();
            let mut dns = setup(&bridge, 2);
            let container = start(&network, &mut dns, &[publish(Udp, None, 5300, 53)]).await;
            container.serve_udp(ANY, 53, "dns");
            let client = lab.outside.run(|| {
                let socket = std::net::UdpSocket::bind("192.0.2.100:4000").unwrap();
                socket.set_read_timeout(Some(lab::PATIENCE)).unwrap();
                socket.connect("192.0.2.1:5300").unwrap();
                socket
            });
            let mut buffer = [0; 64];
            client.send(b"?").unwrap();
            client.recv(&mut buffer).unwrap();
            dns.endpoints = vec![(other.clone(), lab::endpoint(&other, 2))];
            network.update_sandbox(&dns).await.unwrap();
            client.send(b"?").unwrap();
            let length = client.recv(&mut buffer).unwrap();
            assert!(buffer[..length].starts_with(b"dns"));
        },
    );
}

#[test]
fn a_port_published_at_one_address_answers_only_there() {
    lab::run("published::a_port_published_at_one_address_answers_only_there", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        let container = start(&network, &mut web, &[publish(Tcp, Some("192.0.2.1"), 8080, 80)]).await;
        container.serve_tcp(ANY, 80, "web");
        assert_eq!(lab.outside.ask_tcp("192.0.2.1:8080").unwrap(), "web 192.0.2.100");
        assert!(lab.host.ask_tcp("127.0.0.1:8080").is_err());
        assert!(lab.host.ask_tcp("172.17.0.1:8080").is_err());
    });
}

#[test]
fn an_ipv6_network_is_reached_without_the_relay() {
    lab::run("published::an_ipv6_network_is_reached_without_the_relay", |lab| async move {
        let network = lab.open().await;
        let dual = record("br-dual", &["172.20.0.0/16", "fd00:20::/64"]);
        network.ensure_network(&dual).await.unwrap();
        let mut web = setup(&dual, 2);
        let container = start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await;
        container.serve_tcp(Ipv6Addr::UNSPECIFIED, 80, "web");
        assert_eq!(lab.outside.ask_tcp("[2001:db8::1]:8080").unwrap(), "web 2001:db8::100");
        assert_eq!(lab.outside.ask_tcp("192.0.2.1:8080").unwrap(), "web 192.0.2.100");
        assert_eq!(lab.host.ask_tcp("[::1]:8080").unwrap(), "web fd00:20::1");
        lab.outside.serve_tcp(Ipv6Addr::UNSPECIFIED, 9000, "outside");
        assert_eq!(container.ask_tcp("[2001:db8::100]:9000").unwrap(), "outside 2001:db8::1");
    });
}

/// T45: only what is meant for this host is translated.
#[test]
fn transit_traffic_to_a_published_port_passes() {
    lab::run("published::transit_traffic_to_a_published_port_passes", |lab| async move {
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await.serve_tcp(ANY, 80, "web");
        let far = lab::far(&lab, &network).await;
        far.serve_tcp(ANY, 8080, "far");
        assert_eq!(lab.outside.ask_tcp("203.0.113.1:8080").unwrap(), "far 192.0.2.100");
        assert_eq!(lab.outside.ask_tcp("192.0.2.1:8080").unwrap(), "web 192.0.2.100");
    });
}

#[test]
fn the_relay_passes_each_end_of_stream_on() {
    lab::run("published::the_relay_passes_each_end_of_stream_on", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        let container = start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await;
        container.serve_tcp(ANY, 80, "echo");
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let heard = lab.host.run(move || {
            let mut stream = TcpStream::connect("127.0.0.1:8080").unwrap();
            let mut writer = stream.try_clone().unwrap();
            let writing = thread::spawn(move || {
                writer.write_all(&sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            writing.join().unwrap();
            heard
        });
        let start = heard.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        assert!(heard[start..] == expected[..], "{} bytes came back", heard.len() - start);
    });
}

#[test]
fn who_comes_before_the_container_waits() {
    lab::run("published::who_comes_before_the_container_waits", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        web.ports = network.reserve_ports(&web.id, &[publish(Tcp, None, 8080, 80)]).await.unwrap();
        let early = lab.host.spawn({
            let host = lab.host.clone();
            move || host.ask_tcp("127.0.0.1:8080")
        });
        // Served from the moment it is led to.
        let path = {
            let mut quiet = web.clone();
            quiet.ports.clear();
            network.create_sandbox(&quiet).await.unwrap()
        };
        lab::Namespace::at(&path).serve_tcp(ANY, 80, "web");
        network.adopt_sandbox(&web).await.unwrap();
        assert_eq!(early.join().unwrap().unwrap(), "web 172.17.0.1");
    });
}

#[test]
fn a_released_port_can_be_taken_again() {
    lab::run("published::a_released_port_can_be_taken_again", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        for n in 2..12 {
            let mut web = setup(&bridge, n);
            let wanted = [publish(Tcp, None, 8080, 80), publish(Udp, None, 8080, 80)];
            let container = start(&network, &mut web, &wanted).await;
            container.serve_tcp(ANY, 80, "web");
            lab.host.ask_tcp("127.0.0.1:8080").unwrap();
            lab.outside.ask_tcp("192.0.2.1:8080").unwrap();
            stop(&network, &web.id).await;
            assert!(lab.outside.ask_tcp("192.0.2.1:8080").is_err());
        }
    });
}
