//! Files say what they are, lie beside their folder, and stay short.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files longer than this say more than one thing.
const LINES: usize = 500;

fn sources() -> Vec<PathBuf> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    let mut folders = vec![crates.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "the sources are not where this test looks");
    found
}

fn offenders(is_wrong: impl Fn(&Path, &str) -> bool) -> Vec<PathBuf> {
    sources().into_iter().filter(|path| is_wrong(path, &fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn the_first_line_says_what_a_file_is() {
    let silent = offenders(|_, text| !text.lines().next().is_some_and(|line| line.starts_with("//! ")));
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn no_file_is_a_mod_rs() {
    let found = offenders(|path, _| path.ends_with("mod.rs"));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = offenders(|_, text| text.lines().count() > LINES);
    assert!(long.is_empty(), "over {LINES} lines: {long:#?}");
}

#[test]
fn no_file_names_a_machine_it_was_written_on() {
    let named = offenders(|path, text| !path.ends_with("tidy.rs") && text.contains("/work/"));
    assert!(named.is_empty(), "{named:#?}");
}
