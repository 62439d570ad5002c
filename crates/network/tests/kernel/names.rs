//! The name resolver in containers' namespaces, with `dig` as the judge.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use gantry_domain::{
    network::{
        NetworkRecord,
        names::{NameServer, NetworkNames, ResolverSetup},
    },
    ports::{Network as _, SandboxSetup},
};
use gantry_network::KernelNetwork;

use crate::lab::{self, Lab, Namespace, eventually, setup, sh};

fn place(network: &NetworkRecord, setup: &SandboxSetup, names: &[&str]) -> NetworkNames {
    let (_, endpoint) = &setup.endpoints[0];
    NetworkNames {
        id: network.id.clone(),
        network: network.name.clone(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ipv4: endpoint.ipv4.map(|net| net.addr()),
        ipv6: endpoint.ipv6.map(|net| net.addr()),
        aliases: BTreeMap::new(),
    }
}

fn names(place: NetworkNames, server: Option<&str>) -> ResolverSetup {
    let servers = server.iter().map(|address| NameServer { address: address.parse().unwrap(), zone: None, host: true });
    ResolverSetup { networks: vec![place], servers: servers.collect(), forward: server.is_some(), dotless_stay: false }
}

/// A container in the network that is called so.
async fn container(
    network: &KernelNetwork,
    record: &NetworkRecord,
    n: u8,
    called: &[&str],
) -> (SandboxSetup, Namespace) {
    let setup = setup(record, n);
    let namespace = Namespace::at(&network.create_sandbox(&setup).await.unwrap());
    network.resolve(&setup.id, &names(place(record, &setup, called), Some("127.0.0.53"))).await.unwrap();
    (setup, namespace)
}

async fn net(lab: &Lab) -> (KernelNetwork, NetworkRecord) {
    let (network, record) = (lab.open().await, lab::record("br-names", &["172.18.0.0/16", "fd00:18::/64"]));
    network.ensure_network(&record).await.unwrap();
    (network, record)
}

fn dig(namespace: &Namespace, question: &str) -> String {
    namespace.sh(&format!("dig @127.0.0.11 +time=2 +tries=1 {question}")).trim().to_owned()
}

fn short(namespace: &Namespace, question: &str) -> String {
    dig(namespace, &format!("+short {question}"))
}

fn status(namespace: &Namespace, question: &str) -> String {
    let said = dig(namespace, question);
    let status = said.lines().find_map(|line| line.split_once("status: ")).unwrap().1;
    let answers = said.split_once("ANSWER: ").unwrap().1.split(',').next().unwrap();
    format!("{} {answers}", status.split(',').next().unwrap())
}

/// A name server at this address of the host: each name is 192.0.2.7, with this time to live; counts what it is asked.
fn name_server(at: &str, ttl: u8) -> std::sync::Arc<std::sync::atomic::AtomicUsize> {
    let socket = UdpSocket::bind((at.parse::<Ipv4Addr>().unwrap(), 53)).unwrap();
    let asked = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
    let count = asked.clone();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let end = 12 + buffer[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let mut answer = buffer[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4, 192, 0, 2, 7]);
            let _ = socket.send_to(&answer, peer);
        }
    });
    asked
}

#[test]
fn containers_find_each_other_by_every_name() {
    lab::run("names::containers_find_each_other_by_every_name", |lab| async move {
        let (network, record) = net(&lab).await;
        let (web, web_inside) = container(&network, &record, 2, &["web", "www", "shared"]).await;
        let (_, db) = container(&network, &record, 3, &["db", "shared"]).await;
        for name in ["web", "www", "WEB", "web.br-names"] {
            assert_eq!(short(&db, name), "172.18.0.2", "{name}");
            assert_eq!(short(&db, &format!("+tcp {name}")), "172.18.0.2", "{name}");
            assert_eq!(short(&db, &format!("AAAA {name}")), "fd00:18::2", "{name}");
        }
        assert_eq!(short(&db, "-x 172.18.0.2"), "web.br-names.");
        assert_eq!(short(&db, "-x fd00:18::2"), "web.br-names.");
        assert_eq!(status(&db, "MX web"), "NOERROR 0");
        assert_eq!(short(&web_inside, "db"), "172.18.0.3");
        let both: Vec<String> = (0..4).map(|_| short(&db, "shared").lines().next().unwrap().to_owned()).collect();
        assert_eq!((both[0] == both[1], &both[0], &both[1]), (false, &both[2], &both[3]), "in turn");
        // Told again: another name in its place, at once.
        let renamed = names(place(&record, &web, &["site"]), None);
        network.resolve(&web.id, &renamed).await.unwrap();
        assert_eq!((short(&db, "site"), status(&db, "web.br-names")), ("172.18.0.2".into(), "SERVFAIL 0".into()));
        network.delete_sandbox(&web.id).await.unwrap();
        assert_eq!(status(&db, "site.br-names"), "SERVFAIL 0");
    });
}

#[test]
fn what_is_not_ours_goes_to_the_hosts_stub_and_is_kept_for_its_time() {
    lab::run("names::what_is_not_ours_goes_to_the_hosts_stub_and_is_kept_for_its_time", |lab| async move {
        let asked = name_server("127.0.0.53", 60);
        let asked = || asked.load(std::sync::atomic::Ordering::SeqCst);
        let (network, record) = net(&lab).await;
        let (_, web) = container(&network, &record, 2, &["web"]).await;
        let (_, db) = container(&network, &record, 3, &["db"]).await;
        assert_eq!(short(&web, "example.com"), "192.0.2.7");
        for _ in 0..3 {
            assert_eq!(short(&web, "eXample.com"), "192.0.2.7");
        }
        assert_eq!((short(&db, "example.com").as_str(), asked()), ("192.0.2.7", 1));
        // An internal network forwards nothing, also not by what is kept, nor by another type or TCP.
        let inside = lab::setup(&record, 9);
        let closed = Namespace::at(&network.create_sandbox(&inside).await.unwrap());
        let mut setup = names(place(&record, &inside, &["closed"]), Some("127.0.0.53"));
        setup.forward = false;
        network.resolve(&inside.id, &setup).await.unwrap();
        for question in ["example.com", "+tcp example.com", "TXT secret.example.com", "-x 8.8.8.8", "CH TXT id.server"]
        {
            assert_eq!(status(&closed, question), "SERVFAIL 0", "{question}");
        }
        assert_eq!((short(&closed, "web").as_str(), asked()), ("172.18.0.2", 1));
        // Where the client completes names itself, those without a dot stay.
        setup.forward = true;
        setup.dotless_stay = true;
        network.resolve(&inside.id, &setup).await.unwrap();
        assert_eq!((status(&closed, "intranet"), asked()), ("NOERROR 0".into(), 1));
        assert_eq!((short(&closed, "other.example.com").as_str(), asked()), ("192.0.2.7", 2));
    });
}

/// A name server in a namespace: over UDP it says that there is more, over TCP it says all.
fn truncating_server(namespace: &Namespace, at: &'static str) {
    let answer = |question: &[u8], truncated: bool| {
        let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let mut answer = question[..end].to_vec();
        let (flags, count) = if truncated { (0x83, 0) } else { (0x81, 40) };
        answer[2..12].copy_from_slice(&[flags, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
        for n in 0..count {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, n]);
        }
        answer
    };
    let (udp, tcp) =
        namespace.run(move || (UdpSocket::bind((at, 53)).unwrap(), std::net::TcpListener::bind((at, 53)).unwrap()));
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&answer(&buffer[..length], true), peer);
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                let answer = answer(&question, false);
                stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        }
    });
}

#[test]
fn a_server_of_the_containers_own_is_asked_from_its_namespace_and_whole_answers_come_by_tcp() {
    let name = "names::a_server_of_the_containers_own_is_asked_from_its_namespace_and_whole_answers_come_by_tcp";
    lab::run(name, |lab| async move {
        let (network, record) = net(&lab).await;
        let (web, inside) = container(&network, &record, 2, &["web"]).await;
        let (_, peer) = container(&network, &record, 3, &["peer"]).await;
        // Of the host this address is nobody's.
        truncating_server(&peer, "172.18.0.3");
        let mut setup = names(place(&record, &web, &["web"]), None);
        setup.servers = vec![NameServer { address: "172.18.0.3".parse().unwrap(), zone: None, host: false }];
        setup.forward = true;
        network.resolve(&web.id, &setup).await.unwrap();
        assert_eq!(short(&inside, "+tcp big.example.com").lines().count(), 40);
        assert!(
            dig(&inside, "+ignore +noedns large.example.com").contains(" tc "),
            "the client is told to come by TCP"
        );
        assert_eq!(short(&inside, "large.example.com").lines().count(), 40, "dig does");
        // What only the container's own namespace reaches is not looked for in the host's.
        setup.servers = vec![NameServer { address: "127.0.0.99".parse().unwrap(), zone: None, host: false }];
        network.resolve(&web.id, &setup).await.unwrap();
        let _host = name_server("127.0.0.99", 60);
        assert_eq!(status(&inside, "hosts.example.com"), "SERVFAIL 0");
    });
}

#[test]
fn a_dead_server_does_not_hold_up_the_living_one() {
    lab::run("names::a_dead_server_does_not_hold_up_the_living_one", |lab| async move {
        let _asked = name_server("127.0.0.53", 60);
        let silent = UdpSocket::bind("127.0.0.54:53").unwrap();
        let (network, record) = net(&lab).await;
        let (web, inside) = container(&network, &record, 2, &["web"]).await;
        let told = |servers: &[&str]| {
            let mut setup = names(place(&record, &web, &["web"]), None);
            setup.forward = true;
            setup.servers = servers
                .iter()
                .map(|address| NameServer { address: address.parse().unwrap(), zone: None, host: true })
                .collect();
            setup
        };
        // Nobody listens at the first: the next one at once.
        network.resolve(&web.id, &told(&["127.0.0.55", "127.0.0.53"])).await.unwrap();
        let begun = Instant::now();
        assert_eq!(short(&inside, "refused.example.com"), "192.0.2.7");
        assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
        // The first one is silent: the next one while the client still waits.
        network.resolve(&web.id, &told(&["127.0.0.54", "127.0.0.53"])).await.unwrap();
        assert_eq!(short(&inside, "silent.example.com"), "192.0.2.7");
        drop(silent);
        network.resolve(&web.id, &told(&["127.0.0.55"])).await.unwrap();
        assert_eq!(status(&inside, "none.example.com"), "SERVFAIL 0");
        assert_eq!(short(&inside, "web"), "172.18.0.2");
    });
}

#[test]
fn names_are_answered_while_gantryd_is_dead_and_after_each_death() {
    lab::run("names::names_are_answered_while_gantryd_is_dead_and_after_each_death", |lab| async move {
        let (network, record) = net(&lab).await;
        let (web, _) = container(&network, &record, 2, &["web"]).await;
        let (db, inside) = container(&network, &record, 3, &["db"]).await;
        // netd alone: the next one has the same sockets, and what was asked meanwhile waited in them.
        lab.kill_netd();
        assert_eq!(short(&inside, "web"), "172.18.0.2");
        // gantryd alone.
        drop(network);
        assert_eq!(short(&inside, "web"), "172.18.0.2");
        // A new gantryd knows what the netd it finds has been told, and hands it on.
        let network = lab.open().await;
        lab.kill_netd();
        eventually("the next netd answers", || {
            inside.sh("dig @127.0.0.11 +time=1 +tries=1 +short web || true").trim() == "172.18.0.2"
        });
        assert!(network.sandboxes().await.unwrap().contains(&web.id));
        // Both: the new gantryd makes the resolver anew, where the flows of clients lead to.
        drop(network);
        lab.kill_netd();
        let network = lab.open().await;
        for (setup, name) in [(&web, "web"), (&db, "db")] {
            network.adopt_sandbox(setup).await.unwrap();
            network.resolve(&setup.id, &names(place(&record, setup, &[name]), None)).await.unwrap();
        }
        assert_eq!(short(&inside, "web"), "172.18.0.2");
        for setup in [&web, &db] {
            network.delete_sandbox(&setup.id).await.unwrap();
        }
        drop(inside);
        eventually("no namespace is left", || sh("ip -o link show type veth | wc -l").trim() == "1");
    });
}

#[test]
fn a_container_may_serve_names_itself() {
    lab::run("names::a_container_may_serve_names_itself", |lab| async move {
        let (network, record) = net(&lab).await;
        let (_, inside) = container(&network, &record, 2, &["web"]).await;
        inside.serve_udp(Ipv4Addr::UNSPECIFIED, 53, "own");
        inside.serve_tcp(Ipv4Addr::UNSPECIFIED, 53, "own");
        assert_eq!(short(&inside, "web"), "172.18.0.2");
        assert!(inside.ask_udp("127.0.0.1:53").unwrap().starts_with("own"));
        assert!(inside.ask_tcp("172.18.0.2:53").unwrap().starts_with("own"));
    });
}

/// What is asked of a netd that has just taken over waits until it knows all the containers that the last one knew.
#[test]
fn a_netd_that_takes_over_denies_no_name() {
    lab::run("names::a_netd_that_takes_over_denies_no_name", |lab| async move {
        let (network, record) = net(&lab).await;
        let (_, inside) = container(&network, &record, 2, &["asks"]).await;
        for n in 3..40 {
            let setup = setup(&record, n);
            network.create_sandbox(&setup).await.unwrap();
            network.resolve(&setup.id, &names(place(&record, &setup, &[&format!("c{n}")]), None)).await.unwrap();
        }
        let mut answers = 0;
        for _ in 0..3 {
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(30));
                    lab.kill_netd();
                });
                answers += inside.run(|| ask_without_pause("c39", Duration::from_millis(400)));
            });
        }
        assert!(answers > 100, "{answers}");
        lab.kill_netd();
        assert_eq!(short(&inside, "+tcp c39"), "172.18.0.39");
    });
}

/// Asks for an address the whole time, and returns how many answers came. Each one names an address.
fn ask_without_pause(name: &str, time: Duration) -> usize {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    socket.connect("127.0.0.11:53").unwrap();
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, u8::try_from(name.len()).unwrap()];
    query.extend([name.as_bytes(), b"\0\0\x01\0\x01"].concat());
    let (begun, mut buffer, mut answers) = (Instant::now(), [0; 512], 0);
    while begun.elapsed() < time {
        let _ = socket.send(&query);
        if socket.recv(&mut buffer).is_ok() {
            assert_eq!((buffer[3] & 15, buffer[7]), (0, 1), "code and answers");
            answers += 1;
        }
    }
    answers
}

/// The median of 10,000 warm look-ups of one client; 200 µs on a machine that does nothing else.
#[test]
fn a_look_up_takes_less_than_a_blink() {
    lab::run("names::a_look_up_takes_less_than_a_blink", |lab| async move {
        let (network, record) = net(&lab).await;
        let (_, inside) = container(&network, &record, 2, &["web"]).await;
        let mut times = inside.run(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(lab::PATIENCE)).unwrap();
            socket.connect("127.0.0.11:53").unwrap();
            let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3];
            query.extend(b"web\0\0\x01\0\x01");
            let mut buffer = [0; 512];
            let one = |n: u16| {
                query[..2].copy_from_slice(&n.to_be_bytes());
                let begun = Instant::now();
                socket.send(&query).unwrap();
                let length = socket.recv(&mut buffer).unwrap();
                let took = begun.elapsed();
                assert_eq!((&buffer[..2], &buffer[length - 4..length]), (&n.to_be_bytes()[..], &[172, 18, 0, 2][..]));
                took
            };
            (0..10_000).map(one).collect::<Vec<Duration>>()
        });
        times.sort();
        eprintln!("look-up: median {:?}, 99 of 100 within {:?}", times[5000], times[9900]);
        assert!(times[5000] < Duration::from_micros(1000), "{:?}", times[5000]);
    });
}
