"""OCI layouts made in memory: images of several platforms, with layers that they share and attestations."""

import gzip
import hashlib
import io
import json
import os
import tarfile

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
HOST = f"linux/{ARCH}"
FOREIGN = "linux/s390x"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def platform_of(text):
    parts = text.split("/")
    return {"os": parts[0], "architecture": parts[1], **({"variant": parts[2]} if len(parts) > 2 else {})}


class Layout:
    """What is added becomes blobs; `tar()` is the whole as an archive that `docker load` takes."""

    def __init__(self):
        self.blobs, self.entries = {}, []

    def blob(self, kind, data):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.blobs[digest(data)] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    def image(self, platform, *layers, packed=False, **config):
        """A manifest of one platform; layers are tars."""
        plain = [layer if isinstance(layer, bytes) else tar_of(layer) for layer in layers]
        kind = LAYER + ("+gzip" if packed else "")
        described = platform_of(platform)
        config = {**described, "config": {"Cmd": ["x"]}, **config, "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in plain]}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(CONFIG, config),
            "layers": [self.blob(kind, gzip.compress(one, 1, mtime=0) if packed else one) for one in plain],
        }
        return {**self.blob(MANIFEST, manifest), "platform": described}

    def attestation(self, subject, *predicates):
        layers = []
        for predicate in predicates or ("https://slsa.dev/provenance/v1",):
            statement = {"_type": "https://in-toto.io/Statement/v0.1", "predicateType": predicate, "subject": [], "predicate": {}}
            layer = self.blob("application/vnd.in-toto+json", statement)
            layers.append({**layer, "annotations": {"in-toto.io/predicate-type": predicate}})
        ids = [layer["digest"] for layer in layers]
        config = {"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids}}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self.blob(CONFIG, config), "layers": layers}
        annotations = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject["digest"]}
        platform = {"os": "unknown", "architecture": "unknown"}
        return {**self.blob(MANIFEST, manifest), "platform": platform, "annotations": annotations}

    def index(self, name, *manifests):
        """An index of these under a full name; its digest."""
        document = self.blob(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)})
        self.entries.append({**document, "annotations": {"io.containerd.image.name": name}})
        return document["digest"]

    def tar(self, without=()):
        """As an archive, perhaps without some of its blobs."""
        files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        files.update({f"blobs/sha256/{name[7:]}": data for name, data in self.blobs.items() if name not in without})
        files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": self.entries}).encode()
        return tar_of(files)


def two_platforms(name="docker.io/library/multi:1", **config):
    """An image for this machine and for another, with one layer in common: (layout, index digest, manifests by platform)."""
    layout = Layout()
    common = tar_of({"common": os.urandom(2000)})
    manifests = {one: layout.image(one, common, {"own": one.encode() + os.urandom(8)}, **config) for one in (HOST, FOREIGN)}
    return layout, layout.index(name, *manifests.values()), manifests
