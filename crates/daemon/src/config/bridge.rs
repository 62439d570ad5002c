//! The addresses of the default bridge and of networks to come.

use ipnet::Ipv4Net;
use serde_json::Value;

use crate::config::merge::Values;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// `--bip`: the bridge's own address, with the network's prefix.
    pub address: Option<Ipv4Net>,
    /// `--fixed-cidr`: where containers get theirs from.
    pub range: Option<Ipv4Net>,
    /// Base and length of each network's prefix; none for the engine's own choice.
    pub pools: Vec<(Ipv4Net, u8)>,
}

pub fn bridge(values: &Values) -> Result<Bridge, String> {
    let address = net(values, "bip")?;
    let range = net(values, "fixed-cidr")?;
    if let (Some(address), Some(range)) = (address, range)
        && !address.trunc().contains(&range.trunc())
    {
        return Err(format!("fixed-cidr {range} is not part of the bridge's network {}", address.trunc()));
    }
    Ok(Bridge { address, range: range.map(|range| range.trunc()), pools: pools(values)? })
}

fn net(values: &Values, key: &str) -> Result<Option<Ipv4Net>, String> {
    let text = values.text(key);
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("invalid CIDR address: {text}"))
}

fn pools(values: &Values) -> Result<Vec<(Ipv4Net, u8)>, String> {
    let Value::Array(given) = values.get("default-address-pools") else { return Ok(Vec::new()) };
    if given.is_empty() {
        return Ok(Vec::new());
    }
    given
        .iter()
        .map(|pool| {
            let base = pool["base"].as_str().unwrap_or_default();
            let net: Ipv4Net = base.parse().map_err(|_| format!("invalid base pool \"{base}\": gantryd takes IPv4"))?;
            let size = pool["size"].as_u64().and_then(|size| u8::try_from(size).ok()).unwrap_or_default();
            if size > 30 || size < net.prefix_len() {
                return Err(format!("invalid pools size: {size} for {base}"));
            }
            Ok((net.trunc(), size))
        })
        .collect()
}
