//! Namespaces, and the kernel settings inside them.

use std::collections::BTreeMap;

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
    if *input.network != Namespace::Host && !host.network_mode.starts_with("container:") {
        for (key, value) in
            [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
        {
            settings.entry(key.into()).or_insert_with(|| value.into());
        }
    }
    settings
}
