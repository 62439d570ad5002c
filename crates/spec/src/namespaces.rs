//! Namespaces, and the kernel settings inside them.

use std::collections::BTreeMap;

use gantry_domain::id_maps::IdRange;
use serde_json::{Value, json};

use crate::{Namespace, SpecInput};

pub(crate) fn all(input: &SpecInput<'_>) -> Value {
    let host = &input.record.host_config;
    let own = |shared: bool| if shared { Namespace::Host } else { Namespace::New };
    let list = [
        ("mount", &Namespace::New),
        ("network", input.network),
        ("uts", &own(host.uts_mode == "host")),
        ("pid", input.pid),
        ("ipc", input.ipc),
        ("cgroup", &own(host.cgroupns_mode != "private")),
        ("user", input.user_namespace),
    ];
    let entries = list.into_iter().filter_map(|(kind, namespace)| match namespace {
        Namespace::New => Some(json!({ "type": kind })),
        Namespace::Join(path) => Some(json!({ "type": kind, "path": path })),
        Namespace::Host => None,
    });
    entries.collect()
}

/// As asked, and dockerd's two: programs may listen below 1024 and ping without capabilities.
pub(crate) fn sysctls(input: &SpecInput<'_>) -> BTreeMap<String, String> {
    let host = &input.record.host_config;
    let mut settings = host.sysctls.clone();
    if is_remapped(input) && *input.network == Namespace::New {
        // The interfaces come when the runtime is through; who brings them sets these too.
        settings.retain(|key, _| !key.starts_with("net"));
    }
    if *input.network != Namespace::Host && !host.network_mode.starts_with("container:") {
        let mut default = |key: &str, value: &str| {
            settings.entry(key.into()).or_insert_with(|| value.into());
        };
        // One that was asked for comes with the interfaces.
        if !host.sysctls.contains_key("net.ipv4.ip_unprivileged_port_start") {
            default("net.ipv4.ip_unprivileged_port_start", "0");
        }
        // The range names groups that no user namespace has.
        if !is_remapped(input) {
            default("net.ipv4.ping_group_range", "0 2147483647");
        }
    }
    settings
}

pub(crate) fn is_remapped(input: &SpecInput<'_>) -> bool {
    *input.user_namespace != Namespace::Host
}

/// `uidMappings` or `gidMappings`.
pub(crate) fn id_mappings(ranges: &[IdRange]) -> Vec<Value> {
    let entry = |range: &IdRange| json!({ "containerID": range.container, "hostID": range.host, "size": range.count });
    ranges.iter().map(entry).collect()
}
