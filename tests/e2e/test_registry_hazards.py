"""Registries that lie: documents that say two things or lead nowhere, credentials that are asked for elsewhere, labels and
annotations that mean something to containerd or the runtime. The numbers are those of the list of known holes."""

import base64
import concurrent.futures
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import random
import tarfile
import threading

import pytest
from harness import busybox_archive, wait_until
from leftovers import ctr
from test_auth import inside

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Liar(http.server.ThreadingHTTPServer):
    """A registry that says what a test has put into `manifests` (by tag or digest) and `blobs`; `seen` is all it was asked."""

    daemon_threads = True

    def __init__(self, address):
        super().__init__(address, Words)
        self.where = f"{address[0]}:{self.server_port}"
        self.manifests, self.blobs, self.elsewhere, self.seen = {}, {}, {}, []
        self.challenge = None
        # What a HEAD answers instead: name -> name.
        self.heads = {}

    def handle_error(self, request, client_address):
        """A client that was cut off or went away."""

    def blob(self, kind, data):
        self.blobs[digest(data)] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    def document(self, kind, value, *tags):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        for name in (digest(data), *tags):
            self.manifests[name] = (kind, data)
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    def image(self, *tags, config=None, layers=None, raw=None, **more):
        """A whole image of one small layer, as far as nothing else is asked for."""
        plain = tar_of({"hello": b"hello\n"})
        config = {"architecture": ARCH, "os": "linux", "config": {"Cmd": ["x"]}, "rootfs": {"type": "layers", "diff_ids": [digest(plain)]}, **(config or {})}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(CONFIG, raw if raw is not None else json.dumps(config).encode()),
            "layers": layers if layers is not None else [self.blob(LAYER, plain)],
            **more,
        }
        return self.document(MANIFEST, manifest, *tags)


class Words(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, sent = self.server, self.headers.get("Authorization")
        server.seen.append((self.command, self.path, sent))
        name = self.path.rsplit("/", 1)[-1]
        if server.challenge and not sent:
            return self.reply(401, b"{}", "application/json", {"WWW-Authenticate": server.challenge})
        if self.command == "HEAD" and "/manifests/" in self.path:
            name = server.heads.get(name, name)
        if name in server.elsewhere:
            return self.reply(307, b"", "text/plain", {"Location": server.elsewhere[name]})
        if "/manifests/" in self.path and name in server.manifests:
            kind, data = server.manifests[name]
            return self.reply(200, data, kind, {"Docker-Content-Digest": digest(data)})
        if name in server.blobs:
            return self.reply(200, server.blobs[name], "application/octet-stream")
        self.reply(200 if self.path == "/v2/" else 404, b"{}", "application/json")

    do_HEAD = do_GET

    def reply(self, status, data, kind, headers=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def with_busybox():
    return tar_of({"bin/sh": busybox(), "hello": os.urandom(16)})


def busybox():
    with tarfile.open(busybox_archive()) as whole:
        layer = next(name for name in whole.getnames() if name.endswith("layer.tar"))
        with tarfile.open(fileobj=whole.extractfile(layer)) as tar:
            return tar.extractfile("bin/busybox").read()


@pytest.fixture
def liars(engine):
    running = []

    def start():
        server = inside(engine.namespace, lambda: Liar(("127.0.0.1", 0)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def liar(liars):
    return liars()


def refused(engine, name, *texts):
    """The pull ends soon, with an error, and there is no such image; gantryd lives on."""
    process = engine.process.pid
    done = engine.docker("pull", name, check=False, timeout=60)
    assert done.returncode == 1, done.stdout
    assert not texts or any(text in done.stderr for text in texts), done.stderr
    assert name not in engine.out("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    assert engine.process.poll() is None and engine.process.pid == process
    return done.stderr


def test_t11_t12_labels_and_annotations_of_an_image_reach_neither_containerd_nor_the_runtime(engine, liar):
    layer = with_busybox()
    labels = {
        "containerd.io/restart.loguri": "binary:///bin/touch?/tmp/gantry-t11",
        "containerd.io/restart.status": "running",
        "containerd.io/gc.root": "1",
        "io.cri-containerd.kind": "container",
        "gantry.id": "0",
        "nerdctl/name": "x",
    }
    annotations = {"run.oci.keep_original_groups": "1", "org.systemd.property.ExecStartPre": "x", "io.podman.annotations.privileged": "TRUE"}
    config = {"config": {"Cmd": ["sh", "-c", "sleep 600"], "Labels": labels}, "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}
    descriptor = liar.image("t", config=config, layers=[{**liar.blob(LAYER, layer), "annotations": annotations}], annotations=annotations)
    entry = {**descriptor, "platform": {"os": "linux", "architecture": ARCH}, "annotations": annotations}
    liar.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry], "annotations": annotations}, "1")
    name = f"{liar.where}/labels:1"
    engine.docker("pull", name)
    id = engine.out("run", "-d", "--entrypoint", "/bin/sh", name, "-c", "while :; do read x < /dev/zero; done")
    try:
        assert engine.inspect(id)["Config"]["Labels"] == labels, "Docker's labels are told as ever"
        told = json.loads("\n".join(ctr(engine, "containers", "info", id)))
        for key in (told.get("Labels") or {}):
            assert key not in labels or key.startswith("gantry"), told["Labels"]
        assert (told.get("Labels") or {}).get("gantry.id") != "0"
        spec = json.dumps(told["Spec"].get("annotations") or {})
        assert not any(key in spec for key in (*annotations, *labels)), spec
        images = "\n".join(ctr(engine, "images", "ls"))
        content = "\n".join(ctr(engine, "content", "ls"))
        for key in ("restart.loguri", "io.cri-containerd", "org.systemd", "nerdctl/name"):
            assert key not in images and key not in content
        assert not pathlib.Path("/tmp/gantry-t11").exists()
    finally:
        engine.docker("rm", "-f", id)
        engine.docker("rmi", name)


NOT_DOCUMENTS = {
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "no json": b"{",
    "deep": b'{"config":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "wrong types": json.dumps({"schemaVersion": "2", "layers": {}, "config": 7}).encode(),
    "nothing in it": json.dumps({"schemaVersion": 2, "mediaType": MANIFEST}).encode(),
    "null parts": json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": None, "layers": None}).encode(),
    "null layer": json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": "sha256:" + "0" * 64, "size": 2}, "layers": [None]}).encode(),
    "negative size": json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": "sha256:" + "0" * 64, "size": -1}, "layers": []}).encode(),
    "schema 1": json.dumps({"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []}).encode(),
}


def test_t14_documents_that_are_none_are_refused(engine, liar):
    for number, data in enumerate(NOT_DOCUMENTS.values()):
        for kind in (MANIFEST, INDEX):
            tag = f"t{number}{'m' if kind == MANIFEST else 'i'}"
            liar.document(kind, data, tag)
            refused(engine, f"{liar.where}/none:{tag}")


def test_t14_configs_that_are_none_are_refused_and_a_null_history_is_not(engine, liar):
    plain = digest(tar_of({"hello": b"hello\n"}))
    bad = [b"", b"null", b"[]", b'{"rootfs":null}', b"[" * 100_000, json.dumps({"os": 7, "rootfs": {"type": "layers", "diff_ids": [plain]}}).encode()]
    bad.append(json.dumps({"os": "linux", "architecture": ARCH, "rootfs": {"type": "layers", "diff_ids": [plain] * 2}}).encode())
    bad.append(json.dumps({"os": "linux", "architecture": ARCH, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}}).encode())
    for number, raw in enumerate(bad):
        liar.image(f"c{number}", raw=raw)
        refused(engine, f"{liar.where}/config:c{number}")
    liar.image("null-history", config={"history": None, "created": None, "config": None})
    name = f"{liar.where}/config:null-history"
    engine.docker("pull", name)
    assert engine.docker("history", name).returncode == 0 and engine.inspect(name)["Os"] == "linux"
    engine.docker("rmi", name)


WRONG = (
    None, True, 0, -1, 2**63 - 1, -(2**63), 1e308, "", "x" * 5000, "\0", "../../x", "9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00Z",
    [], [None], [[]], ["", "\0"], {}, {"": None}, {"x": {"y": []}},
)  # fmt: skip


def places(value, path=()):
    """Each place in a document, by the keys that lead there."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def with_wrong(document, path, wrong):
    if not path:
        return wrong
    copy = json.loads(json.dumps(document))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = wrong
    return copy


def test_t14_of_a_config_with_any_part_wrong_all_can_be_asked(engine, liar):
    """What is taken is told, its history too, and a container is made of it or refused; nothing panics."""
    plain = digest(tar_of({"hello": b"hello\n"}))
    sound = {
        "architecture": ARCH, "os": "linux", "variant": "v8", "created": "2026-01-01T00:00:00Z", "author": "x", "comment": "x", "docker_version": "1",
        "config": {
            "User": "0:0", "Env": ["A=b"], "Cmd": ["x"], "Entrypoint": ["y"], "Labels": {"a": "b"}, "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}},
            "WorkingDir": "/w", "StopSignal": "SIGTERM", "Shell": ["sh"], "OnBuild": ["RUN x"], "ArgsEscaped": True,
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 10**9, "Retries": 3},
        },
        "rootfs": {"type": "layers", "diff_ids": [plain]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "x", "comment": "y", "empty_layer": True}, {"created_by": "z"}],
    }  # fmt: skip
    cases = [(path, wrong) for path in places(sound) for wrong in WRONG]
    taken = 0
    for number, (path, wrong) in enumerate(random.Random(14).sample(cases, 160)):
        liar.image(f"c{number}", config=with_wrong(sound, path, wrong) if path else None, raw=None if path else json.dumps(wrong).encode())
        name = f"{liar.where}/wrong:c{number}"
        status, body = engine.api("POST", f"/images/create?fromImage={liar.where}/wrong&tag=c{number}", raw=True)
        if status != 200 or b"errorDetail" in body:
            continue
        taken += 1
        for what in ("json", "history", "json?manifests=1"):
            status, answer = engine.api("GET", f"/images/{name}/{what}")
            assert status == 200, (path, wrong, what, answer)
        status, made = engine.api("POST", "/containers/create", {"Image": name})
        assert status < 500 or "message" in made, (path, wrong, made)
        if status == 201:
            assert engine.api("GET", f"/containers/{made['Id']}/json")[0] == 200, (path, wrong)
            engine.api("DELETE", f"/containers/{made['Id']}?v=1")
        assert engine.api("DELETE", f"/images/{name}")[0] == 200, (path, wrong)
    assert 20 < taken < 160 and engine.api("GET", "/images/json")[0] == 200
    assert "panicked" not in engine.log.read_text(errors="replace")


def test_t15_a_document_that_is_two_things_is_refused(engine, liar):
    descriptor = liar.image("whole")
    whole = json.loads(liar.manifests["whole"][1])
    entry = {**descriptor, "platform": {"os": "linux", "architecture": ARCH}}
    liar.document(MANIFEST, {**whole, "manifests": [entry]}, "both-m")
    liar.document(INDEX, {**whole, "mediaType": INDEX, "manifests": [entry]}, "both-i")
    liar.document(INDEX, whole, "other-type")
    liar.document(MANIFEST, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, "type-other")
    liar.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**entry, "mediaType": INDEX}]}, "lying-entry")
    for tag in ("both-m", "both-i", "other-type", "type-other", "lying-entry"):
        refused(engine, f"{liar.where}/two:{tag}")


def test_t16_indexes_without_end_are_given_up_soon(engine, liar):
    below = {**liar.image("bottom")}
    for _ in range(1000):
        below = liar.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [below]})
    liar.manifests["deep"] = liar.manifests[below["digest"]]
    liar.seen.clear()
    refused(engine, f"{liar.where}/graph:deep")
    assert len(liar.seen) < 50

    leaves = [liar.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"n": str(n)}}) for n in range(2000)]
    liar.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": leaves}, "wide")
    liar.seen.clear()
    refused(engine, f"{liar.where}/graph:wide")
    assert len(liar.seen) < 100

    same = liar.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [leaves[0]] * 5000})
    liar.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [same] * 5000}, "again")
    refused(engine, f"{liar.where}/graph:again")

    # More than 8 MiB are no document.
    liar.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"a": "x" * (9 << 20)}}, "huge")
    refused(engine, f"{liar.where}/graph:huge")
    big = json.dumps({"architecture": ARCH, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "x": "y" * (9 << 20)}).encode()
    liar.image("config", raw=big, layers=[])
    refused(engine, f"{liar.where}/graph:config")


def test_t19_digests_are_digests_and_urls_of_layers_are_not_followed(engine, liar, liars):
    other = liars()
    for number, wrong in enumerate(("sha256:../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256:", "../x", "")):
        liar.image(f"d{number}", layers=[{"mediaType": LAYER, "digest": wrong, "size": 5}])
        refused(engine, f"{liar.where}/digest:d{number}")
    assert not any(".." in path for _, path, _ in liar.seen)
    plain = tar_of({"foreign": os.urandom(32)})
    foreign = {**other.blob(LAYER, plain), "urls": [f"http://{other.where}/v2/x/blobs/{digest(plain)}"]}
    for number, kind in enumerate((LAYER, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/vnd.oci.image.layer.nondistributable.v1.tar")):
        config = {"rootfs": {"type": "layers", "diff_ids": [digest(plain)]}}
        liar.image(f"f{number}", config=config, layers=[{**foreign, "mediaType": kind}])
        refused(engine, f"{liar.where}/foreign:f{number}")
    assert other.seen == [], "nobody but the registry was asked"


def test_t19_a_digest_is_never_given_to_another_image_that_is_here(engine, liar):
    here = liar.image("here", config={"author": "the image that is here"})
    there = liar.image("there", config={"author": "the image that was asked for"})
    engine.docker("pull", f"{liar.where}/own:here")
    name = f"{liar.where}/own@{there['digest']}"
    liar.heads[there["digest"]] = here["digest"]
    refusal = liar.manifests.pop(there["digest"])
    assert engine.docker("pull", name, check=False).returncode == 1
    assert engine.docker("inspect", name, check=False).returncode == 1
    liar.manifests[there["digest"]] = refusal
    engine.docker("pull", name)
    assert engine.inspect(name)["Id"] == there["digest"]
    engine.docker("rmi", name, f"{liar.where}/own:here")


def auth(server):
    fields = {"username": "ann", "password": "canary-s3cret", "serveraddress": server.where}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()}


def test_t19_credentials_go_to_the_registry_and_not_where_it_points(engine, liar, liars):
    thief = liars()
    liar.challenge = 'Basic realm="x"'
    layer = tar_of({"hello": b"hello\n", "own": os.urandom(32)})
    config = {"rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}
    liar.image("1", config=config, layers=[liar.blob(LAYER, layer)])
    thief.blobs[digest(layer)] = layer
    liar.elsewhere[digest(layer)] = f"http://{thief.where}/v2/x/blobs/{digest(layer)}"
    status, body = engine.api("POST", f"/images/create?fromImage={liar.where}/away&tag=1", headers=auth(liar), raw=True)
    assert status == 200 and b"Downloaded newer image" in body, body
    assert [sent for _, _, sent in thief.seen] == [None], "the blob may lie elsewhere, the password not"
    assert any(sent for _, _, sent in liar.seen)
    engine.docker("rmi", f"{liar.where}/away:1")


def test_a_layer_that_grows_beyond_all_measure_or_is_cut_leaves_no_image(engine, liar):
    plain = tar_of({"hello": b"hello\n"})
    packed = gzip.compress(plain)
    kind = LAYER + "+gzip"
    config = {"rootfs": {"type": "layers", "diff_ids": [digest(plain)]}}
    for tag, data in {"cut": packed[: len(packed) // 2], "rubbish": os.urandom(5000), "other": gzip.compress(tar_of({"x": b"y"}))}.items():
        liar.image(tag, config=config, layers=[liar.blob(kind, data)])
        refused(engine, f"{liar.where}/layer:{tag}")
    # What the descriptor says is what may come, not a byte more or less.
    for tag, off in (("short", 1), ("long", -1)):
        honest = liar.blob(kind, gzip.compress(plain + b"\0" * 512, mtime=len(tag)))
        liar.image(tag, config=config, layers=[{**honest, "size": honest["size"] + off}])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda tag: refused(engine, f"{liar.where}/layer:{tag}"), ("short", "long")))


def test_a_pull_and_a_delete_at_once_end_in_a_true_state(engine, liar):
    """Whatever the order: the image is whole and can be run, or it is not there."""
    layer = with_busybox()
    liar.image("1", config={"rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}, layers=[liar.blob(LAYER, layer)])
    name = f"{liar.where}/race:1"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(6):
            jobs = [pool.submit(engine.docker, *argv, check=False) for argv in (("pull", name), ("rmi", "-f", name)) * 2]
            for job in jobs:
                done = job.result()
                assert done.returncode == 0 or "No such image" in done.stderr or "not found" in done.stderr.lower(), done.stderr
            here = name in engine.out("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
            done = engine.docker("run", "--rm", "--pull", "never", "--entrypoint", "/bin/sh", name, "-c", "echo ran", check=False)
            assert (done.stdout == "ran\n") if here else ("No such image" in done.stderr), (here, done.stderr)
    engine.docker("rmi", "-f", name, check=False)
    wait_until(lambda: not [one for one in ctr(engine, "leases", "ls", "-q") if "pull" in one], 30, "the leases' end")
