//! Ids inside extended attributes: those of access lists, and the root that a file's capabilities hold for.

use gantry_domain::{Result, id_maps::IdMaps};

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";
const CAPABILITY: &[u8] = b"security.capability";
/// A list is a version and entries of a tag, permissions and an id, little-endian.
const ACL_HEAD: usize = 4;
const ACL_ENTRY: usize = 8;
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;
/// The third revision of capabilities is the second with the id of a root behind it.
const CAPS_3: usize = 24;
const CAPS_2: usize = 20;
const REVISION: u8 = 3;

/// The value as it is kept in a file of a container with these maps.
pub fn to_host(name: &[u8], value: &[u8], maps: &IdMaps) -> Result<Vec<u8>> {
    translated(name, value, &|uid| Ok(maps.to_host(uid, 0)?.0), &|gid| Ok(maps.to_host(0, gid)?.1))
}

/// The value as an archive has it. Capabilities that a process in a user namespace gave lose its root: outside it
/// means nothing, and whoever extracts the file gives it theirs.
pub fn to_container(name: &[u8], value: Vec<u8>, maps: &IdMaps) -> Vec<u8> {
    if name == CAPABILITY && value.len() == CAPS_3 && value[3] == REVISION {
        let mut second = value[..CAPS_2].to_vec();
        second[3] = REVISION - 1;
        return second;
    }
    let translated = translated(name, &value, &|uid| Ok(maps.container_uid(uid)), &|gid| Ok(maps.container_gid(gid)));
    translated.unwrap_or(value)
}

fn translated(
    name: &[u8],
    value: &[u8],
    uid: &dyn Fn(u32) -> Result<u32>,
    gid: &dyn Fn(u32) -> Result<u32>,
) -> Result<Vec<u8>> {
    let mut value = value.to_vec();
    if name != ACCESS && name != DEFAULT {
        return Ok(value);
    }
    for entry in value.get_mut(ACL_HEAD..).unwrap_or_default().chunks_exact_mut(ACL_ENTRY) {
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let id = match u16::from_le_bytes([entry[0], entry[1]]) {
            ACL_USER => uid(id)?,
            ACL_GROUP => gid(id)?,
            _ => continue,
        };
        entry[4..].copy_from_slice(&id.to_le_bytes());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn maps() -> IdMaps {
        IdMaps::of_subordinate(&[(100_000, 100)], &[(200_000, 100)]).unwrap()
    }

    fn list(entries: &[(u16, u32)]) -> Vec<u8> {
        let entry = |(tag, id): &(u16, u32)| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        [vec![2, 0, 0, 0], entries.iter().flat_map(entry).collect()].concat()
    }

    #[test]
    fn an_access_list_names_the_same_users_on_both_sides() {
        let (inside, outside) = (
            list(&[(1, u32::MAX), (ACL_USER, 7), (ACL_GROUP, 8)]),
            list(&[(1, u32::MAX), (ACL_USER, 100_007), (ACL_GROUP, 200_008)]),
        );
        for name in [ACCESS, DEFAULT] {
            assert_eq!(to_host(name, &inside, &maps()).unwrap(), outside);
            assert_eq!(to_container(name, outside.clone(), &maps()), inside);
        }
        assert!(to_host(ACCESS, &list(&[(ACL_USER, 100)]), &maps()).is_err(), "nobody's");
        assert_eq!(to_host(b"user.x", &inside, &maps()).unwrap(), inside);
        assert_eq!(to_host(ACCESS, &inside, &IdMaps::default()).unwrap(), inside);
    }

    #[test]
    fn capabilities_leave_the_root_of_their_namespace_behind() {
        let third = [&[1, 0, 0, 3][..], &[9; 16], &100_000u32.to_le_bytes()].concat();
        let second = [&[1, 0, 0, 2][..], &[9; 16]].concat();
        assert_eq!(to_container(CAPABILITY, third, &maps()), second);
        assert_eq!(to_container(CAPABILITY, second.clone(), &maps()), second);
    }
}
