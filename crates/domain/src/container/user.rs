//! Users of an image: `name`, `uid`, `name:group`, looked up in the image's own passwd and group files.

use crate::{Error, Result};

/// Largest passwd or group file that is read, bytes (T18).
pub const MAX_FILE: u64 = 10 << 20;

/// Largest user or group id that Docker takes.
const MAX_ID: u32 = 0x7FFF_FFFF;

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
///
/// A number is always an id, never a name; entries whose ids are malformed or out of range do not exist.
pub fn resolve(spec: &str, group_add: &[String], passwd: Option<&[u8]>, group: Option<&[u8]>) -> Result<User> {
    let (user_text, group_text) = spec.split_once(':').unwrap_or((spec, ""));
    let wanted = if user_text.is_empty() { Wanted::Id(0) } else { Wanted::parse(user_text)? };
    let entry = passwd_entries(passwd).find(|entry| wanted.is(entry.name, entry.uid));
    let (uid, mut gid, name, home) = match (&entry, &wanted) {
        (Some(entry), _) => (entry.uid, entry.gid, Some(entry.name), entry.home),
        (None, Wanted::Id(id)) => (*id, 0, None, "/"),
        (None, Wanted::Name(name)) => {
            let why = "no matching entries in passwd file";
            return Err(Error::invalid(format!("unable to find user {name}: {why}")));
        }
    };
    let mut own = Vec::new();
    if !group_text.is_empty() {
        gid = find_group(group_text, group)?;
    } else if let Some(name) = name {
        own.extend(group_entries(group).filter(|entry| entry.lists(name)).map(|entry| entry.gid));
    }
    let mut gids = vec![gid];
    for extra in own.into_iter().chain(added_groups(group_add, group)?) {
        if !gids.contains(&extra) {
            gids.push(extra);
        }
    }
    Ok(User { uid, gid, additional_gids: gids, home: clean_home(home) })
}

/// What a text asks for: digits are an id, all else is a name.
enum Wanted<'a> {
    Id(u32),
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self::Name(text));
        }
        parse_id(text).map(Self::Id).ok_or_else(out_of_range)
    }

    fn is(&self, name: &str, id: u32) -> bool {
        match self {
            Self::Id(wanted) => *wanted == id,
            Self::Name(wanted) => *wanted == name,
        }
    }
}

fn out_of_range() -> Error {
    Error::invalid(format!("uids and gids must be in range 0-{MAX_ID}"))
}

fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= MAX_ID)
}

fn find_group(text: &str, file: Option<&[u8]>) -> Result<u32> {
    let wanted = Wanted::parse(text)?;
    if let Some(entry) = group_entries(file).find(|entry| wanted.is(entry.name, entry.gid)) {
        return Ok(entry.gid);
    }
    match wanted {
        Wanted::Id(gid) => Ok(gid),
        Wanted::Name(name) => Err(no_group(name)),
    }
}

fn no_group(name: &str) -> Error {
    Error::invalid(format!("unable to find group {name}: no matching entries in group file"))
}

fn added_groups(added: &[String], file: Option<&[u8]>) -> Result<Vec<u32>> {
    let find = |text: &String| match Wanted::parse(text)? {
        Wanted::Id(gid) => Ok(gid),
        Wanted::Name(name) => {
            group_entries(file).find(|entry| entry.name == name).map(|entry| entry.gid).ok_or_else(|| no_group(name))
        }
    };
    added.iter().map(find).collect()
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl GroupEntry<'_> {
    fn lists(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member == user)
    }
}

/// Lines that are not UTF-8 are skipped: no request can name what stands in them.
fn lines(file: Option<&[u8]>) -> impl Iterator<Item = &str> {
    let lines = file.unwrap_or_default().split(|byte| *byte == b'\n');
    lines.filter_map(|line| std::str::from_utf8(line).ok()).map(str::trim).filter(|line| !line.is_empty())
}

fn passwd_entries(file: Option<&[u8]>) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (parse_id(fields.next()?)?, parse_id(fields.next()?)?);
        let (_comment, home) = (fields.next(), fields.next().unwrap_or(""));
        Some(PasswdEntry { name, uid, gid, home })
    })
}

fn group_entries(file: Option<&[u8]>) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, gid) = (fields.next()?, fields.next()?, parse_id(fields.next()?)?);
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
    })
}

/// The home becomes an environment variable: nothing that could end one passes (CVE-2022-4318).
fn clean_home(home: &str) -> String {
    if home.is_empty() || home.contains(char::is_control) { "/".into() } else { home.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\nwww:x:33:33:w:/var/www:/bin/sh\n1000:x:0:0::/evil:\n\
        big:x:4294967296:0::/:\nneg:x:-1:0::/:\nhex:x:0x0:0::/:\nbroken\nnogid:x:5\n";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root\nwww:x:33:\nstaff:x:50:www,root\nbad:x:zz:www\n";

    fn user(spec: &str) -> Result<User> {
        resolve(spec, &[], Some(PASSWD), Some(GROUP))
    }

    #[test]
    fn names_ids_and_groups_as_docker_finds_them() {
        for (spec, uid, gid, gids, home) in [
            ("", 0, 0, vec![0, 10, 50], "/root"),
            ("root", 0, 0, vec![0, 10, 50], "/root"),
            ("www", 33, 33, vec![33, 50], "/var/www"),
            ("33", 33, 33, vec![33, 50], "/var/www"),
            ("www:wheel", 33, 10, vec![10], "/var/www"),
            ("www:77", 33, 77, vec![77], "/var/www"),
            ("4242", 4242, 0, vec![0], "/"),
            ("4242:50", 4242, 50, vec![50], "/"),
            (":50", 0, 50, vec![50], "/root"),
        ] {
            let expected = User { uid, gid, additional_gids: gids, home: home.into() };
            assert_eq!(user(spec).unwrap(), expected, "{spec}");
        }
    }

    #[test]
    fn no_text_but_root_or_zero_becomes_root() {
        for spec in
            ["2147483648", "4294967296", "-1", "0x0", "root\n", " root", "big", "neg", "hex", "99999999999999999999"]
        {
            assert!(user(spec).is_err(), "{spec}");
        }
        assert_eq!(user("1000").unwrap().uid, 1000, "a numeric name in the image's passwd is not followed");
        assert_eq!(user("+0").unwrap_err().message(), "uids and gids must be in range 0-2147483647");
    }

    #[test]
    fn the_unknown_is_named_in_dockers_words() {
        let error = user("nobody").unwrap_err();
        assert_eq!(error.message(), "unable to find user nobody: no matching entries in passwd file");
        let error = user("www:nogroup").unwrap_err();
        assert_eq!(error.message(), "unable to find group nogroup: no matching entries in group file");
        let error = resolve("", &["video".into()], None, None).unwrap_err();
        assert_eq!(error.message(), "unable to find group video: no matching entries in group file");
    }

    #[test]
    fn the_primary_group_and_added_ones_are_additional_groups() {
        let user = resolve("www", &["wheel".into(), "777".into(), "33".into()], Some(PASSWD), Some(GROUP)).unwrap();
        assert_eq!(user.additional_gids, [33, 50, 10, 777]);
        let bare = resolve("", &[], None, None).unwrap();
        assert_eq!(bare, User { uid: 0, gid: 0, additional_gids: vec![0], home: "/".into() });
    }

    #[test]
    fn a_home_with_control_characters_is_not_taken() {
        let user = resolve("x", &[], Some(b"x:x:1:1::/a\0b:"), None).unwrap();
        assert_eq!(user.home, "/");
    }

    proptest! {
        #[test]
        fn hostile_files_never_panic_and_never_give_root(
            passwd in proptest::collection::vec(any::<u8>(), 0..200),
            group in proptest::collection::vec(any::<u8>(), 0..200),
            id in 1u32..=0x7FFF_FFFF,
        ) {
            let user = resolve(&id.to_string(), &[], Some(&passwd), Some(&group)).unwrap();
            prop_assert_eq!(user.uid, id);
            prop_assert_eq!(user.additional_gids[0], user.gid);
        }

        #[test]
        fn any_number_is_an_id_or_refused(number in any::<u64>()) {
            match user(&number.to_string()) {
                Ok(user) => prop_assert_eq!(u64::from(user.uid), number),
                Err(_) => prop_assert!(number > u64::from(MAX_ID)),
            }
        }
    }
}
