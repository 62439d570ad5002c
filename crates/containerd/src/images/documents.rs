//! Indexes and manifests as they come from outside: read within limits, ambiguous ones refused (T14 to T16).

use gantry_domain::{
    Digest, Error, Result,
    image::{Descriptor, ImageConfig},
};
use serde::Deserialize;

use super::limits::{MAX_DOCUMENT, MAX_INDEX_DOCUMENTS, MAX_LAYERS};

pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// BuildKit's provenance and signatures ride in an index beside the images, under this annotation.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    Index(Vec<Descriptor>),
    Manifest(Box<Manifest>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default)]
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Reads a document that a descriptor of `media_type` points to. What it is must agree with what it is called, and it
/// must not be readable as both.
pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Document> {
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(Error::invalid(format!("manifest is larger than {MAX_DOCUMENT} bytes")));
    }
    check_object(bytes)?;
    let raw: Raw =
        serde_json::from_slice(bytes).map_err(|error| Error::invalid(format!("invalid manifest: {error}")))?;
    if raw.fs_layers.is_some() || raw.schema_version == Some(1) {
        return Err(Error::invalid("manifests of schema version 1 are not supported"));
    }
    if raw.media_type.as_deref().is_some_and(|inner| !inner.is_empty() && inner != media_type) {
        return Err(Error::invalid("media type of the manifest and of its descriptor differ"));
    }
    let document = match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) if is_index(media_type) => index(manifests)?,
        (None, Some(config), layers) if is_manifest(media_type) => manifest(config, layers.unwrap_or_default())?,
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            return Err(Error::invalid("ambiguous manifest: both an index and an image"));
        }
        _ => return Err(Error::invalid(format!("document is no {media_type}"))),
    };
    Ok(document)
}

fn index(manifests: Vec<Descriptor>) -> Result<Document> {
    if manifests.len() > MAX_INDEX_DOCUMENTS {
        return Err(Error::invalid(format!("index has more than {MAX_INDEX_DOCUMENTS} entries")));
    }
    manifests.iter().try_for_each(check)?;
    Ok(Document::Index(manifests))
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Document> {
    if layers.len() > MAX_LAYERS {
        return Err(Error::invalid(format!("image has more than {MAX_LAYERS} layers")));
    }
    std::iter::once(&config).chain(&layers).try_for_each(check)?;
    Ok(Document::Manifest(Box::new(Manifest { config, layers })))
}

/// serde would read an array as the fields of a struct in their order.
fn check_object(bytes: &[u8]) -> Result<()> {
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return Ok(());
    }
    Err(Error::invalid("document is no JSON object"))
}

/// The digest's form is checked by its type.
fn check(descriptor: &Descriptor) -> Result<()> {
    if descriptor.size < 0 {
        return Err(Error::invalid("descriptor has a negative size"));
    }
    Ok(())
}

pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, DOCKER_INDEX | OCI_INDEX)
}

pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, DOCKER_MANIFEST | OCI_MANIFEST)
}

/// What can be extracted.
pub fn is_layer(media_type: &str) -> bool {
    const SUFFIXES: [&str; 4] = ["", ".gzip", "+gzip", "+zstd"];
    let rest = media_type.strip_prefix(OCI_LAYER).or_else(|| media_type.strip_prefix(DOCKER_LAYER));
    rest.is_some_and(|rest| SUFFIXES.contains(&rest) || rest == ".zstd")
}

/// What rides in an index beside the images.
pub fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(REFERENCE_TYPE))
}

/// The manifest that an attestation is about.
pub fn attested(descriptor: &Descriptor) -> Option<Digest> {
    let annotations = descriptor.annotations.as_ref().filter(|_| is_attestation(descriptor))?;
    Digest::parse(annotations.get(REFERENCE_DIGEST)?).ok()
}

pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig> {
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(Error::invalid(format!("image config is larger than {MAX_DOCUMENT} bytes")));
    }
    check_object(bytes)?;
    let config: ImageConfig =
        serde_json::from_slice(bytes).map_err(|error| Error::invalid(format!("invalid image config: {error}")))?;
    if config.rootfs.diff_ids.len() > MAX_LAYERS {
        return Err(Error::invalid(format!("image has more than {MAX_LAYERS} layers")));
    }
    Ok(config)
}

pub fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: size as i64,
        urls: None,
        annotations: None,
        platform: None,
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(digest: u8) -> String {
        format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"sha256:{}","size":3}}"#, hex::encode([digest; 32]))
    }

    #[test]
    fn a_document_that_is_both_index_and_image_is_refused() {
        let both = format!(r#"{{"schemaVersion":2,"config":{},"layers":[],"manifests":[{}]}}"#, of(1), of(2));
        for media_type in [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX] {
            assert!(parse(media_type, both.as_bytes()).unwrap_err().message().contains("ambiguous"));
        }
        let layers_only = format!(r#"{{"manifests":[{}],"layers":[{}]}}"#, of(1), of(2));
        assert!(parse(OCI_INDEX, layers_only.as_bytes()).is_err());
    }

    #[test]
    fn a_document_is_what_its_descriptor_calls_it() {
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, of(1));
        assert!(matches!(parse(OCI_INDEX, index.as_bytes()), Ok(Document::Index(all)) if all.len() == 1));
        assert!(parse(DOCKER_INDEX, index.as_bytes()).is_err());
        assert!(parse(OCI_MANIFEST, index.as_bytes()).is_err());
        assert!(parse("application/json", b"{}").is_err());
    }

    #[test]
    fn hostile_documents_are_errors_and_never_panics() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let deep = "[".repeat(100_000);
        let wide = format!(r#"{{"manifests":[{}]}}"#, vec![of(1); MAX_INDEX_DOCUMENTS + 1].join(","));
        let negative = format!(r#"{{"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":-1}}]}}"#);
        let path = format!(r#"{{"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"sha256:../../x","size":1}}]}}"#);
        let huge = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_DOCUMENT as usize));
        let documents = ["", "null", "[]", "{}", "1e999", "{\"manifests\":null}", "{\"config\":{},\"layers\":null}"];
        for text in documents.iter().copied().chain([&*deep, &*wide, &*negative, &*path, &*huge]) {
            for media_type in [OCI_INDEX, OCI_MANIFEST] {
                assert!(parse(media_type, text.as_bytes()).is_err(), "{media_type} {:.60}", text);
            }
        }
        for text in ["", "null", "[]", "{\"history\":3}", "{\"rootfs\":{\"diff_ids\":[\"x\"]}}", &deep] {
            assert!(parse_config(text.as_bytes()).is_err(), "{:.60}", text);
        }
        assert!(parse_config(b"{\"history\":null,\"config\":null,\"rootfs\":{\"diff_ids\":null}}").is_ok());
    }

    #[test]
    fn old_schema_is_named_in_the_error() {
        let error = parse(DOCKER_MANIFEST, br#"{"schemaVersion":1,"fsLayers":[]}"#).unwrap_err();
        assert!(error.message().contains("schema version 1"));
    }
}
