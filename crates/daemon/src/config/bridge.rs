//! The addresses of the default bridge and of networks to come.

use std::{fmt::Debug, str::FromStr};

use gantry_domain::network::ipam::Pool;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::Value;

use crate::config::merge::Values;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// `--bip`: the bridge's own address, with the network's prefix.
    pub address: Option<Ipv4Net>,
    /// `--fixed-cidr`: where containers get theirs from.
    pub range: Option<Ipv4Net>,
    /// `--bip6`.
    pub address_v6: Option<Ipv6Net>,
    /// `--fixed-cidr-v6`.
    pub range_v6: Option<Ipv6Net>,
    /// None for the engine's own choice.
    pub pools: Vec<Pool>,
}

pub fn bridge(values: &Values) -> Result<Bridge, String> {
    let bridge = Bridge {
        address: net(values, "bip")?,
        range: net::<Ipv4Net>(values, "fixed-cidr")?.map(|range| range.trunc()),
        address_v6: net(values, "bip6")?,
        range_v6: net::<Ipv6Net>(values, "fixed-cidr-v6")?.map(|range| range.trunc()),
        pools: pools(values)?,
    };
    check("fixed-cidr", bridge.address.map(IpNet::from), bridge.range.map(IpNet::from))?;
    check("fixed-cidr-v6", bridge.address_v6.map(IpNet::from), bridge.range_v6.map(IpNet::from))?;
    Ok(bridge)
}

fn check(key: &str, address: Option<IpNet>, range: Option<IpNet>) -> Result<(), String> {
    match (address, range) {
        (Some(address), Some(range)) if !address.trunc().contains(&range) => {
            Err(format!("{key} {range} is not part of the bridge's network {}", address.trunc()))
        }
        _ => Ok(()),
    }
}

fn net<T: FromStr + Debug>(values: &Values, key: &str) -> Result<Option<T>, String> {
    let text = values.text(key);
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("invalid CIDR address: {text}"))
}

fn pools(values: &Values) -> Result<Vec<Pool>, String> {
    let Value::Array(given) = values.get("default-address-pools") else { return Ok(Vec::new()) };
    given.iter().map(pool).collect()
}

fn pool(given: &Value) -> Result<Pool, String> {
    let base = given["base"].as_str().unwrap_or_default();
    let net: IpNet = base.parse().map_err(|_| format!("invalid base pool \"{base}\""))?;
    let size = given["size"].as_u64().and_then(|size| u8::try_from(size).ok()).unwrap_or_default();
    // A network has an address of its own, a gateway's and a container's.
    if size > net.max_prefix_len() - 2 || size < net.prefix_len() {
        return Err(format!("invalid pools size: {size} for {base}"));
    }
    Ok((net.trunc(), size))
}
