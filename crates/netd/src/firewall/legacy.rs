//! The kernel's older packet filter, which nftables does not show: whether its forward chain drops by policy.
//!
//! What is asked (`linux/netfilter_ipv4/ip_tables.h`): GET_INFO says where each hook's policy lies among the table's
//! entries, GET_ENTRIES copies them. Nothing is asked where no such table is loaded, for the question would load it.

#![allow(unsafe_code)]

use std::{
    fs,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use rustix::net::{AddressFamily, SocketType, ipproto};

const TABLE: &str = "filter";
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
const NAME: usize = 32;
/// Name, valid hooks, five entries of hooks, five policies, count, size.
const INFO: usize = NAME + 13 * 4;
const UNDERFLOW_OF_FORWARD: usize = NAME + 4 + 5 * 4 + 2 * 4;
const SIZE: usize = INFO - 4;
/// Name and size, aligned as what follows.
const ENTRIES: usize = NAME + 8;
/// `xt_entry_target`, before the verdict.
const TARGET: usize = 32;
/// `-NF_DROP - 1`.
const DROP: i32 = -1;

struct Family {
    program: &'static str,
    tables: &'static str,
    domain: AddressFamily,
    level: i32,
    /// Where an entry says how far its target is.
    target_offset: usize,
}

const FAMILIES: [Family; 2] = [
    Family {
        program: "iptables-legacy",
        tables: "/proc/thread-self/net/ip_tables_names",
        domain: AddressFamily::INET,
        level: libc::IPPROTO_IP,
        target_offset: 88,
    },
    Family {
        program: "ip6tables-legacy",
        tables: "/proc/thread-self/net/ip6_tables_names",
        domain: AddressFamily::INET6,
        level: libc::IPPROTO_IPV6,
        target_offset: 140,
    },
];

/// `program table chain` of each that drops. What cannot be read is not told.
pub fn drops() -> Vec<String> {
    let dropping = FAMILIES.iter().filter(|family| is_loaded(family) && drops_forwarded(family).unwrap_or(false));
    dropping.map(|family| format!("{} {TABLE} FORWARD", family.program)).collect()
}

fn is_loaded(family: &Family) -> bool {
    fs::read_to_string(family.tables).is_ok_and(|names| names.lines().any(|name| name == TABLE))
}

fn drops_forwarded(family: &Family) -> Option<bool> {
    let socket = rustix::net::socket(family.domain, SocketType::RAW, Some(ipproto::RAW)).ok()?;
    let mut info = vec![0; INFO];
    info[..TABLE.len()].copy_from_slice(TABLE.as_bytes());
    ask(socket.as_fd(), family.level, GET_INFO, &mut info)?;
    let size = u32_at(&info, SIZE)?;
    let mut entries = vec![0; ENTRIES + size as usize];
    entries[..TABLE.len()].copy_from_slice(TABLE.as_bytes());
    entries[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
    // One that has changed meanwhile has another size, and is refused.
    ask(socket.as_fd(), family.level, GET_ENTRIES, &mut entries)?;
    policy(&entries[ENTRIES..], u32_at(&info, UNDERFLOW_OF_FORWARD)? as usize, family.target_offset)
        .map(|verdict| verdict == DROP)
}

/// The verdict of the entry at `at`.
fn policy(entries: &[u8], at: usize, target_offset: usize) -> Option<i32> {
    let offset: [u8; 2] = entries.get(at + target_offset..)?.get(..2)?.try_into().ok()?;
    let verdict = at + usize::from(u16::from_ne_bytes(offset)) + TARGET;
    u32_at(entries, verdict).map(u32::cast_signed)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn ask(socket: BorrowedFd<'_>, level: i32, option: i32, buffer: &mut [u8]) -> Option<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).ok()?;
    // SAFETY: the kernel writes `length` bytes at most, all of them of `buffer`, which outlives the call.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut length) };
    (result == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_the_verdict_behind_its_entrys_target() {
        let mut entries = vec![0_u8; 200];
        entries[16 + 88..16 + 90].copy_from_slice(&112_u16.to_ne_bytes());
        entries[16 + 112 + TARGET..][..4].copy_from_slice(&DROP.to_ne_bytes());
        assert_eq!(policy(&entries, 16, 88), Some(DROP));
        assert_eq!(policy(&entries, 190, 88), None, "what lies beyond is not read");
    }
}
