//! The seccomp filter: a profile in Docker's format, resolved for one container's capabilities, machine and kernel.

use gantry_domain::{Error, Result, container::security::SecurityOptions, platform::Platform};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{SpecInput, process::capabilities};

/// The allow-list that containers have by default (T30), as data.
const DEFAULT: &str = include_str!("seccomp/default.json");

/// A profile as Docker takes it: OCI's seccomp with conditions on capabilities, machine and kernel.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: String,
    listener_metadata: String,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    name: String,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Value>>,
    includes: Condition,
    excludes: Condition,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: String,
}

/// `None` where the container runs without a filter.
pub(crate) fn filter(input: &SpecInput<'_>, security: &SecurityOptions) -> Result<Option<Value>> {
    let host = &input.record.host_config;
    let text = match (security.seccomp.as_deref(), host.privileged) {
        (Some("unconfined"), _) | (None | Some(""), true) => return Ok(None),
        (Some("builtin"), _) => DEFAULT,
        (Some(inline), _) if !inline.is_empty() => inline,
        _ => match (input.seccomp_profile, input.settings.seccomp_profile.as_str()) {
            (Some(file), _) => std::str::from_utf8(file)
                .map_err(|error| Error::invalid("the seccomp profile is not UTF-8").with_source(error))?,
            (None, "unconfined") => return Ok(None),
            (None, "" | "builtin" | "default") => DEFAULT,
            (None, path) => return Err(Error::system(format!("the seccomp profile {path} was not read"))),
        },
    };
    let failed = |why: &dyn std::fmt::Display| Error::invalid(format!("Decoding seccomp profile failed: {why}"));
    // serde takes a list for a struct as well: an empty one would be a profile that filters nothing.
    if !text.trim_start().starts_with('{') {
        return Err(failed(&"it is no JSON object"));
    }
    let profile: Profile = serde_json::from_str(text).map_err(|error| failed(&error))?;
    let machine = Machine {
        caps: capabilities(host, input.facts, host.privileged)?,
        arch: Platform::host().architecture,
        kernel: kernel(&input.facts.kernel_version),
    };
    resolve(&profile, &machine).map(Some)
}

struct Machine {
    caps: Vec<&'static str>,
    /// Go's name.
    arch: String,
    kernel: (u32, u32),
}

fn kernel(version: &str) -> (u32, u32) {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn resolve(profile: &Profile, machine: &Machine) -> Result<Value> {
    if profile.architectures.is_some() && profile.arch_map.is_some() {
        return Err(Error::invalid(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
        ));
    }
    let mut syscalls = Vec::new();
    for rule in profile.syscalls.iter().flatten().filter(|rule| rule.applies(machine)) {
        syscalls.push(rule.resolved()?);
    }
    let mut filter = json!({
        "defaultAction": profile.default_action,
        "architectures": architectures(profile, machine),
        "syscalls": syscalls,
    });
    if let Some(errno) = profile.default_errno_ret {
        filter["defaultErrnoRet"] = json!(errno);
    }
    if let Some(flags) = profile.flags.as_ref().filter(|flags| !flags.is_empty()) {
        filter["flags"] = json!(flags);
    }
    if !profile.listener_path.is_empty() {
        filter["listenerPath"] = json!(profile.listener_path);
        filter["listenerMetadata"] = json!(profile.listener_metadata);
    }
    Ok(filter)
}

fn architectures(profile: &Profile, machine: &Machine) -> Vec<String> {
    if let Some(list) = &profile.architectures {
        return list.clone();
    }
    let native = match machine.arch.as_str() {
        "amd64" => "SCMP_ARCH_X86_64",
        "386" => "SCMP_ARCH_X86",
        "arm64" => "SCMP_ARCH_AARCH64",
        "arm" => "SCMP_ARCH_ARM",
        "ppc64le" => "SCMP_ARCH_PPC64LE",
        "s390x" => "SCMP_ARCH_S390X",
        "riscv64" => "SCMP_ARCH_RISCV64",
        _ => return Vec::new(),
    };
    let entry = profile.arch_map.iter().flatten().find(|entry| entry.architecture == native);
    let all = entry.map(|entry| {
        std::iter::once(entry.architecture.clone()).chain(entry.sub_architectures.iter().flatten().cloned()).collect()
    });
    all.unwrap_or_default()
}

impl Rule {
    fn applies(&self, machine: &Machine) -> bool {
        let has_cap = |cap: &String| machine.caps.contains(&cap.as_str());
        let has_arch = |arch: &String| *arch == machine.arch;
        let (include, exclude) = (&self.includes, &self.excludes);
        (include.arches.is_empty() || include.arches.iter().any(has_arch))
            && include.caps.iter().all(has_cap)
            && (include.min_kernel.is_empty() || machine.kernel >= kernel(&include.min_kernel))
            && !exclude.arches.iter().any(has_arch)
            && !exclude.caps.iter().any(has_cap)
            && (exclude.min_kernel.is_empty() || machine.kernel < kernel(&exclude.min_kernel))
    }

    fn resolved(&self) -> Result<Value> {
        let names = match (&self.names, self.name.as_str()) {
            (Some(names), "") if !names.is_empty() => names.clone(),
            (names, name) if !name.is_empty() && names.as_ref().is_none_or(Vec::is_empty) => vec![name.to_owned()],
            _ => {
                let text = "use either 'name' or 'names' in a syscall of the seccomp profile, and not both";
                return Err(Error::invalid(text));
            }
        };
        let mut rule = json!({ "names": names, "action": self.action });
        if let Some(errno) = self.errno_ret {
            rule["errnoRet"] = json!(errno);
        }
        if let Some(args) = self.args.as_ref().filter(|args| !args.is_empty()) {
            rule["args"] = json!(args);
        }
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rules(caps: Vec<&'static str>) -> Vec<(String, Value)> {
        let profile: Profile = serde_json::from_str(DEFAULT).unwrap();
        let filter = resolve(&profile, &Machine { caps, arch: "amd64".into(), kernel: (6, 1) }).unwrap();
        let list = filter["syscalls"].as_array().unwrap().clone();
        list.into_iter()
            .flat_map(|rule| {
                let names = rule["names"].as_array().unwrap().clone();
                names.into_iter().map(move |name| (name.as_str().unwrap().to_owned(), rule.clone()))
            })
            .collect()
    }

    fn allowed_whole(rules: &[(String, Value)], name: &str) -> bool {
        rules.iter().any(|(n, rule)| n == name && rule["action"] == "SCMP_ACT_ALLOW" && rule.get("args").is_none())
    }

    #[test]
    fn namespaces_are_closed_without_sys_admin_and_open_with_it() {
        let (without, with) = (rules(vec!["CAP_CHOWN"]), rules(vec!["CAP_SYS_ADMIN"]));
        for name in ["mount", "unshare", "setns", "clone", "bpf"] {
            assert!(!allowed_whole(&without, name) && allowed_whole(&with, name), "{name}");
        }
        let clone3 = without.iter().find(|(name, _)| name == "clone3").unwrap();
        assert_eq!((clone3.1["action"].as_str(), clone3.1["errnoRet"].as_u64()), (Some("SCMP_ACT_ERRNO"), Some(38)));
        let clone = &without.iter().find(|(name, _)| name == "clone").unwrap().1["args"][0];
        assert_eq!(clone["value"], 0x7E02_0000);
    }

    #[test]
    fn the_dangerous_are_never_allowed_and_the_usual_always() {
        let rules = rules(gantry_domain::container::security::DEFAULT_CAPABILITIES.to_vec());
        for name in ["io_uring_setup", "kexec_load", "keyctl", "add_key", "userfaultfd", "init_module", "reboot"] {
            assert!(!rules.iter().any(|(n, _)| n == name), "{name}");
        }
        for name in ["read", "openat", "futex", "chroot", "ptrace", "arch_prctl"] {
            assert!(allowed_whole(&rules, name), "{name}");
        }
        assert!(!allowed_whole(&rules, "socket"), "AF_ALG and AF_VSOCK are shut");
    }

    #[test]
    fn conditions_on_machine_and_kernel() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"name":"a","action":"SCMP_ACT_ERRNO","includes":{"arches":["arm64"]}},
            {"name":"b","action":"SCMP_ACT_ERRNO","includes":{"minKernel":"6.2"}},
            {"names":["c"],"action":"SCMP_ACT_ERRNO","excludes":{"arches":["amd64"]}},
            {"names":["d"],"action":"SCMP_ACT_ERRNO","errnoRet":5}]}"#;
        let profile: Profile = serde_json::from_str(text).unwrap();
        let filter = resolve(&profile, &Machine { caps: vec![], arch: "amd64".into(), kernel: (6, 1) }).unwrap();
        assert_eq!(filter["syscalls"], json!([{ "names": ["d"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5 }]));
    }
}
