//! Pure: a container's record, its user, the engine's settings and facts of the host make an OCI runtime spec.
//!
//! What comes out equals what dockerd makes. It is built as JSON, in a stable order, so that goldens can be compared
//! (the sets of `oci_spec::runtime` have no order); the tests read it back through those types.
//!
//! Nothing of an image's labels or annotations passes through here (T12): annotations are `HostConfig.Annotations`.

mod edits;
mod input;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod seccomp;

use bytes::Bytes;
use gantry_domain::{Error, Result, container::security::SecurityOptions};
use serde_json::{Value, json};

pub use input::{Device, ExecInput, HostFiles, Namespace, SpecInput};

/// The version of the runtime specification that runc 1.1 and all later ones take.
const OCI_VERSION: &str = "1.0.2";

/// The kernel's name of the NIS domain.
const DOMAIN_NAME: &str = "kernel.domainname";

/// The whole spec of a container, JSON. The root file system is `rootfs` in the bundle.
pub fn runtime_spec(input: &SpecInput<'_>) -> Result<Bytes> {
    let (record, host) = (input.record, &input.record.host_config);
    let security = SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let mut spec = json!({
        "ociVersion": OCI_VERSION,
        "process": process::of_container(input, &security)?,
        "root": { "path": "rootfs", "readonly": host.readonly_rootfs },
        "mounts": mounts::all(input, &security)?,
        "linux": linux(input, &security)?,
    });
    if host.uts_mode != "host" {
        set(&mut spec, "hostname", &record.config.hostname);
        // What the specification has for it, runc before 1.2 passes over. One that was asked for wins.
        if !host.sysctls.contains_key(DOMAIN_NAME) {
            set(&mut spec["linux"]["sysctl"], DOMAIN_NAME, &record.config.domainname);
        }
    }
    if !host.annotations.is_empty() {
        spec["annotations"] = json!(host.annotations);
    }
    edits::apply(&mut spec, input.edits);
    to_bytes(&spec)
}

/// The OCI `Process` of an exec, JSON.
pub fn exec_process(input: &ExecInput<'_>) -> Result<Bytes> {
    to_bytes(&process::of_exec(input)?)
}

/// The OCI `LinuxResources` for an update of a running task, JSON: limits only, the device rules stay.
pub fn resources(
    host: &gantry_domain::container::HostConfig,
    block_devices: &std::collections::BTreeMap<String, (u32, u32)>,
) -> Result<Bytes> {
    to_bytes(&resources::limits(host, block_devices)?)
}

fn linux(input: &SpecInput<'_>, security: &SecurityOptions) -> Result<Value> {
    let host = &input.record.host_config;
    let mut limits = resources::limits(host, input.block_devices)?;
    limits["devices"] = resources::device_rules(input)?;
    let mut linux = json!({
        "resources": limits,
        "cgroupsPath": cgroups_path(input),
        "namespaces": namespaces::all(input),
        "sysctl": namespaces::sysctls(input),
        "devices": resources::device_nodes(input),
    });
    if namespaces::is_remapped(input) {
        linux["uidMappings"] = json!(namespaces::id_mappings(&input.id_maps.uids));
        linux["gidMappings"] = json!(namespaces::id_mappings(&input.id_maps.gids));
    }
    if !host.privileged {
        linux["maskedPaths"] = json!(host.masked_paths.clone().unwrap_or_default());
        linux["readonlyPaths"] = json!(host.readonly_paths.clone().unwrap_or_default());
    }
    if !input.record.mount_label.is_empty() {
        linux["mountLabel"] = json!(input.record.mount_label);
    }
    if let Some(filter) = seccomp::filter(input, security)? {
        linux["seccomp"] = filter;
    }
    if let Some(propagation) = mounts::root_propagation(input) {
        linux["rootfsPropagation"] = json!(propagation);
    }
    Ok(linux)
}

/// `/gantry/<id>` below cgroupfs, `system.slice:gantry:<id>` with systemd.
pub fn cgroups_path(input: &SpecInput<'_>) -> String {
    let (id, host) = (&input.record.id, &input.record.host_config);
    let parent = [&host.cgroup_parent, &input.settings.cgroup_parent].into_iter().find(|parent| !parent.is_empty());
    match (input.settings.cgroup_driver.as_str(), parent) {
        ("systemd", parent) => format!("{}:gantry:{id}", parent.map_or("system.slice", String::as_str)),
        (_, Some(parent)) => format!("{}/{id}", parent.trim_end_matches('/')),
        (_, None) => format!("/gantry/{id}"),
    }
}

fn set(spec: &mut Value, key: &str, text: &str) {
    if !text.is_empty() {
        spec[key] = json!(text);
    }
}

fn to_bytes(value: &Value) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::system("cannot write the runtime spec").with_source(error))
}
