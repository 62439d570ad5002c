//! Documents made to break a reader (T14 to T16): never a panic, never beyond the limits, and in bounded time.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// What a reader of these documents looks for.
const WORDS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "fsLayers",
    "digest",
    "size",
    "urls",
    "annotations",
    "platform",
    "os",
    "architecture",
    "variant",
    "os.version",
    "rootfs",
    "type",
    "diff_ids",
    "history",
    "created",
    "created_by",
    "empty_layer",
    "comment",
    "author",
    "Env",
    "Cmd",
    "Entrypoint",
    "Labels",
    "Volumes",
    "ExposedPorts",
    "User",
    "WorkingDir",
    "Healthcheck",
    "Interval",
    "OnBuild",
    "Shell",
    "StopSignal",
];

fn leaf() -> impl Strategy<Value = Value> {
    let types = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST, OCI_CONFIG, DOCKER_CONFIG, OCI_LAYER];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![0, 1, 2, -1, i64::MIN, i64::MAX]).prop_map(Value::from),
        prop::sample::select(types.to_vec()).prop_map(Value::from),
        any::<[u8; 32]>().prop_map(|bytes| Value::from(format!("sha256:{}", hex::encode(bytes)))),
        prop::sample::select(vec![
            "sha256:../../etc",
            "",
            "linux",
            "layers",
            "2026-01-01T00:00:00Z",
            "0000-00-00T99:99:99Z"
        ])
        .prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ]
}

/// Any JSON with the right words in wrong places.
fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(5, 120, 8, |inner| {
        let object = prop::collection::vec((prop::sample::select(WORDS.to_vec()), inner.clone()), 0..8);
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(Value::from),
            object.prop_map(|fields| Value::from(
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>()
            )),
        ]
    })
}

fn sound(seed: u8) -> [(&'static str, Value); 3] {
    let blob = |kind: &str, byte: u8| json!({"mediaType": kind, "digest": format!("sha256:{}", hex::encode([byte; 32])), "size": 9});
    let platform = json!({"os": "linux", "architecture": "arm64", "variant": "v8", "os.features": ["a"]});
    let mut entry = blob(OCI_MANIFEST, seed);
    entry["platform"] = platform;
    entry["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": blob(OCI_CONFIG, 1), "layers": [blob(OCI_LAYER, 2)],
        "annotations": {"a": "b"},
    });
    let config = json!({
        "created": "2026-01-01T00:00:00.5Z", "os": "linux", "architecture": "arm64",
        "config": {"Env": ["A=b"], "Cmd": ["x"], "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}},
                   "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex::encode([seed; 32]))]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "x", "empty_layer": true}, {}],
    });
    [
        (OCI_INDEX, json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})),
        (OCI_MANIFEST, manifest),
        (OCI_CONFIG, config),
    ]
}

/// Reads it as everything that it might be called.
fn read(bytes: &[u8]) -> Result<(), TestCaseError> {
    for kind in [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST, OCI_CONFIG, "", "application/json"] {
        match parse(kind, bytes) {
            Ok(Document::Index(entries)) => {
                prop_assert!(is_index(kind) && entries.len() <= MAX_INDEX_DOCUMENTS);
                prop_assert!(entries.iter().all(|entry| entry.size >= 0));
                for entry in &entries {
                    let _ = (is_attestation(entry), attested(entry));
                }
            }
            Ok(Document::Manifest(manifest)) => {
                prop_assert!(is_manifest(kind) && manifest.layers.len() <= MAX_LAYERS);
                prop_assert!(manifest.layers.iter().chain([&manifest.config]).all(|blob| blob.size >= 0));
            }
            Err(error) => prop_assert!(error.message().len() < 1000, "what is told does not grow with what came"),
        }
    }
    if let Ok(config) = parse_config(bytes) {
        prop_assert!(config.rootfs.diff_ids.len() <= MAX_LAYERS);
        let _ = (config.platform(), serde_json::to_vec(&config).unwrap());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes)?;
    }

    #[test]
    fn any_json_with_the_right_words(value in tree()) {
        read(&serde_json::to_vec(&value).unwrap())?;
    }

    #[test]
    fn sound_documents_with_one_part_changed(which in 0..3usize, part in any::<prop::sample::Index>(), value in tree()) {
        let mut document = sound(7)[which].1.clone();
        let pointers = pointers(&document);
        let pointer: &String = part.get(&pointers);
        *document.pointer_mut(pointer).unwrap() = value;
        read(&serde_json::to_vec(&document).unwrap())?;
    }

    #[test]
    fn sound_documents_with_bytes_changed_or_cut_off(
        which in 0..3usize, at in any::<prop::sample::Index>(), byte in any::<u8>(), end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = serde_json::to_vec(&sound(9)[which].1).unwrap();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        read(&bytes)?;
        bytes.truncate(end.index(bytes.len()));
        read(&bytes)?;
    }
}

/// Every place in a document.
fn pointers(value: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    let below: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in below {
        found.extend(pointers(value).into_iter().map(|rest| format!("/{name}{rest}")));
    }
    found
}

#[test]
fn sound_documents_are_read() {
    let [(index, entries), (manifest, image), (_, config)] = sound(3);
    assert!(matches!(parse(index, entries.to_string().as_bytes()), Ok(Document::Index(_))));
    assert!(matches!(parse(manifest, image.to_string().as_bytes()), Ok(Document::Manifest(_))));
    assert_eq!(parse_config(config.to_string().as_bytes()).unwrap().history.len(), 2);
}

/// Go reads null as nothing, and so do builders that write it.
#[test]
fn a_member_that_is_null_is_one_that_is_not_there() {
    let [.., (_, config)] = sound(3);
    let members = pointers(&config).into_iter().filter(|pointer| (1..=2).contains(&pointer.matches('/').count()));
    for pointer in members.filter(|pointer| !pointer.ends_with(char::is_numeric)) {
        let mut document = config.clone();
        *document.pointer_mut(&pointer).unwrap() = Value::Null;
        let read = parse_config(document.to_string().as_bytes());
        assert!(read.is_ok(), "{pointer} {read:?}");
    }
}

/// Of the shapes that cost most; nothing larger than eight times this is looked at.
#[test]
fn large_documents_take_seconds_at_most() {
    let large = MAX_DOCUMENT as usize / 8;
    let blob = format!(r#"{{"mediaType":"","digest":"sha256:{}","size":1}}"#, "0".repeat(64));
    let fill = |head: &str, part: &str, tail: &str| {
        let count = (large - head.len() - tail.len()) / (part.len() + 1);
        format!("{head}{}{tail}", vec![part; count].join(","))
    };
    let wide = [
        fill(r#"{"manifests":["#, &blob, "]}"),
        fill(r#"{"config":{},"layers":["#, &blob, "]}"),
        fill(r#"{"rootfs":{"diff_ids":["#, &format!("\"sha256:{}\"", "0".repeat(64)), "]}}"),
        fill(r#"{"history":["#, "{}", "]}"),
        fill(r#"{"annotations":{"#, r#""a":"b""#, "}}"),
        fill(r#"{"a":["#, "[]", "]}"),
        fill("{", r#""\u0061":1"#, "}"),
        format!(r#"{{"a":{}"#, "[".repeat(large / 2)),
    ];
    let began = Instant::now();
    for document in &wide {
        for kind in [OCI_INDEX, OCI_MANIFEST] {
            assert!(parse(kind, document.as_bytes()).is_err());
        }
        let _ = parse_config(document.as_bytes());
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
