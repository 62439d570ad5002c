//! Known holes in the containerd and the runc below us (T20, T26): told, or refused with `strict-runtime`.

use anyhow::{Result, anyhow};
use gantry_domain::ports::Runtime;

/// First good release of each line; a line that is not listed is newer than this program.
const CONTAINERD: &[((u32, u32), u32)] = &[((1, 7), 33), ((2, 0), 10), ((2, 1), 9), ((2, 2), 5), ((2, 3), 2)];
const RUNC: &[((u32, u32), u32)] = &[((1, 2), 8), ((1, 3), 3)];

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

fn hole(program: &str, version: &str, lines: &[((u32, u32), u32)]) -> Option<String> {
    let (line, patch) = parse(version)?;
    let oldest = lines.first()?.0;
    let bad = match lines.iter().find(|(listed, _)| *listed == line) {
        Some((_, good)) => patch < *good,
        None => line < oldest,
    };
    let mended =
        if version.contains(['~', '+']) { "; the distribution may have mended it without a new number" } else { "" };
    bad.then(|| format!("{program} {version} is a release with known holes{mended}"))
}

/// `v1.6.20~ds1` → ((1, 6), 20).
fn parse(version: &str) -> Option<((u32, u32), u32)> {
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse::<u32>());
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(((major, minor), numbers.next().and_then(Result::ok).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_with_known_holes_are_told() {
        let bad = |version| hole("containerd", version, CONTAINERD).is_some();
        assert!(bad("v2.1.0") && bad("1.7.32") && bad("1.6.20~ds1") && bad("v2.0.9"));
        assert!(!bad("v2.1.9") && !bad("1.7.33") && !bad("v2.4.0") && !bad("unknown"));
        let bad = |version| hole("runc", version, RUNC).is_some();
        assert!(bad("1.1.5+ds1") && bad("1.2.7") && !bad("1.2.8") && !bad("1.3.3") && !bad("1.4.0"));
    }
}
