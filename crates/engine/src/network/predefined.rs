//! The three networks that every engine has: `bridge`, `host` and `none`.

use std::collections::BTreeMap;

use gantry_domain::{
    Result,
    network::{IpamConfig, NetworkRecord, ipam},
    ports::Write,
    settings::Settings,
};
use jiff::Timestamp;

use crate::parts::Parts;

/// What the daemon decides about the default bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultBridge {
    /// Name of the interface: `docker0`, or `gantry0` where another engine has that.
    pub interface: String,
    /// `--bip`: address and prefix of the bridge itself.
    pub address: Option<ipnet::Ipv4Net>,
    /// `--fixed-cidr`.
    pub range: Option<ipnet::Ipv4Net>,
    /// Docker's default pools, or `--default-address-pool`: base and prefix length of each part.
    pub pools: Vec<(ipnet::Ipv4Net, u8)>,
}

/// Makes the three where they are missing, and brings the bridge up on the kernel.
pub(crate) async fn ensure(parts: &Parts, wanted: &DefaultBridge) -> Result<()> {
    let settings = parts.settings.load_full();
    for (name, driver) in [("none", "null"), ("host", "host")] {
        if parts.claims.lock().network(name).is_err() {
            keep(parts, plain(name, driver)).await?;
        }
    }
    let known = parts.claims.lock().network("bridge").ok().cloned();
    let bridge = match known {
        Some(mut known) => {
            let before = known.clone();
            apply(parts, &mut known, wanted, &settings).await?;
            if known != before {
                keep(parts, known.clone()).await?;
            }
            known
        }
        None => {
            let mut bridge = plain("bridge", "bridge");
            apply(parts, &mut bridge, wanted, &settings).await?;
            keep(parts, bridge.clone()).await?;
            bridge
        }
    };
    parts.ports.network.ensure_network(&bridge).await
}

fn plain(name: &str, driver: &str) -> NetworkRecord {
    NetworkRecord {
        created: Timestamp::now(),
        driver: driver.to_owned(),
        predefined: true,
        ..NetworkRecord::named(name)
    }
}

/// Brings the record of the default bridge to what the configuration says. A subnet once chosen stays.
async fn apply(parts: &Parts, bridge: &mut NetworkRecord, wanted: &DefaultBridge, settings: &Settings) -> Result<()> {
    bridge.bridge.clone_from(&wanted.interface);
    let option = |value: bool| value.to_string();
    bridge.options = BTreeMap::from([
        ("com.docker.network.bridge.default_bridge".into(), "true".into()),
        ("com.docker.network.bridge.enable_icc".into(), option(settings.icc)),
        ("com.docker.network.bridge.enable_ip_masquerade".into(), option(settings.ip_masq)),
        (
            "com.docker.network.bridge.host_binding_ipv4".into(),
            settings.default_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
        ),
        ("com.docker.network.bridge.name".into(), wanted.interface.clone()),
        ("com.docker.network.driver.mtu".into(), if settings.mtu == 0 { 1500 } else { settings.mtu }.to_string()),
    ]);
    let kept = bridge.ipam.config.as_deref().and_then(|pools| pools.first()).map(|pool| pool.subnet.clone());
    let kept = kept.and_then(|text| text.parse::<ipnet::Ipv4Net>().ok());
    let (subnet, gateway) = match (wanted.address, kept, wanted.range) {
        (Some(address), _, _) => (address.trunc(), address.addr()),
        (None, Some(subnet), None) => (subnet, first_host(subnet)),
        (None, Some(subnet), Some(range)) if subnet.contains(&range) => (subnet, first_host(subnet)),
        // A range alone is the whole network.
        (None, _, Some(range)) => (range, first_host(range)),
        (None, None, None) => {
            let mut taken = parts.ports.network.host_routes().await?;
            taken.extend(parts.claims.lock().subnets());
            let subnet = ipam::next_pool(&wanted.pools, &taken)?;
            (subnet, first_host(subnet))
        }
    };
    bridge.ipam.config = Some(vec![IpamConfig {
        subnet: subnet.to_string(),
        ip_range: wanted.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: gateway.to_string(),
        aux_address: BTreeMap::new(),
    }]);
    Ok(())
}

fn first_host(subnet: ipnet::Ipv4Net) -> std::net::Ipv4Addr {
    subnet.hosts().next().unwrap_or_else(|| subnet.addr())
}

/// Makes a network's record durable and known.
async fn keep(parts: &Parts, mut network: NetworkRecord) -> Result<()> {
    network.generation += 1;
    parts.ports.store.commit(vec![Write::Network(network.clone())]).await?;
    parts.claims.lock().networks.insert(network.id.clone(), network);
    Ok(())
}
