//! Address arithmetic: the next free address of a pool, the next free pool.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::IpamConfig;
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

/// Whether a net touches one of the others.
pub fn overlaps(net: IpNet, others: &[IpNet]) -> bool {
    others.iter().any(|other| other.contains(&net) || net.contains(other))
}

const FULL: &str = "all predefined address pools have been fully subnetted";

/// A block, and the prefix length of the networks that it is cut into.
pub type Pool = (IpNet, u8);

/// Docker's predefined pools.
pub fn default_pools() -> Vec<Pool> {
    let mut pools: Vec<_> = (17..32).map(|second| pool_v4([172, second], 16, 16)).collect();
    pools.push(pool_v4([192, 168], 16, 20));
    pools
}

/// Where Docker's own pools are used up: networks of 254 containers each, by the thousand.
fn more_pools() -> Vec<Pool> {
    vec![pool_v4([10, 192], 10, 24)]
}

fn pool_v4([a, b]: [u8; 2], length: u8, size: u8) -> Pool {
    let block = Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), length).expect("prefix lengths here are below 33");
    (block.into(), size)
}

/// The first part of the IPv4 pools that touches none of `taken`. Where none are given, the default ones are meant:
/// 172.17.0.0/16 to 172.31.0.0/16, 192.168.0.0/20 to 192.168.240.0/20, then the /24s of 10.192.0.0/10.
/// `InvalidParameter` `all predefined address pools have been fully subnetted`.
pub fn next_pool(pools: &[Pool], taken: &[IpNet]) -> Result<IpNet> {
    let given = of_family(pools, false);
    first_part(&if given.is_empty() { [default_pools(), more_pools()].concat() } else { given }, taken)
}

/// The same of the IPv6 pools; where none are given, the first /64 of the engine's own.
pub fn next_pool_v6(pools: &[Pool], engine: &str, taken: &[IpNet]) -> Result<IpNet> {
    let given = of_family(pools, true);
    first_part(&if given.is_empty() { vec![(local_pool(engine).into(), 64)] } else { given }, taken)
}

/// What the daemon's options say of one family of the default bridge, and the subnet that it has.
#[derive(Debug, Clone, Copy, Default)]
pub struct BridgePool {
    /// `--bip`: the bridge's own address in its network.
    pub address: Option<IpNet>,
    /// `--fixed-cidr`: where containers get theirs from.
    pub range: Option<IpNet>,
    pub kept: Option<IpNet>,
}

impl BridgePool {
    /// The pool that follows; `next` gives a subnet where nothing does.
    pub fn pool(self, next: impl FnOnce() -> Result<IpNet>) -> Result<IpamConfig> {
        let fits = |subnet: &IpNet| self.range.is_none_or(|range| subnet.contains(&range));
        let subnet = match (self.address, self.kept.filter(fits), self.range) {
            (Some(address), _, _) => address.trunc(),
            (None, Some(kept), _) => kept,
            // A range alone is the whole network.
            (None, None, Some(range)) => range,
            (None, None, None) => next()?,
        };
        let gateway = self.address.map(|address| address.addr()).or_else(|| gateway(subnet, None, &[]));
        Ok(IpamConfig {
            subnet: subnet.to_string(),
            ip_range: self.range.map(|range| range.to_string()).unwrap_or_default(),
            gateway: gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            ..IpamConfig::default()
        })
    }
}

fn of_family(pools: &[Pool], v6: bool) -> Vec<Pool> {
    pools.iter().filter(|(block, _)| block.addr().is_ipv6() == v6).copied().collect()
}

fn first_part(pools: &[Pool], taken: &[IpNet]) -> Result<IpNet> {
    pools.iter().find_map(|(block, size)| free_part(*block, *size, taken)).ok_or_else(|| Error::invalid(FULL))
}

/// Walks over what is in the way in the order of its beginnings: bounded by the number of `taken`, not by the number
/// of parts.
fn free_part(block: IpNet, size: u8, taken: &[IpNet]) -> Option<IpNet> {
    let size = size.max(block.prefix_len());
    let step = 1u128.checked_shl(u32::from(block.max_prefix_len().checked_sub(size)?))?;
    let mut in_the_way: Vec<(u128, u128)> =
        taken.iter().filter(|net| overlaps(**net, &[block])).map(|net| ends(*net)).collect();
    in_the_way.sort_unstable();
    let (mut at, end) = ends(block);
    for (first, last) in in_the_way {
        if first >= at.checked_add(step)? {
            break;
        }
        at = at.max((last / step).checked_add(1)?.checked_mul(step)?);
    }
    if at > end {
        return None;
    }
    let address = match block {
        IpNet::V4(_) => IpAddr::V4(u32::try_from(at).ok()?.into()),
        IpNet::V6(_) => IpAddr::V6(at.into()),
    };
    IpNet::new(address, size).ok()
}

/// The first and the last address, as numbers.
fn ends(net: IpNet) -> (u128, u128) {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    (number(net.network()), number(net.broadcast()))
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
    fn pools_of_a_family_are_those_that_were_given_for_it() {
        let pools: Vec<Pool> = vec![("10.5.0.0/16".parse().unwrap(), 24), ("fd12:5::/48".parse().unwrap(), 64)];
        assert_eq!(next_pool(&pools, &["10.5.0.0/24".parse().unwrap()]).unwrap(), net("10.5.1.0/24").into());
        let second = next_pool_v6(&pools, "one", &["fd12:5::/64".parse().unwrap()]).unwrap();
        assert_eq!(second.to_string(), "fd12:5:0:1::/64");
        assert_eq!(next_pool(&pools[1..], &[]).unwrap(), net("172.17.0.0/16").into());
        assert!(next_pool(&pools, &["10.0.0.0/8".parse().unwrap()]).is_err());
        let all: Vec<Pool> = vec![("fd12::/127".parse().unwrap(), 128), ("::/0".parse().unwrap(), 64)];
        assert_eq!(next_pool_v6(&all, "one", &["fd12::/128".parse().unwrap()]).unwrap().to_string(), "fd12::1/128");
        assert!(next_pool_v6(&all[1..], "one", &["::/0".parse().unwrap()]).is_err());
    }

    #[test]
    fn the_default_bridge_is_what_is_said_then_what_it_was_then_what_is_free() {
        let parsed = |text: &str| Some(text.parse::<IpNet>().unwrap());
        let made = |address, range, kept| {
            let pool = BridgePool { address, range, kept }.pool(|| Ok("172.17.0.0/16".parse().unwrap())).unwrap();
            (pool.subnet, pool.ip_range, pool.gateway)
        };
        let text = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(made(None, None, None), text("172.17.0.0/16", "", "172.17.0.1"));
        assert_eq!(made(None, None, parsed("10.1.0.0/16")), text("10.1.0.0/16", "", "10.1.0.1"));
        let bip = parsed("10.2.0.9/24");
        assert_eq!(made(bip, None, parsed("10.1.0.0/16")), text("10.2.0.0/24", "", "10.2.0.9"));
        let range = parsed("10.1.5.0/24");
        assert_eq!(made(None, range, parsed("10.1.0.0/16")), text("10.1.0.0/16", "10.1.5.0/24", "10.1.0.1"));
        assert_eq!(made(None, range, parsed("10.3.0.0/16")), text("10.1.5.0/24", "10.1.5.0/24", "10.1.5.1"));
    }

    #[test]
    fn engines_have_ipv6_pools_of_their_own() {
        let (one, two) = (next_pool_v6(&[], "one", &[]).unwrap(), next_pool_v6(&[], "two", &[]).unwrap());
        assert!(one != two && one.to_string().starts_with("fd") && one.prefix_len() == 64);
        let next = next_pool_v6(&[], "one", &[one]).unwrap();
        assert!(next != one && IpNet::from(local_pool("one")).contains(&next));
    }

    #[test]
    fn default_pools_come_in_dockers_order_and_then_a_thousand_more_fit() {
        let mut taken: Vec<IpNet> = Vec::new();
        for _ in 0..1100 {
            taken.push(next_pool(&[], &taken).unwrap());
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
        let pool = next_pool(&[(net("10.0.0.0/8").into(), 30)], &["10.0.0.0/9".parse().unwrap()]).unwrap();
        assert_eq!(pool, net("10.128.0.0/30").into());
    }

    proptest! {
        #[test]
        fn a_pool_touches_nothing_that_is_taken(nets in proptest::collection::vec((any::<u32>(), 8u8..=32), 0..20)) {
            let taken: Vec<IpNet> = nets
                .into_iter()
                .map(|(bits, length)| Ipv4Net::new(Ipv4Addr::from(0xAC10_0000 | (bits & 0xF_FFFF)), length).unwrap().trunc().into())
                .collect();
            if let Ok(pool) = next_pool(&[], &taken) {
                prop_assert!(!overlaps(pool, &taken));
            }
        }
    }
}
