"""The cases of images: load and save, and pull and push with Debian's docker-registry on the engine's own loopback."""

import hashlib
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import tarfile

import harness
from files import MIB, folder, timed

IMAGE_NAME = "bench-image:latest"
_ports, _numbers = itertools.count(5000), itertools.count()


def load(kind):
    def case(engine):
        data = archive(kind).read_bytes()
        with timed() as clock:
            engine.raw("POST", "/images/load?quiet=1", data)
        engine.raw("DELETE", f"/images/{IMAGE_NAME}?force=1")
        return clock.seconds

    return case


def pull(kind):
    def case(engine):
        where = source(engine, kind)
        with timed() as clock:
            told = engine.raw("POST", f"/images/create?fromImage={where}/{kind}&tag=1")
        if b"Downloaded newer image" not in told:
            raise RuntimeError(told[-300:].decode())
        engine.raw("DELETE", f"/images/{where}/{kind}:1?force=1")
        return clock.seconds

    return case


def save(engine):
    engine.raw("POST", "/images/load?quiet=1", archive("image").read_bytes())
    with timed() as clock:
        data = engine.raw("GET", f"/images/{IMAGE_NAME}/get")
    engine.raw("DELETE", f"/images/{IMAGE_NAME}?force=1")
    if len(data) < 100 * MIB:
        raise RuntimeError(f"{len(data)} bytes are not the image")
    return clock.seconds


def push(engine):
    """To a registry that has nothing, under a name that the engine has not pushed yet."""
    sink = registry(engine, "sink")
    shutil.rmtree(folder() / f"sink-{engine.name}", ignore_errors=True)
    name = f"{sink}/push-{next(_numbers)}"
    engine.raw("POST", "/images/load?quiet=1", archive("image").read_bytes())
    engine.raw("POST", f"/images/{IMAGE_NAME}/tag?repo={name}&tag=1")
    with timed() as clock:
        told = engine.raw("POST", f"/images/{name}/push?tag=1", auth=True)
    engine.raw("DELETE", f"/images/{name}:1")
    engine.raw("DELETE", f"/images/{IMAGE_NAME}?force=1")
    if b'"aux"' not in told:
        raise RuntimeError(told[-300:].decode())
    return clock.seconds


CASES = {
    "load image": load("image"),
    "load debian": load("debian"),
    "pull image": pull("image"),
    "pull debian": pull("debian"),
    "save image": save,
    "push image": push,
}


# -- registries ----------------------------------------------------------------------------------------------------


def source(engine, kind):
    """A registry that has the image, its layers in gzip; all engines' share one folder."""
    where = registry(engine, "source")
    if not (folder() / "source" / "docker/registry/v2/repositories" / kind).exists():
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
        engine.namespace.exec(*copy, f"docker-archive:{archive(kind)}", f"docker://{where}/{kind}:1", timeout=600)
    return where


def registry(engine, purpose):
    """A docker-registry in the engine's network namespace; it goes with the engine."""
    if engine.namespace is None:
        raise RuntimeError("only with an engine that the bench has started")
    if purpose not in engine.registries:
        where = f"127.0.0.1:{next(_ports)}"
        data = folder() / ("source" if purpose == "source" else f"{purpose}-{engine.name}")
        config = folder() / f"{purpose}-{engine.name}.yml"
        storage = {"filesystem": {"rootdirectory": str(data)}}
        config.write_text(json.dumps({"version": 0.1, "log": {"level": "error"}, "storage": storage, "http": {"addr": where}}))
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = engine.namespace.popen("docker-registry", "serve", config, **silent)
        engine.registries[purpose] = (where, process)
        answers = lambda: engine.namespace.exec("curl", "-sf", f"http://{where}/v2/", check=False).returncode == 0  # noqa: E731
        harness.wait_until(answers, 30, "an answer of docker-registry")
    return engine.registries[purpose][0]


# -- archives ------------------------------------------------------------------------------------------------------


def archive(kind):
    """A docker-archive, made once. `image`: 105 MiB in three layers and some 5,000 files, half of it text-like, no network
    needed; `debian`: debootstrap's, in one layer."""
    path = folder() / f"{kind}.tar"
    if not path.exists():
        layers = [_layer(number, files) for number, files in enumerate((4000, 900, 100))]
        _write(path, layers if kind == "image" else [harness.debian_archive().read_bytes()])
    return path


def _write(path, layers):
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = json.dumps({
        "architecture": machine, "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }).encode()  # fmt: skip
    name = hashlib.sha256(config).hexdigest() + ".json"
    folders = [f"{digest}/layer.tar" for digest in digests]
    manifest = [{"Config": name, "RepoTags": [IMAGE_NAME], "Layers": folders}]
    members = [*zip(folders, layers), (name, config), ("manifest.json", json.dumps(manifest).encode())]
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _layer(number, files):
    """35 MiB in so many files; the same bytes each time."""
    source = random.Random(number)
    words = [source.randbytes(8).hex().encode() for _ in range(500)]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for index in range(files):
            if index % 50 == 0:
                made = tarfile.TarInfo(f"usr/share/l{number}/d{index // 50}")
                made.type, made.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(made)
            size = 35 * MIB // files
            text = b" ".join(source.choices(words, k=size // 34 + 1))
            data = (text + source.randbytes(size))[: size // 2] + source.randbytes(size - size // 2)
            info = tarfile.TarInfo(f"usr/share/l{number}/d{index // 50}/f{index}")
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return archive.getvalue()
