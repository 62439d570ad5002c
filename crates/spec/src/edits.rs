//! What devices ask of a finished spec: environment, nodes with their cgroup rules, mounts, hooks.

use gantry_domain::cdi::{ContainerEdits, DeviceEdit, IntelRdt};
use serde_json::{Map, Value, json};

/// Applies edits in their order, as the CDI library does. Device nodes are complete.
pub(crate) fn apply(spec: &mut Value, edits: &[ContainerEdits]) {
    for edit in edits {
        for variable in &edit.env {
            set_variable(&mut spec["process"]["env"], variable);
        }
        for node in &edit.device_nodes {
            add_node(spec, node);
        }
        for mount in &edit.mounts {
            let mounts = list(&mut spec["mounts"]);
            mounts.retain(|known| known["destination"] != mount.container_path.as_str());
            mounts.push(json!({
                "destination": mount.container_path,
                "source": mount.host_path,
                "type": if mount.kind.is_empty() { "bind" } else { &mount.kind },
                "options": mount.options,
            }));
        }
        for hook in &edit.hooks {
            let mut entry = json!({ "path": hook.path, "args": hook.args, "env": hook.env });
            if let Some(timeout) = hook.timeout {
                entry["timeout"] = json!(timeout);
            }
            list(&mut spec["hooks"][&hook.hook_name]).push(entry);
        }
        if let Some(rdt) = &edit.intel_rdt {
            spec["linux"]["intelRdt"] = intel_rdt(rdt);
        }
        let groups = list(&mut spec["process"]["user"]["additionalGids"]);
        for group in edit.additional_gids.iter().filter(|group| **group != 0) {
            if !groups.contains(&json!(group)) {
                groups.push(json!(group));
            }
        }
    }
    if edits.iter().any(|edit| !edit.mounts.is_empty()) {
        let depth = |mount: &Value| mount["destination"].as_str().map_or(0, |path| path.matches('/').count());
        // Parents before what lies in them; the sort keeps the order of equals.
        list(&mut spec["mounts"]).sort_by_key(depth);
    }
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("it was made an array"),
    }
}

fn set_variable(env: &mut Value, variable: &str) {
    let name = variable.split_once('=').map_or(variable, |(name, _)| name);
    let is_it =
        |known: &Value| known.as_str().and_then(|known| known.split_once('=')).is_some_and(|(of, _)| of == name);
    let env = list(env);
    match env.iter_mut().find(|known| is_it(known)) {
        Some(known) => *known = json!(variable),
        None => env.push(json!(variable)),
    }
}

fn add_node(spec: &mut Value, node: &DeviceEdit) {
    let mut entry = json!({ "path": node.path, "type": node.kind, "major": node.major, "minor": node.minor });
    // Who runs the process is to reach it.
    let owner = |key: &str| spec["process"]["user"][key].as_u64().filter(|id| *id > 0);
    for (key, said) in [("uid", node.uid), ("gid", node.gid)] {
        if let Some(id) = said.map(u64::from).or_else(|| owner(key)) {
            entry[key] = json!(id);
        }
    }
    if let Some(mode) = node.file_mode {
        entry["fileMode"] = json!(mode);
    }
    // As for the container's own devices: in a user namespace another path is a mount.
    if spec["linux"]["uidMappings"].is_array() && node.source() != node.path {
        list(&mut spec["mounts"]).push(json!({
            "destination": node.path, "source": node.source(), "type": "bind", "options": ["bind", "rprivate"],
        }));
    } else {
        let nodes = list(&mut spec["linux"]["devices"]);
        nodes.retain(|known| known["path"] != node.path.as_str());
        nodes.push(entry);
    }
    if matches!(node.kind.as_str(), "b" | "c") {
        let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
        list(&mut spec["linux"]["resources"]["devices"]).push(json!({
            "allow": true, "type": node.kind, "major": node.major, "minor": node.minor, "access": access,
        }));
    }
}

fn intel_rdt(rdt: &IntelRdt) -> Value {
    let mut fields = Map::new();
    for (key, text) in
        [("closID", &rdt.clos_id), ("l3CacheSchema", &rdt.l3_cache_schema), ("memBwSchema", &rdt.mem_bw_schema)]
    {
        if !text.is_empty() {
            fields.insert(key.into(), json!(text));
        }
    }
    for (key, wanted) in [("enableCMT", rdt.enable_cmt), ("enableMBM", rdt.enable_mbm)] {
        if wanted {
            fields.insert(key.into(), json!(true));
        }
    }
    Value::Object(fields)
}
