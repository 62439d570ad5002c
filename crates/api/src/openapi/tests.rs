//! Whether the committed description is the code's, and whether the coverage list names every route.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::PathBuf};

fn api_spec(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../api-spec").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_committed_description_is_the_one_the_code_makes() {
    assert!(api_spec("openapi.yaml") == super::yaml(), "api-spec/openapi.yaml is stale: run `make spec`");
}

#[test]
fn every_route_has_a_line_of_coverage_and_every_line_a_route() {
    let routes: Vec<_> = crate::routes::all().iter().map(crate::route::Route::key).collect();
    let unique: BTreeSet<_> = routes.iter().cloned().collect();
    assert_eq!(routes.len(), unique.len(), "a route is listed twice");
    let coverage = api_spec("coverage.toml");
    let lines: BTreeSet<_> = coverage
        .lines()
        .filter_map(|line| line.strip_prefix('"')?.split_once('"').map(|(key, _)| key.to_owned()))
        .collect();
    let without_line: Vec<_> = unique.difference(&lines).collect();
    let without_route: Vec<_> = lines.difference(&unique).collect();
    assert!(
        without_line.is_empty() && without_route.is_empty(),
        "no line: {without_line:?}; no route: {without_route:?}"
    );
    assert_eq!(lines.len(), 122);
}

#[test]
fn every_line_of_coverage_says_a_known_state() {
    for line in api_spec("coverage.toml").lines().filter(|line| line.starts_with('"')) {
        let state = line.split("state = \"").nth(1).and_then(|rest| rest.split('"').next());
        assert!(matches!(state, Some("done" | "partial" | "todo")), "{line}");
        assert!(state == Some("done") || line.contains("missing = \""), "what is missing? {line}");
    }
}

#[test]
fn every_described_operation_names_its_answers() {
    for route in crate::routes::all().iter().filter(|route| route.described) {
        assert!(!route.summary.is_empty(), "{} has no summary", route.key());
        assert!(route.answers.iter().any(|answer| answer.status < 400), "{} never succeeds", route.key());
        let names_parameter = route.path.contains('{');
        assert!(
            !names_parameter || route.answers.iter().any(|answer| answer.status == 404),
            "{} lacks 404",
            route.key()
        );
    }
}
