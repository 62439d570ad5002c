//! The arrows between crates are those of the design's table; dev-dependencies may point at the fakes.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Crate → what it may use of ours.
const TABLE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    // spec is as pure as domain: the engine asks it for the OCI spec that the runtime port is given.
    ("engine", &["domain", "spec"]),
    ("api", &["domain", "engine"]),
    ("spec", &["domain"]),
    // One tar reader for layers and for copies: two would disagree about the same bytes.
    ("archive", &["domain"]),
    ("containerd", &["domain", "archive", "spec", "wire", "registry"]),
    ("registry", &["domain"]),
    ("store", &["domain"]),
    ("network", &["domain", "wire"]),
    // It leaves shipments for logship, as wire has them.
    ("host", &["domain", "archive", "logs", "wire"]),
    ("logs", &[]),
    ("wire", &[]),
    ("stdio", &["wire", "logs"]),
    ("netd", &["wire", "logs"]),
    ("logship", &["wire", "logs"]),
    // Process 1 of containers that ask for one: it knows nobody.
    ("init", &[]),
    // containerd's, not ours: it speaks containerd's protocols alone.
    ("shim", &[]),
    ("fakes", &["domain"]),
    (
        "daemon",
        &["domain", "engine", "api", "spec", "containerd", "registry", "store", "network", "host", "logs", "wire"],
    ),
];

/// gantry-x → x, for our crates alone.
fn ours(name: &str) -> Option<&str> {
    name.strip_prefix("gantry-")
}

#[test]
fn no_arrow_is_outside_the_table() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let table: BTreeMap<&str, BTreeSet<&str>> =
        TABLE.iter().map(|(name, may)| (*name, may.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let Some(from) = ours(package.name.as_str()) else {
            wrong.push(format!("{} does not begin with gantry-", package.name));
            continue;
        };
        let Some(may) = table.get(from) else {
            wrong.push(format!("{from} is not in the table"));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(to) = ours(&dependency.name) else { continue };
            let a_test_on_the_fakes = dependency.kind == DependencyKind::Development;
            if !may.contains(to) && !a_test_on_the_fakes {
                wrong.push(format!("{from} → {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the design does not have: {wrong:#?}");
}

#[test]
fn only_the_api_knows_http_frameworks() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    for package in &metadata.packages {
        let uses =
            |name: &str| package.dependencies.iter().any(|one| one.name == name && one.kind == DependencyKind::Normal);
        let name = package.name.as_str();
        assert!(!uses("axum") || name == "gantry-api", "{name} uses axum");
        assert!(!uses("sled") || name == "gantry-store", "{name} uses sled");
        assert!(!uses("rtnetlink") || ["gantry-network", "gantry-netd"].contains(&name), "{name} uses rtnetlink");
        assert!(!uses("containerd-client") || name == "gantry-containerd", "{name} uses containerd-client");
    }
}
