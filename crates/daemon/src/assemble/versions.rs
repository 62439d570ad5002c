//! Known holes in the containerd and the runc below us (T20, T26): told, or refused with `strict-runtime`.

use anyhow::{Result, anyhow};
use gantry_domain::ports::Runtime;

/// `1.7` and, within it, the number of a release and of its candidate.
type Line = (u32, u32);
type Release = (u32, u32);
/// A release itself comes after its candidates.
const FINAL: u32 = u32::MAX;

/// First good release of each line: an older line has none, and one that is not listed is newer than this program.
/// T20 has containerd's; runc's are those of T22, which are later than T26's.
const CONTAINERD: &[(Line, Release)] =
    &[((1, 7), (33, FINAL)), ((2, 0), (10, FINAL)), ((2, 1), (9, FINAL)), ((2, 2), (5, FINAL)), ((2, 3), (2, FINAL))];
const RUNC: &[(Line, Release)] = &[((1, 3), (6, FINAL)), ((1, 4), (3, FINAL)), ((1, 5), (0, 3))];

/// Sentences for `/info`; an error where holes are refused.
pub async fn check(runtime: &dyn Runtime, strict: bool) -> Result<Vec<String>> {
    let versions = match runtime.versions().await {
        Ok(versions) => versions,
        Err(error) if strict => return Err(anyhow!("strict-runtime: the versions below are not known: {error}")),
        Err(error) => {
            tracing::warn!(%error, "the versions of containerd and runc are not known");
            return Ok(Vec::new());
        }
    };
    let is_runc = versions.runc_path.ends_with("runc");
    let holes: Vec<String> = [("containerd", &versions.containerd, CONTAINERD), ("runc", &versions.runc, RUNC)]
        .into_iter()
        .filter(|(program, ..)| *program == "containerd" || is_runc)
        .filter_map(|(program, version, lines)| hole(program, version, lines))
        .collect();
    if strict && let Some(hole) = holes.first() {
        return Err(anyhow!("strict-runtime: {hole}"));
    }
    for hole in &holes {
        tracing::warn!("{hole}");
    }
    Ok(holes.into_iter().map(|hole| format!("WARNING: {hole}")).collect())
}

fn hole(program: &str, version: &str, lines: &[(Line, Release)]) -> Option<String> {
    let (line, release) = parse(version)?;
    let oldest = lines.first()?.0;
    let bad = match lines.iter().find(|(listed, _)| *listed == line) {
        Some((_, good)) => release < *good,
        None => line < oldest,
    };
    let mended =
        if version.contains(['~', '+']) { "; the distribution may have mended it without a new number" } else { "" };
    bad.then(|| format!("{program} {version} is a release with known holes{mended}"))
}

/// `v1.6.20~ds1` is number 20 of 1.6, `1.5.0-rc.2` the second candidate for number 0 of 1.5.
fn parse(version: &str) -> Option<(Line, Release)> {
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse::<u32>());
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let candidate = version.split_once("-rc").map(|(_, rest)| {
        let digits = rest.trim_start_matches('.').split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().unwrap_or(0)
    });
    Some(((major, minor), (numbers.next().and_then(Result::ok).unwrap_or(0), candidate.unwrap_or(FINAL))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_with_known_holes_are_told() {
        let bad = |version| hole("containerd", version, CONTAINERD).is_some();
        for version in ["v2.1.0", "1.7.32", "1.6.20~ds1", "v2.0.9", "2.1.8", "v2.2.4", "v2.3.1", "v2.3.2-rc.1", "1.0.0"]
        {
            assert!(bad(version), "{version}");
        }
        for version in ["v2.1.9", "1.7.33", "v2.0.10", "v2.2.5", "2.3.2", "v2.4.0", "v2.4.0-rc.0", "3.0.1", "unknown"] {
            assert!(!bad(version), "{version}");
        }
        let bad = |version| hole("runc", version, RUNC).is_some();
        for version in ["1.1.5+ds1", "1.2.8", "1.3.5", "1.4.2", "1.5.0-rc.2", "1.5.0-rc1"] {
            assert!(bad(version), "{version}");
        }
        for version in ["1.3.6", "1.4.3", "1.5.0-rc.3", "1.5.0", "1.6.0", ""] {
            assert!(!bad(version), "{version}");
        }
    }
}
