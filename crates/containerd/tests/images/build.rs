//! Archives made by hand: layers, docker-archives, OCI layouts.

use bytes::Bytes;
use gantry_domain::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub fn digest(data: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(data))
}

/// A tar under construction; entries may be as odd as a header allows.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn raw(mut self, kind: u8, path: &str, link: &str, set: impl Fn(&mut tar::Header), data: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        set(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.raw(b'0', path, "", |_| {}, data)
    }
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.raw(b'5', path, "", |header| header.set_mode(mode), b"")
    }
    pub fn symlink(self, path: &str, to: &str) -> Self {
        self.raw(b'2', path, to, |_| {}, b"")
    }
    pub fn hard_link(self, path: &str, to: &str) -> Self {
        self.raw(b'1', path, to, |_| {}, b"")
    }
    /// PAX records for the entry that follows.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let length = (1..).map(|digits| body + digits).find(|n| n.to_string().len() == n - body).unwrap();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(b'x', "pax", "", |_| {}, &data)
    }
    pub fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub fn config(layers: &[Vec<u8>]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
    json!({
        "architecture": gantry_domain::platform::Platform::host().architecture, "os": "linux",
        "config": { "Cmd": ["sh"], "Labels": { "containerd.io/gc.root": "evil" } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids }
    })
}

/// What `docker save` wrote before OCI layouts.
pub fn docker_archive(tags: &[&str], layers: &[Vec<u8>]) -> Vec<u8> {
    let config = config(layers).to_string();
    let paths: Vec<String> = (0..layers.len()).map(|at| format!("layer{at}/layer.tar")).collect();
    let manifest = json!([{ "Config": "config.json", "RepoTags": tags, "Layers": paths }]).to_string();
    let mut tar = Tar::default().file("config.json", config.as_bytes());
    for (path, layer) in paths.iter().zip(layers) {
        tar = tar.file(path, layer);
    }
    tar.file("manifest.json", manifest.as_bytes()).done()
}

pub struct Oci {
    pub archive: Vec<u8>,
    pub manifest: Digest,
}

/// An OCI layout in the order of today's `docker save`: blobs first, by digest, documents last.
pub fn oci_archive(name: Option<&str>, layers: &[Vec<u8>], packed: impl Fn(&[u8]) -> Vec<u8>) -> Oci {
    let config = config(layers).to_string().into_bytes();
    let blobs: Vec<Vec<u8>> = layers.iter().map(|layer| packed(layer)).collect();
    let descriptor = |kind: &str, data: &[u8]| json!({ "mediaType": kind, "digest": digest(data), "size": data.len() });
    let media = |blob: &[u8]| match blob.first() {
        Some(0x1f) => "application/vnd.oci.image.layer.v1.tar+gzip",
        Some(0x28) => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.oci.image.layer.v1.tar",
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": blobs.iter().map(|blob| descriptor(media(blob), blob)).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    if let Some(name) = name {
        entry["annotations"] = json!({ "io.containerd.image.name": name });
    }
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
    let mut all: Vec<&Vec<u8>> = blobs.iter().chain([&config, &manifest]).collect();
    all.sort_by_key(|blob| digest(blob));
    all.dedup();
    let mut tar = Tar::default().folder("blobs/sha256/", 0o755);
    for blob in all {
        tar = tar.file(&format!("blobs/sha256/{}", digest(blob).hex()), blob);
    }
    let archive = tar.file("index.json", index.as_bytes()).file("oci-layout", b"{}").done();
    Oci { archive, manifest: digest(&manifest) }
}

pub fn body(data: Vec<u8>) -> gantry_domain::ports::ByteStream {
    let data = Bytes::from(data);
    let chunks: Vec<_> =
        (0..data.len()).step_by(40_000).map(|at| Ok(data.slice(at..data.len().min(at + 40_000)))).collect();
    Box::pin(futures::stream::iter(chunks))
}
