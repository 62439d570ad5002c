//! Address arithmetic: the next free address of a pool, the next free pool.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use crate::Result;

/// The first address of `range` (inside `subnet`) that is not network, broadcast, gateway, auxiliary or used,
/// searching on from `after` so that an address is not reused at once. `InvalidParameter`
/// `no available IPv4 addresses on this network's address pools: …` when none is left.
pub fn next_address(
    _subnet: Ipv4Net,
    _range: Ipv4Net,
    _used: &dyn Fn(Ipv4Addr) -> bool,
    _after: Option<Ipv4Addr>,
) -> Result<Ipv4Addr> {
    todo!()
}

/// The first of the pools that touches none of `taken`: Docker's default pools, 172.17.0.0/16 to 172.31.0.0/16, then
/// 192.168.0.0/20 to 192.168.240.0/20. `InvalidParameter` `all predefined address pools have been fully subnetted`.
pub fn next_pool(_pools: &[(Ipv4Net, u8)], _taken: &[IpNet]) -> Result<Ipv4Net> {
    todo!()
}
