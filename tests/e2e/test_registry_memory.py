"""What a large pull costs gantryd in memory: two gigabytes in four layers, three of them at a time."""

import hashlib
import http.server
import json
import os
import pathlib
import tarfile
import threading
import time

import pytest
from oci_layouts import ARCH, CONFIG, LAYER, MANIFEST
from test_auth import inside

MIB = 1 << 20
BLOCK = os.urandom(MIB)


class Layer:
    """A tar of one file of so many MiB, made while it is read."""

    def __init__(self, name, size):
        info = tarfile.TarInfo(name)
        info.size = size * MIB
        self.head, self.size = info.tobuf(), size
        self.length = 512 + size * MIB + 1024
        hashed = hashlib.sha256()
        for piece in self.pieces():
            hashed.update(piece)
        self.digest = f"sha256:{hashed.hexdigest()}"

    def pieces(self):
        yield self.head
        for _ in range(self.size):
            yield BLOCK
        yield bytes(1024)


class Source(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        kind, data = self.server.documents.get(name, ("application/octet-stream", b"{}"))
        layer = self.server.layers.get(name)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(layer.length if layer else len(data)))
        self.end_headers()
        if self.command == "GET":
            for piece in layer.pieces() if layer else [data]:
                self.wfile.write(piece)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def source(engine, sizes):
    """A registry with an image of layers of these sizes in MiB; its address."""
    server = inside(engine.namespace, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Source))
    server.daemon_threads, server.documents = True, {}
    layers = [Layer(f"f{number}", size) for number, size in enumerate(sizes)]
    server.layers = {layer.digest: layer for layer in layers}

    def document(kind, value, *names):
        data = json.dumps(value).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        server.documents.update({name: (kind, data) for name in (digest, *names)})
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    diff_ids = [layer.digest for layer in layers]
    config = document(CONFIG, {"architecture": ARCH, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    described = [{"mediaType": LAYER, "digest": layer.digest, "size": layer.length} for layer in layers]
    document(MANIFEST, {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described}, "1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"


def memory(engine, field):
    text = pathlib.Path(f"/proc/{engine.process.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(field)).split()[1]) / 1024


@pytest.mark.parametrize("sizes", [pytest.param([512] * 4, marks=pytest.mark.soak), [64] * 4])
def test_a_pull_costs_less_than_a_hundred_mebibytes(fresh, sizes):
    engine = fresh(busybox=False)
    where = source(engine, sizes)
    engine.out("images")
    idle = memory(engine, "VmRSS")
    began = time.monotonic()
    engine.docker("pull", "-q", f"{where}/large:1", timeout=900)
    most = memory(engine, "VmHWM")
    print(f"{sum(sizes)} MiB in {time.monotonic() - began:.1f} s: {idle:.1f} MiB idle, {most:.1f} MiB at most")
    assert most < idle + 100
