//! What `--userns-remap` is taken for.
#![allow(clippy::unwrap_used)]

use super::*;

struct Etc(tempfile::TempDir);

impl Etc {
    fn new() -> Self {
        let etc = tempfile::tempdir().unwrap();
        let files = [
            ("passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:\nbob:x:1001:100::/:\n1002:x:7:7::/:\n"),
            ("group", "root:x:0:\nann:x:1000:\nusers:x:100:\n"),
            ("subuid", "ann:100000:1000\nbob:200000:65536\n1000:300000:5\nroot:400000:65536\n"),
            ("subgid", "ann:150000:65536\nusers:250000:65536\n"),
        ];
        for (name, content) in files {
            std::fs::write(etc.path().join(name), content).unwrap();
        }
        Self(etc)
    }

    fn resolve(&self, spec: &str) -> Result<UserNamespace, String> {
        resolve(spec, &Accounts::of(self.0.path()))
    }
}

#[test]
fn a_user_is_named_by_name_or_number_with_or_without_a_group() {
    let etc = Etc::new();
    for (spec, owner) in
        [("ann", "ann:ann"), ("ann:users", "ann:users"), ("1000", "ann:ann"), ("1000:100", "ann:users")]
    {
        let found = etc.resolve(spec).unwrap();
        assert_eq!((found.owner.as_str(), found.maps.root()), (owner, (100_000, 150_000)), "{spec}");
        // The range by the user's number counts, too.
        assert_eq!(found.maps.host_uid(1000), Some(300_000));
    }
    assert_eq!(etc.resolve("bob:users").unwrap().maps.root(), (200_000, 250_000), "ranges of the group's name");
}

#[test]
fn a_kernel_without_user_namespaces_is_told_at_the_start() {
    let proc = tempfile::tempdir().unwrap();
    assert!(check_kernel(proc.path()).is_err());
    std::fs::create_dir_all(proc.path().join("sys/user")).unwrap();
    for (limit, fine) in [("0\n", false), ("96364\n", true)] {
        std::fs::write(proc.path().join("sys/user/max_user_namespaces"), limit).unwrap();
        assert_eq!(check_kernel(proc.path()).is_ok(), fine, "{limit}");
    }
}

#[test]
fn what_is_not_there_is_said_in_dockerds_words() {
    let etc = Etc::new();
    for (spec, text) in [
        ("a:b:c", "Invalid user/group specification in --userns-remap: \"a:b:c\""),
        ("eve", "Error during uid lookup for \"eve\": no matching entries in passwd file"),
        ("4242", "Uid 4242 has no entry in /etc/passwd: no matching entries in passwd file"),
        ("bob", "Error during gid lookup for \"bob\": no matching entries in group file"),
        ("1001", "Gid 1001 has no entry in /etc/group: no matching entries in group file"),
        ("ann:nosuch", "Error during groupname lookup for \"nosuch\": no matching entries in group file"),
        ("7:100", "Can't create ID mappings: no subuid ranges found for user \"1002\""),
        ("root", "User namespaces: root cannot be remapped with itself"),
        ("0:0", "User namespaces: root cannot be remapped with itself"),
    ] {
        assert_eq!(etc.resolve(spec).unwrap_err(), text, "{spec}");
    }
    std::fs::write(etc.0.path().join("subgid"), "").unwrap();
    assert_eq!(etc.resolve("ann").unwrap_err(), "Can't create ID mappings: no subgid ranges found for user \"ann\"");
    std::fs::write(etc.0.path().join("subuid"), "ann:0:65536\n").unwrap();
    std::fs::write(etc.0.path().join("subgid"), "ann:1:65536\n").unwrap();
    assert!(etc.resolve("ann").unwrap_err().contains("root cannot be remapped with itself"));
    std::fs::write(etc.0.path().join("subuid"), "ann:x\n").unwrap();
    assert!(etc.resolve("ann").unwrap_err().ends_with("subuid: a range of ann cannot be read"));
}
