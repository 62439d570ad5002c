//! The three networks that every engine has: `bridge`, `host` and `none`.

use std::collections::BTreeMap;

use gantry_domain::{
    Error, Result,
    network::{
        IpamConfig, NetworkRecord,
        ipam::{self, BridgePool},
    },
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
    let of_family = |v6: bool| kept.iter().find(|net| net.addr().is_ipv6() == v6).copied();
    let mut others = parts.claims.lock().subnets();
    others.retain(|net| !kept.contains(net));
    let mut taken = others.clone();
    if of_family(false).is_none() || (settings.ipv6 && of_family(true).is_none()) {
        taken.extend(parts.ports.network.host_routes().await?);
    }
    let (address, range) = (wanted.address.map(IpNet::from), wanted.range.map(IpNet::from));
    let v4 = BridgePool { address, range, kept: of_family(false) };
    let mut pools = vec![v4.pool(|| ipam::next_pool(&wanted.pools, &taken))?];
    if settings.ipv6 {
        let (address, range) = (wanted.address_v6.map(IpNet::from), wanted.range_v6.map(IpNet::from));
        let v6 = BridgePool { address, range, kept: of_family(true) };
        pools.push(v6.pool(|| ipam::next_pool_v6(&wanted.pools, &parts.id.0, &taken))?);
    }
    if let Some(pool) = pools.iter().find(|pool| pool.net().is_some_and(|net| ipam::overlaps(net, &others))) {
        return Err(Error::invalid(format!(
            "invalid pool request: Pool overlaps with other one on this address space: {} of the default bridge",
            pool.subnet
        )));
    }
    if bridge.ipam.config.as_ref() != Some(&pools) && parts.claims.lock().is_joined(&bridge.id) {
        // dockerd's words. They live in it as it is.
        parts.warn(
            "WARNING: there are running containers, updated network configuration will not take affect".to_owned(),
        );
        return Ok(());
    }
    bridge.enable_ipv6 = settings.ipv6;
    bridge.ipam.config = Some(pools);
    Ok(())
}

/// Makes a network's record durable and known.
async fn keep(parts: &Parts, mut network: NetworkRecord) -> Result<()> {
    network.generation += 1;
    parts.ports.store.commit(vec![Write::Network(network.clone())]).await?;
    parts.claims.lock().networks.insert(network.id.clone(), network);
    Ok(())
}
