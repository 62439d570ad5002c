//! Networks of plugins: an interface of the host is moved in, set up, and given back under its own name.

use std::net::{IpAddr, Ipv4Addr};

use gantry_domain::{
    network::lent::{Lent, StaticRoute},
    ports::{Network as _, SandboxSetup},
};

use crate::lab::{self, Namespace, record, setup, sh};

/// A sandbox with one endpoint of a plugin, which lends `lent0`, the end of a pair.
fn lent_setup() -> SandboxSetup {
    let network = gantry_domain::network::NetworkRecord { driver: "far".into(), ..record("", &["10.5.0.0/24"]) };
    let mut made = setup(&network, 2);
    let endpoint = &mut made.endpoints[0].1;
    endpoint.ipv4 = Some("10.5.0.2/24".parse().unwrap());
    endpoint.ipv4_gateway = Some(Ipv4Addr::new(10, 5, 0, 1));
    endpoint.mac = "02:ee:00:00:00:01".into();
    let route = |to: &str, next_hop: Option<&str>| StaticRoute {
        destination: to.parse().unwrap(),
        next_hop: next_hop.map(|text| text.parse::<IpAddr>().unwrap()),
    };
    endpoint.lent = Some(Box::new(Lent {
        driver: "far".into(),
        source: "lent0".into(),
        // The one that needs the other comes first.
        routes: vec![route("198.51.100.0/24", Some("203.0.113.1")), route("203.0.113.0/24", None)],
        ..Lent::default()
    }));
    made
}

#[test]
fn a_lent_interface_comes_into_the_sandbox_and_goes_back() {
    lab::run("lent::a_lent_interface_comes_into_the_sandbox_and_goes_back", |lab| async move {
        let network = lab.open().await;
        sh("ip link add lent0 type veth peer name kept0");
        let full = lent_setup();
        network.ensure_network(&full.endpoints[0].0).await.unwrap();
        let path = network.create_sandbox(&SandboxSetup { endpoints: Vec::new(), ..full.clone() }).await.unwrap();
        let inside = Namespace::at(&path);
        for _ in 0..2 {
            network.update_sandbox(&full).await.unwrap();
            let seen = inside.sh("ip -o addr show eth0; ip -o link show eth0; ip route");
            for part in ["10.5.0.2/24", "02:ee:00:00:00:01", "default via 10.5.0.1 dev eth0", "203.0.113.0/24 dev eth0"]
            {
                assert!(seen.contains(part), "{part}: {seen}");
            }
            assert!(seen.contains("198.51.100.0/24 via 203.0.113.1"), "{seen}");
        }
        // The next gantryd finds it joined.
        network.adopt_sandbox(&full).await.unwrap();
        for _ in 0..2 {
            network.return_interface(&full.id, "eth0", "lent0").await.unwrap();
            assert!(sh("ip -o link show lent0").contains("02:ee:00:00:00:01"));
            assert_eq!(inside.sh("ip -o link show eth0 2>/dev/null || true"), "");
        }
        network.update_sandbox(&full).await.unwrap();
        network.return_interface(&full.id, "eth0", "lent0").await.unwrap();
        network.delete_sandbox(&full.id).await.unwrap();
        network.return_interface(&full.id, "eth0", "lent0").await.unwrap();
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    lab::run("lent::an_interface_that_is_not_there_is_named", |lab| async move {
        let network = lab.open().await;
        let full = lent_setup();
        network.create_sandbox(&SandboxSetup { endpoints: Vec::new(), ..full.clone() }).await.unwrap();
        let error = network.update_sandbox(&full).await.unwrap_err();
        assert!(error.message().starts_with("failed to get link by name \"lent0\""), "{error}");
        network.delete_sandbox(&full.id).await.unwrap();
    });
}
