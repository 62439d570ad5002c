//! What dockerd refuses of the addresses of a network that is to be made, in its words.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Ipam, IpamConfig};
use crate::{Error, Result};

/// Names that nobody may give a network.
pub fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "default")
}

/// Every pool by itself. Pools of a family that is off are looked at only for being pools.
pub fn ipam(ipam: &Ipam, enable_ipv6: bool) -> Result<()> {
    let mut errors = Vec::new();
    for pool in ipam.config.iter().flatten() {
        pool_errors(pool, enable_ipv6, &mut errors);
    }
    match errors.as_slice() {
        [] => Ok(()),
        errors => Err(Error::invalid(format!("invalid network config:\n{}", errors.join("\n")))),
    }
}

fn pool_errors(pool: &IpamConfig, enable_ipv6: bool, errors: &mut Vec<String>) {
    let text = &pool.subnet;
    let Ok(subnet) = text.parse::<IpNet>() else {
        errors.push(format!("invalid subnet {text}: invalid CIDR block notation"));
        return;
    };
    if subnet.addr().is_ipv6() && !enable_ipv6 {
        return;
    }
    if subnet != subnet.trunc() {
        errors.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
    }
    range_errors(&pool.ip_range, subnet, errors);
    if let Err(cause) = address(&pool.gateway, subnet) {
        errors.push(format!("invalid gateway {}: {cause}", pool.gateway));
    }
    for (name, text) in &pool.aux_address {
        if let Err(cause) = address(text, subnet) {
            errors.push(format!("invalid auxiliary address {name}: {cause}"));
        }
    }
}

fn family(net: &IpNet) -> &'static str {
    if net.addr().is_ipv4() { "IPv4" } else { "IPv6" }
}

fn range_errors(text: &str, subnet: IpNet, errors: &mut Vec<String>) {
    if text.is_empty() {
        return;
    }
    let Ok(range) = text.parse::<IpNet>() else {
        errors.push(format!("invalid ip-range {text}: invalid CIDR block notation"));
        return;
    };
    if range.addr().is_ipv4() != subnet.addr().is_ipv4() {
        errors.push(format!("invalid ip-range {text}: parent subnet is an {} block", family(&subnet)));
        return;
    }
    if range.prefix_len() < subnet.prefix_len() {
        errors.push(format!("invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range != range.trunc() {
        errors.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !subnet.contains(&range.trunc()) && !range.contains(&subnet) {
        errors.push(format!("invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"));
    }
}

fn address(text: &str, subnet: IpNet) -> std::result::Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let address: IpAddr = text.parse().map_err(|_| "invalid address".to_owned())?;
    if address.is_ipv4() != subnet.addr().is_ipv4() {
        return Err(format!("parent subnet is an {} block", family(&subnet)));
    }
    if !subnet.contains(&address) {
        return Err(format!("parent subnet {subnet} doesn't contain this address"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn errors(subnet: &str, range: &str, gateway: &str) -> String {
        let pool = IpamConfig {
            subnet: subnet.into(),
            ip_range: range.into(),
            gateway: gateway.into(),
            ..IpamConfig::default()
        };
        let checked = ipam(&Ipam { config: Some(vec![pool]), ..Ipam::default() }, true);
        checked.map_or_else(|error| error.message().to_owned(), |()| String::new())
    }

    #[test]
    fn host_bits_a_foreign_gateway_and_a_foreign_range_are_named_together() {
        assert_eq!(
            errors("10.0.0.1/24", "10.1.0.0/25", "10.0.1.1"),
            "invalid network config:\n\
             invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24\n\
             invalid ip-range 10.1.0.0/25: parent subnet 10.0.0.1/24 doesn't contain ip-range\n\
             invalid gateway 10.0.1.1: parent subnet 10.0.0.1/24 doesn't contain this address"
        );
        assert_eq!(errors("10.0.0.0/24", "10.0.0.128/25", "10.0.0.200"), "");
        assert_eq!(errors("x", "", ""), "invalid network config:\ninvalid subnet x: invalid CIDR block notation");
    }

    #[test]
    fn families_do_not_mix() {
        assert!(errors("fd00::/64", "10.0.0.0/24", "").contains("parent subnet is an IPv6 block"));
        assert!(errors("10.0.0.0/24", "", "fd00::1").contains("parent subnet is an IPv4 block"));
    }
}
