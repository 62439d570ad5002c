//! AppArmor: whether the kernel has it, and the profile `docker-default`, made and loaded where it is missing.

use std::{io::ErrorKind, path::Path, process::Stdio, time::Duration};

use gantry_domain::{Error, Result, container::security::DEFAULT_APPARMOR_PROFILE};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::system::line;

const RULES: &str = include_str!("apparmor/docker-default.rules");

/// Compiling a profile takes parts of a second; a parser that hangs is given up.
const LIMIT: Duration = Duration::from_secs(20);

/// The kernel has it and it is switched on.
pub(super) fn enabled(root: &Path) -> bool {
    line(&root.join("sys/module/apparmor/parameters/enabled")).is_some_and(|text| text == "Y")
}

/// The kernel has a profile of this name. `false` where its list cannot be read.
pub(super) fn is_loaded(root: &Path, name: &str) -> bool {
    let list = std::fs::read_to_string(root.join("sys/kernel/security/apparmor/profiles")).unwrap_or_default();
    // `docker-default (enforce)`
    list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(found, _)| found == name))
}

/// Loads `docker-default` by the host's `apparmor_parser`.
///
/// Errors: `System` where there is no parser, or in the parser's own words.
pub(super) async fn load(root: &Path) -> Result<()> {
    let text = profile(root, &own_profile(root));
    tokio::time::timeout(LIMIT, parse(&text)).await.unwrap_or_else(|_| Err(Error::system("it did not end in time")))
}

/// `-K` takes nothing from the parser's cache, `-r` replaces what is there.
async fn parse(text: &str) -> Result<()> {
    let mut command = Command::new("apparmor_parser");
    command.args(["-K", "-r"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::system("there is no apparmor_parser: install the package apparmor"),
        _ => Error::system(format!("apparmor_parser: {error}")),
    })?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read says why.
        let _ = input.write_all(text.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::system(format!("apparmor_parser: {}", said.trim().lines().next().unwrap_or("failed"))))
}

/// Who signals containers: a confined engine's profile, or `unconfined`.
fn own_profile(root: &Path) -> String {
    let text = line(&root.join("proc/self/attr/current")).unwrap_or_default();
    let name = text.split(" (").next().unwrap_or_default().trim_end_matches('\0');
    // Never a character that would end the rule.
    let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-/".contains(letter));
    if name.is_empty() || !plain { "unconfined".into() } else { name.into() }
}

/// Tunables, abstractions and the ABI come from the host where it has them.
fn profile(root: &Path, engine: &str) -> String {
    let has = |path: &str| root.join("etc/apparmor.d").join(path).exists();
    let mut text = String::new();
    if has("abi/3.0") {
        text.push_str("abi <abi/3.0>,\n");
    }
    text.push_str(if has("tunables/global") { "include <tunables/global>\n" } else { "@{PROC}=/proc/\n" });
    let base = if has("abstractions/base") { "  include <abstractions/base>\n" } else { "" };
    let rules = RULES.replace("@BASE@\n", base).replace("@NAME@", DEFAULT_APPARMOR_PROFILE).replace("@ENGINE@", engine);
    text.push_str(&rules);
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::facts::tree::tree;

    #[test]
    fn a_profile_is_found_by_its_whole_name_in_the_kernels_list() {
        let list = "/usr/bin/man (enforce)\ndocker-default-2 (enforce)\nlsb_release (complain)\n";
        let root = tree(&[("sys/kernel/security/apparmor/profiles", list)]);
        assert!(!is_loaded(root.path(), "docker-default"));
        assert!(is_loaded(root.path(), "docker-default-2") && is_loaded(root.path(), "/usr/bin/man"));
        assert!(!is_loaded(Path::new("/nowhere"), "docker-default"));
    }

    #[test]
    fn apparmor_counts_only_where_it_is_switched_on() {
        assert!(enabled(tree(&[("sys/module/apparmor/parameters/enabled", "Y\n")]).path()));
        assert!(!enabled(tree(&[("sys/module/apparmor/parameters/enabled", "N\n")]).path()));
        assert!(!enabled(tree(&[]).path()));
    }

    #[test]
    fn the_profile_takes_from_the_host_what_the_host_has() {
        let bare = profile(tree(&[]).path(), "unconfined");
        assert!(bare.starts_with("@{PROC}=/proc/\n") && !bare.contains("include"));
        assert!(!bare.contains("@NAME@") && !bare.contains("@BASE@") && !bare.contains("@ENGINE@"), "{bare}");
        let root = tree(&[
            ("etc/apparmor.d/abi/3.0", ""),
            ("etc/apparmor.d/tunables/global", ""),
            ("etc/apparmor.d/abstractions/base", ""),
        ]);
        let whole = profile(root.path(), "gantryd");
        assert!(whole.starts_with("abi <abi/3.0>,\ninclude <tunables/global>\n"));
        assert!(whole.contains("include <abstractions/base>") && whole.contains("signal (receive) peer=gantryd,"));
    }

    #[test]
    fn an_engine_with_an_odd_profile_adds_no_rule() {
        assert_eq!(own_profile(tree(&[("proc/self/attr/current", "gantryd (enforce)\n")]).path()), "gantryd");
        assert_eq!(own_profile(tree(&[("proc/self/attr/current", "a, file,\n")]).path()), "unconfined");
        assert_eq!(own_profile(tree(&[]).path()), "unconfined");
    }
}
