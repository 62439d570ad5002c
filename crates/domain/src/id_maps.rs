//! User namespaces: which id of the host stands for an id in a container.

use crate::{Error, Result};

/// Lines that the kernel takes in `/proc/<pid>/uid_map`.
const MAX_RANGES: usize = 340;

/// Ids from `container` on are ids from `host` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub container: u32,
    pub host: u32,
    pub count: u32,
}

/// The maps of users and groups. Without ranges every id is itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMaps {
    pub uids: Vec<IdRange>,
    pub gids: Vec<IdRange>,
}

/// What `--userns-remap` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNamespace {
    /// `user:group` whose subordinate ids are used.
    pub owner: String,
    pub maps: IdMaps,
}

impl IdMaps {
    /// Subordinate ranges (first id of the host, count), put one behind the other from the container's 0 on.
    /// `InvalidParameter` for what the kernel would not take, and for a root that is the host's own.
    pub fn of_subordinate(uids: &[(u32, u32)], gids: &[(u32, u32)]) -> Result<Self> {
        let maps = Self { uids: in_a_row(uids)?, gids: in_a_row(gids)? };
        if maps.uids.iter().chain(&maps.gids).any(|range| range.host == 0) {
            return Err(Error::invalid("a subordinate range begins with 0: root cannot be remapped with itself"));
        }
        Ok(maps)
    }

    pub fn is_identity(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// The host's user and group that are root in a container.
    pub fn root(&self) -> (u32, u32) {
        let first = |ranges: &[IdRange]| to_host(ranges, 0).unwrap_or(0);
        (first(&self.uids), first(&self.gids))
    }

    /// `InvalidParameter` for an id that no container has.
    pub fn to_host(&self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        let unknown = |id: u32| Error::invalid(format!("container ID {id} cannot be mapped to a host ID"));
        Ok((self.host_uid(uid).ok_or_else(|| unknown(uid))?, self.host_gid(gid).ok_or_else(|| unknown(gid))?))
    }

    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        to_host(&self.uids, uid)
    }

    pub fn host_gid(&self, gid: u32) -> Option<u32> {
        to_host(&self.gids, gid)
    }

    /// What is nobody's in a container stays as it is: a file of the host's root that a container without a user
    /// namespace made is root's in an archive.
    pub fn to_container(&self, uid: u32, gid: u32) -> (u32, u32) {
        (self.container_uid(uid), self.container_gid(gid))
    }

    pub fn container_uid(&self, uid: u32) -> u32 {
        to_container(&self.uids, uid)
    }

    pub fn container_gid(&self, gid: u32) -> u32 {
        to_container(&self.gids, gid)
    }
}

fn in_a_row(ranges: &[(u32, u32)]) -> Result<Vec<IdRange>> {
    let too_many = || Error::invalid(format!("the kernel takes at most {MAX_RANGES} ranges of 4294967295 ids"));
    if ranges.len() > MAX_RANGES {
        return Err(too_many());
    }
    let (mut made, mut next): (Vec<IdRange>, u32) = (Vec::new(), 0);
    for (host, count) in ranges.iter().copied().filter(|(_, count)| *count > 0) {
        let end = host.checked_add(count).ok_or_else(too_many)?;
        if let Some(other) = made.iter().find(|other| host < other.host + other.count && other.host < end) {
            return Err(Error::invalid(format!(
                "the subordinate ranges {}:{} and {host}:{count} overlap",
                other.host, other.count
            )));
        }
        made.push(IdRange { container: next, host, count });
        next = next.checked_add(count).ok_or_else(too_many)?;
    }
    Ok(made)
}

fn to_host(ranges: &[IdRange], id: u32) -> Option<u32> {
    if ranges.is_empty() {
        return Some(id);
    }
    let range = ranges.iter().find(|range| id >= range.container && id - range.container < range.count)?;
    Some(range.host + (id - range.container))
}

fn to_container(ranges: &[IdRange], id: u32) -> u32 {
    let range = ranges.iter().find(|range| id >= range.host && id - range.host < range.count);
    range.map_or(id, |range| range.container + (id - range.host))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_follow_one_another_in_the_container() {
        let maps = IdMaps::of_subordinate(&[(100_000, 10), (500, 5)], &[(200_000, 65_536)]).unwrap();
        assert_eq!(maps.root(), (100_000, 200_000));
        assert_eq!(maps.to_host(9, 9).unwrap(), (100_009, 200_009));
        assert_eq!(maps.to_host(10, 65_535).unwrap(), (500, 265_535));
        let error = maps.to_host(15, 0).unwrap_err();
        assert_eq!(error.message(), "container ID 15 cannot be mapped to a host ID");
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_at_once() {
        for ranges in [&[(10, 5), (14, 1)][..], &[(u32::MAX, 2)], &[(1, 1); 341], &[(0, 10)], &[(10, 5), (0, 1)]] {
            assert!(IdMaps::of_subordinate(ranges, &[]).is_err(), "{ranges:?}");
        }
        let whole = IdMaps::of_subordinate(&[(1, u32::MAX - 1)], &[]).unwrap();
        assert_eq!(whole.host_uid(u32::MAX), None);
    }

    #[test]
    fn without_ranges_every_id_is_itself() {
        let maps = IdMaps::default();
        assert!(maps.is_identity());
        assert_eq!((maps.root(), maps.to_host(7, 8).unwrap(), maps.to_container(7, 8)), ((0, 0), (7, 8), (7, 8)));
    }

    proptest! {
        #[test]
        fn an_id_comes_back_as_it_went(uid in 0u32..70_000, gid in 0u32..70_000) {
            let maps = IdMaps::of_subordinate(&[(100_000, 65_536), (300_000, 10_000)], &[(200_000, 80_000)]).unwrap();
            let (host_uid, host_gid) = maps.to_host(uid, gid).unwrap();
            prop_assert!(host_uid >= 100_000 && host_gid >= 200_000);
            prop_assert_eq!(maps.to_container(host_uid, host_gid), (uid, gid));
        }
    }
}
