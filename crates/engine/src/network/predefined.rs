//! The three networks that every engine has: `bridge`, `host` and `none`.

use std::collections::BTreeMap;

use gantry_domain::{
    Result,
    network::{IpamConfig, NetworkRecord, ipam},
    ports::Write,
    settings::Settings,
};
use ipnet::IpNet;
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
    /// `--bip6`; with `--ipv6` only, as the next one.
    pub address_v6: Option<ipnet::Ipv6Net>,
    /// `--fixed-cidr-v6`.
    pub range_v6: Option<ipnet::Ipv6Net>,
    /// Docker's default pools, or `--default-address-pool`.
    pub pools: Vec<ipam::Pool>,
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
    let kept: Vec<IpNet> = bridge.ipam.config.iter().flatten().filter_map(IpamConfig::net).collect();
    let mut taken = Vec::new();
    if kept.is_empty() || (settings.ipv6 && kept.len() < 2) {
        taken = parts.ports.network.host_routes().await?;
        taken.extend(parts.claims.lock().subnets());
    }
    let v4 = Wanted {
        address: wanted.address.map(IpNet::from),
        range: wanted.range.map(IpNet::from),
        kept: kept.iter().find(|net| net.addr().is_ipv4()).copied(),
    };
    let mut pools = vec![v4.pool(|| Ok(ipam::next_pool(&wanted.pools, &taken)?.into()))?];
    if settings.ipv6 {
        let v6 = Wanted {
            address: wanted.address_v6.map(IpNet::from),
            range: wanted.range_v6.map(IpNet::from),
            kept: kept.iter().find(|net| net.addr().is_ipv6()).copied(),
        };
        pools.push(v6.pool(|| Ok(ipam::next_pool_v6(&wanted.pools, &parts.id.0, &taken)?.into()))?);
    }
    bridge.enable_ipv6 = settings.ipv6;
    bridge.ipam.config = Some(pools);
    Ok(())
}

/// What is said of one family of the default bridge, and what it has.
struct Wanted {
    address: Option<IpNet>,
    range: Option<IpNet>,
    kept: Option<IpNet>,
}

impl Wanted {
    fn pool(&self, next: impl FnOnce() -> Result<IpNet>) -> Result<IpamConfig> {
        let within = |subnet: &IpNet| self.range.is_none_or(|range| subnet.contains(&range));
        let subnet = match (self.address, self.kept.filter(within), self.range) {
            (Some(address), _, _) => address.trunc(),
            (None, Some(kept), _) => kept,
            // A range alone is the whole network.
            (None, None, Some(range)) => range,
            (None, None, None) => next()?,
        };
        let gateway = self.address.map(|address| address.addr()).or_else(|| ipam::gateway(subnet, None, &[]));
        Ok(IpamConfig {
            subnet: subnet.to_string(),
            ip_range: self.range.map(|range| range.to_string()).unwrap_or_default(),
            gateway: gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            aux_address: BTreeMap::new(),
        })
    }
}

/// Makes a network's record durable and known.
async fn keep(parts: &Parts, mut network: NetworkRecord) -> Result<()> {
    network.generation += 1;
    parts.ports.store.commit(vec![Write::Network(network.clone())]).await?;
    parts.claims.lock().networks.insert(network.id.clone(), network);
    Ok(())
}
