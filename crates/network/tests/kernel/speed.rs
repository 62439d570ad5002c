//! Figures, printed: `cargo test --release -p gantry-network --test kernel speed -- --ignored --nocapture`.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use futures::future::join_all;
use gantry_domain::{network::Protocol::Tcp, ports::Network as _};

use crate::lab::{self, Namespace, publish, setup, start};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "prints figures; run it alone, in release"]
fn sandbox() {
    lab::run("speed::sandbox", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let (mut reserved, mut created, mut deleted, mut released) = (vec![], vec![], vec![], vec![]);
        for n in 0..101 {
            let mut one = setup(&bridge, n + 2);
            let begun = Instant::now();
            one.ports = network.reserve_ports(&one.id, &[publish(Tcp, None, 8080, 80)]).await.unwrap();
            reserved.push(begun.elapsed());
            let begun = Instant::now();
            network.create_sandbox(&one).await.unwrap();
            created.push(begun.elapsed());
            let begun = Instant::now();
            network.delete_sandbox(&one.id).await.unwrap();
            deleted.push(begun.elapsed());
            let begun = Instant::now();
            network.release_ports(&one.id).await.unwrap();
            released.push(begun.elapsed());
        }
        eprintln!("reserve_ports {:?}, create_sandbox {:?}", median(reserved), median(created));
        eprintln!("delete_sandbox {:?}, release_ports {:?}", median(deleted), median(released));
        let mut setups: Vec<_> = (0..20).map(|n| setup(&bridge, n + 110)).collect();
        let begun = Instant::now();
        join_all(setups.iter_mut().enumerate().map(|(n, one)| {
            let port = [publish(Tcp, None, 8000 + n as u16, 80)];
            let network = &network;
            async move { start(network, one, &port).await }
        }))
        .await;
        eprintln!("20 sandboxes at once {:?}", begun.elapsed());
        let other = lab::record("br-new", &["10.3.0.0/24"]);
        let begun = Instant::now();
        network.ensure_network(&other).await.unwrap();
        let made = begun.elapsed();
        let begun = Instant::now();
        network.remove_network(&other.id).await.unwrap();
        eprintln!("network made in {made:?}, removed in {:?}", begun.elapsed());
    });
}

#[test]
#[ignore = "prints figures; run it alone, in release"]
fn throughput() {
    lab::run("speed::throughput", |lab| async move {
        let (network, bridge) = lab.with_bridge().await;
        let mut web = setup(&bridge, 2);
        let container = start(&network, &mut web, &[publish(Tcp, None, 8080, 80)]).await;
        let listener = container.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || {
                    let (mut stream, mut buffer) = (stream.unwrap(), vec![0; 256 << 10]);
                    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
                });
            }
        });
        for (what, from, to) in [
            ("plain bridge", &lab.host, "172.17.0.2:80"),
            ("published, translated, from outside", &lab.outside, "192.0.2.1:8080"),
            ("published, relayed, over 127.0.0.1", &lab.host, "127.0.0.1:8080"),
        ] {
            eprintln!("{what}: {:.2} GB/s", gigabytes_a_second(from, to.parse().unwrap()));
        }
    });
}

fn gigabytes_a_second(from: &Namespace, to: SocketAddr) -> f64 {
    from.run(move || {
        let (mut stream, block) = (TcpStream::connect(to).unwrap(), vec![7; 256 << 10]);
        let (begun, mut sent) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(2) {
            stream.write_all(&block).unwrap();
            sent += block.len();
        }
        sent as f64 / begun.elapsed().as_secs_f64() / 1e9
    })
}
