//! Users of an image: `name`, `uid`, `name:group`, looked up in the image's own passwd and group files.

use crate::Result;

/// Largest passwd or group file that is read, bytes (T18).
pub const MAX_FILE: u64 = 10 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// The primary gid first, then the groups that list the user, then `group_add` (T24).
    pub additional_gids: Vec<u32>,
    /// `/` when unknown.
    pub home: String,
}

/// Looks `spec` up. `InvalidParameter` `unable to find user x: no matching entries in passwd file`,
/// `unable to find group x: no matching entries in group file`; ids outside 0..=2147483647 are refused (T17).
pub fn resolve(_spec: &str, _group_add: &[String], _passwd: Option<&[u8]>, _group: Option<&[u8]>) -> Result<User> {
    todo!()
}
