//! Address arithmetic: the next free address of a pool, the next free pool.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{Error, Result};

/// How much of a pool is given out (`Status.IPAM` of inspect): addresses in the subnet, and left in the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub in_use: u64,
    pub left: u64,
}

/// The first address of `range` (inside `subnet`) that is not network, broadcast, gateway, auxiliary or used,
/// searching on from `after` so that an address is not reused at once. `None` when none is left. `used` must answer for
/// the gateway and the auxiliary addresses too.
pub fn next_address(
    subnet: IpNet,
    range: IpNet,
    used: &dyn Fn(IpAddr) -> bool,
    after: Option<IpAddr>,
) -> Option<IpAddr> {
    let (first, last) = (number(range.network()), number(range.broadcast()));
    let start = match after.filter(|after| after.is_ipv4() == range.addr().is_ipv4()).map(number) {
        Some(after) if (first..last).contains(&after) => after + 1,
        _ => first,
    };
    let v6 = range.addr().is_ipv6();
    (start..=last)
        .chain(first..start)
        .map(|number| address(number, v6))
        .find(|address| subnet.contains(address) && !is_reserved(subnet, *address) && !used(*address))
}

/// The subnet's own address and its broadcast address; a /31 and a /32 have none to spare.
pub fn is_reserved(subnet: IpNet, address: IpAddr) -> bool {
    match subnet {
        IpNet::V4(v4) => v4.prefix_len() < 31 && (address == v4.network() || address == v4.broadcast()),
        IpNet::V6(v6) => v6.prefix_len() < 127 && address == v6.network(),
    }
}

/// The address that a bridge takes where none is asked for: the first of the range that is free, else of the subnet.
pub fn gateway(subnet: IpNet, range: Option<IpNet>, taken: &[IpAddr]) -> Option<IpAddr> {
    let used = |address: IpAddr| taken.contains(&address);
    range
        .and_then(|range| next_address(subnet, range, &used, None))
        .or_else(|| next_address(subnet, subnet, &used, None))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(number: u128, v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(number as u32).into() }
}

/// The pool that IPv6 networks of an engine are cut from: `fd`, forty bits of the engine's own, a /64 for each network
/// (RFC 4193).
pub fn local_pool(engine: &str) -> Ipv6Net {
    // FNV-1a: it only has to differ between engines.
    let hash = engine
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let global = u128::from(hash >> 24);
    Ipv6Net::new(Ipv6Addr::from((0xfd_u128 << 120) | (global << 80)), 48).expect("48 is below 129")
}

/// The first /64 of an engine's own pool that touches none of `taken`.
pub fn next_pool_v6(engine: &str, taken: &[IpNet]) -> Result<Ipv6Net> {
    let pool = local_pool(engine);
    let base = u128::from(pool.network());
    (0..=u128::from(u16::MAX))
        .filter_map(|at| Ipv6Net::new(Ipv6Addr::from(base | (at << 64)), 64).ok())
        .find(|candidate| !overlaps((*candidate).into(), taken))
        .ok_or_else(|| Error::invalid(FULL))
}

/// Whether a net touches one of the others.
pub fn overlaps(net: IpNet, others: &[IpNet]) -> bool {
    others.iter().any(|other| other.contains(&net) || net.contains(other))
}

const FULL: &str = "all predefined address pools have been fully subnetted";

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

/// Where Docker's own pools are used up: networks of 254 containers each, by the thousand.
fn more_pools() -> Vec<(Ipv4Net, u8)> {
    vec![(Ipv4Net::new(Ipv4Addr::new(10, 192, 0, 0), 10).expect("10 is below 33"), 24)]
}

/// The first of the pools that touches none of `taken`. Without pools, the default ones are meant: 172.17.0.0/16 to
/// 172.31.0.0/16, 192.168.0.0/20 to 192.168.240.0/20, then the /24s of 10.192.0.0/10. `InvalidParameter`
/// `all predefined address pools have been fully subnetted`.
pub fn next_pool(pools: &[(Ipv4Net, u8)], taken: &[IpNet]) -> Result<Ipv4Net> {
    let defaults;
    let pools = if pools.is_empty() {
        defaults = [default_pools(), more_pools()].concat();
        &defaults
    } else {
        pools
    };
    pools.iter().find_map(|(block, size)| free_part(*block, *size, taken)).ok_or_else(|| Error::invalid(FULL))
}

/// Walks over what is in the way in the order of its beginnings: bounded by the number of `taken`, not by the number
/// of parts.
fn free_part(block: Ipv4Net, size: u8, taken: &[IpNet]) -> Option<Ipv4Net> {
    let size = size.max(block.prefix_len());
    let step = 1u64.checked_shl(u32::from(32u8.checked_sub(size)?))?;
    let ends = |net: &Ipv4Net| (u64::from(u32::from(net.network())), u64::from(u32::from(net.broadcast())));
    let mut in_the_way: Vec<(u64, u64)> = taken
        .iter()
        .filter_map(|net| match net {
            IpNet::V4(net) if block.contains(net) || net.contains(&block) => Some(ends(net)),
            _ => None,
        })
        .collect();
    in_the_way.sort_unstable();
    let (mut at, end) = ends(&block);
    for (first, last) in in_the_way {
        if first >= at + step {
            break;
        }
        at = at.max((last / step + 1) * step);
    }
    if at > end {
        return None;
    }
    Ipv4Net::new(Ipv4Addr::from(u32::try_from(at).ok()?), size).ok()
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
        let pool = IpNet::from(net("10.0.0.0/29"));
        let gateway = IpAddr::from([10, 0, 0, 1]);
        let mut given = BTreeSet::new();
        let mut last = None;
        for expected in 2..7u8 {
            let address = next_address(pool, pool, &|a| a == gateway || given.contains(&a), last).unwrap();
            assert_eq!(address, IpAddr::from([10, 0, 0, expected]));
            given.insert(address);
            last = Some(address);
        }
        assert_eq!(next_address(pool, pool, &|a| a == gateway || given.contains(&a), last), None);
        let freed = IpAddr::from([10, 0, 0, 3]);
        given.remove(&freed);
        assert_eq!(next_address(pool, pool, &|a| a == gateway || given.contains(&a), last), Some(freed));
    }

    #[test]
    fn a_range_bounds_the_search() {
        let address = next_address(net("10.0.0.0/16").into(), net("10.0.5.0/24").into(), &|_| false, None);
        assert_eq!(address, Some([10, 0, 5, 0].into()), "inside the subnet .5.0 is an address like any other");
    }

    #[test]
    fn an_ipv6_network_begins_behind_its_own_address() {
        let pool: IpNet = "fd00:1::/64".parse().unwrap();
        let gateway = gateway(pool, None, &[]).unwrap();
        assert_eq!(gateway.to_string(), "fd00:1::1");
        assert_eq!(next_address(pool, pool, &|a| a == gateway, None).unwrap().to_string(), "fd00:1::2");
    }

    #[test]
    fn engines_have_ipv6_pools_of_their_own() {
        let (one, two) = (next_pool_v6("one", &[]).unwrap(), next_pool_v6("two", &[]).unwrap());
        assert!(one != two && one.addr().octets()[0] == 0xfd && one.prefix_len() == 64);
        let next = next_pool_v6("one", &[one.into()]).unwrap();
        assert!(next != one && local_pool("one").contains(&next));
    }

    #[test]
    fn default_pools_come_in_dockers_order_and_then_a_thousand_more_fit() {
        let mut taken: Vec<IpNet> = Vec::new();
        for _ in 0..1100 {
            taken.push(next_pool(&[], &taken).unwrap().into());
        }
        let got: Vec<String> = taken.iter().map(ToString::to_string).collect();
        assert_eq!((got[0].as_str(), got[14].as_str()), ("172.17.0.0/16", "172.31.0.0/16"));
        assert_eq!((got[15].as_str(), got[30].as_str()), ("192.168.0.0/20", "192.168.240.0/20"));
        assert_eq!((got[31].as_str(), got[32].as_str()), ("10.192.0.0/24", "10.192.1.0/24"));
        let error = next_pool(&default_pools(), &taken).unwrap_err();
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
