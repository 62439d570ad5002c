//! Address arithmetic: the next free address of a pool, the next free pool.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use crate::{Error, Result};

/// The first address of `range` (inside `subnet`) that is not network, broadcast, gateway, auxiliary or used,
/// searching on from `after` so that an address is not reused at once. `InvalidParameter`
/// `no available IPv4 addresses on this network's address pools: …` when none is left. `used` must answer for the
/// gateway and the auxiliary addresses too.
pub fn next_address(
    subnet: Ipv4Net,
    range: Ipv4Net,
    used: &dyn Fn(Ipv4Addr) -> bool,
    after: Option<Ipv4Addr>,
) -> Result<Ipv4Addr> {
    let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
    let start = match after.map(u32::from) {
        Some(after) if (first..last).contains(&after) => after + 1,
        _ => first,
    };
    // A /31 and a /32 have no address to spare for network and broadcast.
    let reserved =
        |address: Ipv4Addr| subnet.prefix_len() < 31 && (address == subnet.network() || address == subnet.broadcast());
    (start..=last)
        .chain(first..start)
        .map(Ipv4Addr::from)
        .find(|address| subnet.contains(address) && !reserved(*address) && !used(*address))
        .ok_or_else(|| Error::invalid(format!("no available IPv4 addresses on this network's address pools: {subnet}")))
}

/// Docker's predefined pools: each a block and the size it is cut into.
pub fn default_pools() -> Vec<(Ipv4Net, u8)> {
    let pool = |a, b, length, size| {
        let block = Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), length).expect("prefix lengths here are below 33");
        (block, size)
    };
    let mut pools: Vec<_> = (17..32).map(|second| pool(172, second, 16, 16)).collect();
    pools.push(pool(192, 168, 16, 20));
    pools
}

/// The first of the pools that touches none of `taken`: Docker's default pools, 172.17.0.0/16 to 172.31.0.0/16, then
/// 192.168.0.0/20 to 192.168.240.0/20. `InvalidParameter` `all predefined address pools have been fully subnetted`.
/// Without pools, the default ones are meant.
pub fn next_pool(pools: &[(Ipv4Net, u8)], taken: &[IpNet]) -> Result<Ipv4Net> {
    let defaults;
    let pools = if pools.is_empty() {
        defaults = default_pools();
        &defaults
    } else {
        pools
    };
    pools
        .iter()
        .find_map(|(block, size)| free_part(*block, *size, taken))
        .ok_or_else(|| Error::invalid("all predefined address pools have been fully subnetted"))
}

/// Walks the block part by part, past the end of whatever is in the way: bounded by the number of `taken`, not by the
/// number of parts.
fn free_part(block: Ipv4Net, size: u8, taken: &[IpNet]) -> Option<Ipv4Net> {
    let size = size.max(block.prefix_len());
    let step = 1u64.checked_shl(u32::from(32u8.checked_sub(size)?))?;
    let end = u64::from(u32::from(block.broadcast()));
    let mut at = u64::from(u32::from(block.network()));
    while at <= end {
        let candidate = Ipv4Net::new(Ipv4Addr::from(u32::try_from(at).ok()?), size).ok()?;
        let in_the_way = taken.iter().filter_map(|net| match net {
            IpNet::V4(net) if net.contains(&candidate) || candidate.contains(net) => Some(net),
            _ => None,
        });
        match in_the_way.map(|net| u64::from(u32::from(net.broadcast()))).max() {
            None => return Some(candidate),
            Some(last) => at = (last / step + 1) * step,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_search_goes_on_from_the_last_one_and_wraps() {
        let pool = net("10.0.0.0/29");
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        let mut given = BTreeSet::new();
        let mut last = None;
        for _ in 0..5 {
            let address = next_address(pool, pool, &|a| a == gateway || given.contains(&a), last).unwrap();
            assert!(given.insert(address));
            last = Some(address);
        }
        assert_eq!(given.iter().map(|a| a.octets()[3]).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        let error = next_address(pool, pool, &|a| a == gateway || given.contains(&a), last).unwrap_err();
        assert!(error.message().starts_with("no available IPv4 addresses on this network's address pools"));
        given.remove(&Ipv4Addr::new(10, 0, 0, 3));
        let again = next_address(pool, pool, &|a| a == gateway || given.contains(&a), last).unwrap();
        assert_eq!(again, Ipv4Addr::new(10, 0, 0, 3));
    }

    #[test]
    fn a_range_bounds_the_search() {
        let address = next_address(net("10.0.0.0/16"), net("10.0.5.0/24"), &|_| false, None).unwrap();
        assert_eq!(address, Ipv4Addr::new(10, 0, 5, 0), "inside the subnet .5.0 is an address like any other");
    }

    #[test]
    fn default_pools_come_in_dockers_order_and_end() {
        let mut taken: Vec<IpNet> = Vec::new();
        let mut got = Vec::new();
        while let Ok(pool) = next_pool(&[], &taken) {
            taken.push(pool.into());
            got.push(pool.to_string());
        }
        assert_eq!(got.len(), 15 + 16);
        assert_eq!((got[0].as_str(), got[14].as_str()), ("172.17.0.0/16", "172.31.0.0/16"));
        assert_eq!((got[15].as_str(), got[30].as_str()), ("192.168.0.0/20", "192.168.240.0/20"));
        let error = next_pool(&[], &taken).unwrap_err();
        assert_eq!(error.message(), "all predefined address pools have been fully subnetted");
    }

    #[test]
    fn a_huge_pool_in_small_parts_is_skipped_over_at_once() {
        let pool = next_pool(&[(net("10.0.0.0/8"), 30)], &["10.0.0.0/9".parse().unwrap()]).unwrap();
        assert_eq!(pool, net("10.128.0.0/30"));
    }

    proptest! {
        #[test]
        fn a_pool_touches_nothing_that_is_taken(nets in proptest::collection::vec((any::<u32>(), 8u8..=32), 0..20)) {
            let taken: Vec<IpNet> = nets
                .into_iter()
                .map(|(bits, length)| Ipv4Net::new(Ipv4Addr::from(0xAC10_0000 | (bits & 0xF_FFFF)), length).unwrap().trunc().into())
                .collect();
            if let Ok(pool) = next_pool(&[], &taken) {
                for net in taken {
                    let IpNet::V4(net) = net else { unreachable!() };
                    prop_assert!(!net.contains(&pool) && !pool.contains(&net));
                }
            }
        }
    }
}
