"""What other clients see of our pushes: `docker manifest`, Buildx; and layers of a whole Debian, packed in each way, that we pull."""

import json
import shutil
import subprocess

import pytest
from oci_layouts import FOREIGN, HOST, platform_of, two_platforms
from registries import Registry


@pytest.fixture
def one(fresh):
    return fresh()


@pytest.fixture
def registry(one, tmp_path):
    registry = Registry(one.namespace, tmp_path / "registry")
    yield registry
    registry.close()


def pushed(engine, registry):
    """An index of two platforms and a lone manifest, by our push; the index's digest and its manifests."""
    layout, index, manifests = two_platforms(f"{registry.where}/multi:1")
    engine.docker("load", input=layout.tar().decode("latin-1"), encoding="latin-1", text=None)
    engine.docker("push", f"{registry.where}/multi:1")
    engine.docker("tag", "busybox", f"{registry.where}/lone:1")
    engine.docker("push", f"{registry.where}/lone:1")
    return index, manifests


def test_docker_manifest_inspects_what_was_pushed(one, registry):
    _, manifests = pushed(one, registry)

    def inspected(*argv):
        return json.loads(one.namespace.exec("docker", "manifest", "inspect", "--insecure", *argv, env=one.docker_env()).stdout)

    told = inspected(f"{registry.where}/multi:1")
    assert {entry["digest"]: entry["platform"] for entry in told["manifests"]} == {
        manifests[platform]["digest"]: platform_of(platform) for platform in (HOST, FOREIGN)
    }
    told = inspected("-v", f"{registry.where}/lone:1")
    assert told["Descriptor"]["digest"] == one.inspect(f"{registry.where}/lone:1")["Id"]


def buildx_program():
    for argv in (["docker-buildx"], ["docker", "buildx"]):
        if shutil.which(argv[0]) and subprocess.run([*argv, "version"], capture_output=True).returncode == 0:
            return argv
    return None


BUILDX = buildx_program()


@pytest.mark.skipif(BUILDX is None, reason="there is no Docker Buildx, and scripts/docker_buildx.sh could not fetch it")
def test_buildx_inspects_and_copies_what_was_pushed(one, registry):
    index, manifests = pushed(one, registry)

    def imagetools(*argv):
        return one.namespace.exec(*BUILDX, "imagetools", *argv, env=one.docker_env()).stdout

    told = imagetools("inspect", f"{registry.where}/multi:1")
    assert f"Digest:    {index}" in told, told
    for platform in (HOST, FOREIGN):
        assert f"@{manifests[platform]['digest']}" in told and platform in told, told
    raw = json.loads(imagetools("inspect", "--raw", f"{registry.where}/multi:1"))
    assert [entry["digest"] for entry in raw["manifests"]] == [manifests[platform]["digest"] for platform in (HOST, FOREIGN)]
    assert one.inspect(f"{registry.where}/lone:1")["Id"] in imagetools("inspect", f"{registry.where}/lone:1")
    # What it makes of ours we pull again.
    imagetools("create", "-t", f"{registry.where}/copied:1", f"{registry.where}/multi:1", f"{registry.where}/lone:1")
    one.docker("pull", f"{registry.where}/copied:1")
    assert one.inspect(f"{registry.where}/copied:1")["Architecture"] == platform_of(HOST)["architecture"]


def test_a_debian_is_pulled_in_gzip_and_in_zstd_and_runs(one, registry, tmp_path):
    source = one.import_debian(f"{registry.where}/debian:plain")
    one.docker("push", source)
    layers = one.inspect(source)["RootFS"]["Layers"]
    one.docker("rmi", source)
    one.docker("image", "prune", "-f")
    # skopeo packs only what is not there yet.
    packed = [Registry(one.namespace, tmp_path / packing) for packing in ("gzip", "zstd")]
    try:
        for packing, where in zip(("gzip", "zstd"), packed, strict=True):
            pull_and_run(one, registry, source, f"{where.where}/debian:1", packing, layers)
    finally:
        for where in packed:
            where.close()


def pull_and_run(one, registry, source, name, packing, layers):
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false", "--format", "oci", "--dest-compress-format", packing]
    registry.skopeo("copy", *flags, f"docker://{source}", f"docker://{name}", timeout=300)
    raw = json.loads(registry.skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{name}").stdout)
    assert [layer["mediaType"] for layer in raw["layers"]] == [f"application/vnd.oci.image.layer.v1.tar+{packing}"]
    one.docker("pull", name, timeout=300)
    assert one.inspect(name)["RootFS"]["Layers"] == layers, "the same bytes, however they were packed"
    assert one.out("run", "--rm", name, "cat", "/etc/debian_version").startswith("12")
    checked = one.out("run", "--rm", name, "sh", "-c", "dpkg --verify && dpkg -l bash | tail -1; stat -c '%a %u' /tmp /usr/bin/passwd")
    assert checked.split()[0] == "ii" and checked.splitlines()[-2:] == ["1777 0", "4755 0"], checked
    one.docker("rmi", name)
    one.docker("image", "prune", "-f")
