//! What older versions of the API had otherwise: steps on the finished JSON, each with the version that ended it.

use gantry_domain::container::validate::ApiVersion;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One step, for requests of a version before `before`.
pub struct Gate {
    pub before: ApiVersion,
    pub apply: fn(&mut Value),
}

const fn gate(minor: u32, apply: fn(&mut Value)) -> Gate {
    Gate { before: ApiVersion(1, minor), apply }
}

/// `GET /containers/json`, each item; what later versions changed is not even made: [`super::container::summary_for`].
pub const CONTAINER_SUMMARY: &[Gate] = &[gate(44, |item| each_network(item, |endpoint| remove(endpoint, "DNSNames")))];

/// `GET /containers/{id}/json`.
pub const CONTAINER_INSPECT: &[Gate] = &[
    gate(48, |container| remove(container, "ImageManifestDescriptor")),
    gate(45, short_id_among_aliases),
    gate(44, |container| each_network(container, |endpoint| remove(endpoint, "DNSNames"))),
    gate(43, |container| remove(&mut container["HostConfig"], "Annotations")),
    gate(40, |container| remove(&mut container["HostConfig"], "KernelMemoryTCP")),
];

/// `GET /images/json`, each item.
pub const IMAGE_SUMMARY: &[Gate] = &[
    gate(48, |item| remove(item, "Descriptor")),
    gate(47, |item| remove(item, "Manifests")),
    gate(44, virtual_size),
    gate(43, |item| {
        if ["RepoTags", "RepoDigests"].iter().all(|field| item[field].as_array().is_none_or(Vec::is_empty)) {
            item["RepoTags"] = json!(["<none>:<none>"]);
            item["RepoDigests"] = json!(["<none>@<none>"]);
        }
    }),
];

/// `GET /images/{name}/json`.
pub const IMAGE_INSPECT: &[Gate] = &[
    // The newest shape that is announced still has these, empty or not.
    gate(52, |image| {
        zero_fields(
            &mut image["Config"],
            json!({
                "Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "OnBuild": null, "User": "",
                "Volumes": null, "WorkingDir": "",
            }),
        );
    }),
    gate(50, |image| {
        zero_fields(
            &mut image["Config"],
            json!({
                "AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "",
                "Hostname": "", "Image": "", "OpenStdin": false, "StdinOnce": false, "Tty": false,
            }),
        );
    }),
    gate(48, |image| remove(image, "Descriptor")),
    gate(48, |image| remove(image, "Manifests")),
    gate(45, |image| {
        image["Container"] = "".into();
        image["ContainerConfig"] = image["Config"].clone();
    }),
    gate(44, virtual_size),
    gate(44, |image| {
        if image.get("Created").is_none() {
            image["Created"] = "0001-01-01T00:00:00Z".into();
        }
    }),
];

/// `GET /info`.
pub const INFO: &[Gate] = &[
    gate(50, |info| {
        remove(info, "DiscoveredDevices");
        info["BridgeNfIptables"] = false.into();
        info["BridgeNfIp6tables"] = false.into();
    }),
    gate(49, |info| remove(info, "FirewallBackend")),
    gate(47, |info| remove(info, "CDISpecDirs")),
    gate(46, |info| remove(info, "Containerd")),
    gate(44, |info| {
        for name in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            info[name]["Expected"] = info[name]["ID"].clone();
        }
    }),
    gate(39, |info| remove(info, "Warnings")),
];

/// `GET /system/df`.
pub const DISK_USAGE: &[Gate] = &[
    gate(48, |usage| each(&mut usage["Images"], |item| remove(item, "Descriptor"))),
    gate(48, |usage| each(&mut usage["Containers"], |item| remove(item, "ImageManifestDescriptor"))),
    gate(44, |usage| each(&mut usage["Images"], virtual_size)),
    gate(42, |usage| usage["BuilderSize"] = 0.into()),
];

/// `value` as a request of `version` is to see it; the newest pays nothing.
pub fn shaped<T: Serialize>(value: &T, version: ApiVersion, gates: &[Gate]) -> axum::response::Response {
    if !applies(version, gates) {
        return crate::reply::ok(value);
    }
    match serde_json::to_value(value) {
        Ok(mut json) => {
            apply(&mut json, version, gates);
            crate::reply::ok(&json)
        }
        Err(_) => crate::reply::ok(value),
    }
}

/// The same for a list, whose items are made, shaped and written one by one: a list of thousands is never whole in
/// memory but for its text.
pub fn shaped_list<T: Serialize>(
    items: impl Iterator<Item = T>,
    version: ApiVersion,
    gates: &[Gate],
) -> axum::response::Response {
    let old = applies(version, gates);
    crate::reply::list(items.map(|item| match old.then(|| serde_json::to_value(&item)) {
        Some(Ok(mut json)) => {
            apply(&mut json, version, gates);
            Shaped::Old(json)
        }
        _ => Shaped::Newest(item),
    }))
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shaped<T> {
    Newest(T),
    Old(Value),
}

fn applies(version: ApiVersion, gates: &[Gate]) -> bool {
    gates.iter().any(|gate| version < gate.before)
}

pub fn apply(json: &mut Value, version: ApiVersion, gates: &[Gate]) {
    gates.iter().filter(|gate| version < gate.before).for_each(|gate| (gate.apply)(json));
}

fn remove(json: &mut Value, field: &str) {
    if let Some(members) = json.as_object_mut() {
        members.remove(field);
    }
}

fn each(json: &mut Value, mut step: impl FnMut(&mut Value)) {
    json.as_array_mut().into_iter().flatten().for_each(&mut step);
}

fn each_network(container: &mut Value, step: impl FnMut(&mut Value)) {
    let networks = container["NetworkSettings"]["Networks"].as_object_mut();
    networks.into_iter().flat_map(Map::values_mut).for_each(step);
}

fn virtual_size(image: &mut Value) {
    image["VirtualSize"] = image["Size"].clone();
}

/// Fields that are to be there even when they are empty.
fn zero_fields(json: &mut Value, zeros: Value) {
    if let (Some(members), Value::Object(zeros)) = (json.as_object_mut(), zeros) {
        for (field, zero) in zeros {
            members.entry(field).or_insert(zero);
        }
    }
}

/// Before 1.45 the short id and the host name were aliases on networks of users.
fn short_id_among_aliases(container: &mut Value) {
    let id = container["Id"].as_str().unwrap_or_default();
    let own =
        [id[..id.len().min(12)].to_owned(), container["Config"]["Hostname"].as_str().unwrap_or_default().to_owned()];
    let networks = container["NetworkSettings"]["Networks"].as_object_mut();
    for (name, endpoint) in networks.into_iter().flatten() {
        if matches!(name.as_str(), "bridge" | "host" | "none" | "default") {
            continue;
        }
        let mut aliases: Vec<Value> = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
        for alias in &own {
            if !alias.is_empty() && !aliases.iter().any(|known| known == alias) {
                aliases.push(alias.as_str().into());
            }
        }
        endpoint["Aliases"] = aliases.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped_as(minor: u32, mut json: Value, gates: &[Gate]) -> Value {
        apply(&mut json, ApiVersion(1, minor), gates);
        json
    }

    #[test]
    fn old_image_lists_have_a_virtual_size_and_name_what_is_nameless() {
        let image = json!({"RepoTags": [], "RepoDigests": [], "Size": 5, "Descriptor": {}});
        let old = shaped_as(42, image.clone(), IMAGE_SUMMARY);
        let none = json!({
            "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"], "Size": 5, "VirtualSize": 5,
        });
        assert_eq!(old, none);
        assert_eq!(shaped_as(51, image.clone(), IMAGE_SUMMARY), image);
        let half = json!({"RepoTags": [], "RepoDigests": ["a@b"], "Size": 5});
        assert_eq!(shaped_as(42, half, IMAGE_SUMMARY)["RepoTags"], json!([]), "it has a name");
    }

    #[test]
    fn image_inspect_fills_the_config_of_older_versions() {
        let image = json!({"Config": {"Cmd": ["sh"]}, "Size": 1});
        let newest = shaped_as(51, image.clone(), IMAGE_INSPECT);
        assert_eq!(newest["Config"]["Cmd"], json!(["sh"]));
        assert_eq!(newest["Config"]["Env"], Value::Null);
        assert!(newest["Config"].get("Tty").is_none());
        assert!(shaped_as(49, image.clone(), IMAGE_INSPECT)["Config"].get("Tty").is_some());
        let undated = shaped_as(44, image.clone(), IMAGE_INSPECT);
        assert!(undated.get("ContainerConfig").is_some() && undated.get("Created").is_none());
        assert_eq!(shaped_as(43, image, IMAGE_INSPECT)["Created"], "0001-01-01T00:00:00Z");
        let dated = json!({"Config": {}, "Size": 1, "Created": "2026-01-01T00:00:00Z"});
        assert_eq!(shaped_as(43, dated, IMAGE_INSPECT)["Created"], "2026-01-01T00:00:00Z");
    }

    #[tokio::test]
    async fn a_list_is_written_item_by_item_as_it_is_whole() {
        let gates = &[gate(48, |item| remove(item, "New"))];
        let items = || (0..3).map(|number| json!({"Id": number, "New": true}));
        for (minor, expected) in [
            (48, r#"[{"Id":0,"New":true},{"Id":1,"New":true},{"Id":2,"New":true}]"#),
            (47, r#"[{"Id":0},{"Id":1},{"Id":2}]"#),
        ] {
            let body = shaped_list(items(), ApiVersion(1, minor), gates).into_body();
            let text = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            assert_eq!(text, format!("{expected}\n"));
        }
    }

    #[test]
    fn the_short_id_was_an_alias_until_1_45() {
        let container = json!({
            "Id": "0123456789abcdef", "Config": {"Hostname": "h"},
            "NetworkSettings": {"Networks": {"net": {"Aliases": null}, "bridge": {"Aliases": null}}},
        });
        let old = shaped_as(44, container.clone(), CONTAINER_INSPECT);
        assert_eq!(old["NetworkSettings"]["Networks"]["net"]["Aliases"], json!(["0123456789ab", "h"]));
        assert_eq!(old["NetworkSettings"]["Networks"]["bridge"]["Aliases"], Value::Null);
        assert_eq!(shaped_as(45, container.clone(), CONTAINER_INSPECT), container);
    }
}
